"""A TensorFlow graph of a TFF computation as a function of this process, called in microseconds.

A graph is loaded once. TensorFlow's graph optimiser (grappler) goes over it as it does in TFF's
workers; then the part from the graph's inputs to its outputs becomes a function of TensorFlow's
eager runtime. Each call hands over tensors that are there already, and is one call into TensorFlow,
without the interpreter's lock.

Where it can be, a loop stays one operation instead of being taken apart into switches and merges,
and a call needs no scheduler: one thread goes through the operations in order. For the small
operations of local training that takes a third less time; the clients' blocks are what keeps
several cores busy. A graph with `tf.cond`, or with calls that stay calls, does need the scheduler:
such an operation would hold one of TensorFlow's threads while it waits for another one, and two
blocks could hold all of them. So does a graph that calls compiled functions outside loops, as the
server does for the noise of large models: they run side by side.
"""

import itertools
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import cancellation, context, execute
from tensorflow_federated.python.core.environments.tensorflow_backend import (
    graph_optimizations,
    graph_spec,
)
from tensorflow_federated.python.tensorflow_libs import serialization_utils

from fl_research.errors import InputError
from fl_research.runtime.onednn_kernels import MUST_COMPILE, use_onednn_kernels

# inputs, what cancels the call -> outputs; in the order of the leaves of the types.
Graph = Callable[[Sequence[Any], cancellation.CancellationManager], Sequence[Any]]

_OPTIMIZATIONS = (
    *("constant_folding", "arithmetic_optimization", "loop_optimization", "function_optimization"),
)
_TAKES_LOOPS_APART = "_lower_using_switch_merge"
_CALLS = frozenset(("PartitionedCall", "StatefulPartitionedCall"))
# These wait for work on other threads, or are parts of loops that are taken apart already.
_SCHEDULED = frozenset(
    (
        *("If", "StatelessIf", "Case", "StatelessCase", "For", "MapDefun"),
        *("RemoteCall", "SymbolicGradient"),
        *("Switch", "Merge", "RefSwitch", "RefMerge", "Enter", "RefEnter"),
    )
)
_numbers = itertools.count()


class UnsupportedComputationError(InputError):
    """The computation needs something that this process's runtime does not do."""

    def __init__(self, what: str) -> None:
        """Says it in one line.

        Args:
          what: What the computation needs, such as "sequences".
        """
        super().__init__(
            f"the computation uses {what}, which in_process_runtime cannot run; "
            "call it in local_runtime instead"
        )


def load_graph(computation: Any) -> Graph:
    """Returns a TensorFlow graph as a function.

    Args:
      computation: The `computation_pb2.Computation` of a compiled computation.

    Raises:
      UnsupportedComputationError: It is no TensorFlow graph, or takes or returns sequences.
    """
    kind = computation.WhichOneof("computation")
    if kind != "tensorflow":
        raise UnsupportedComputationError(f"code of kind {kind!r}")
    proto = computation.tensorflow
    inputs = list(_tensor_names(proto.parameter)) if proto.HasField("parameter") else []
    outputs = list(_tensor_names(proto.result))
    if not outputs:
        return lambda tensors, cancel: []
    graph_def = serialization_utils.unpack_graph_def(proto.graph_def)
    # TFF puts a place for the token of a session into every graph; only federated_select needs it.
    token = proto.session_token_tensor_name.partition(":")[0]
    if any(name.partition(":")[0] == token for node in graph_def.node for name in node.input):
        raise UnsupportedComputationError("the token of a TFF session")
    if proto.initialize_op:
        return _InitializedGraph(graph_def, proto.initialize_op, inputs, outputs)
    scheduled = _needs_scheduler(graph_def, calls_stay=False)
    optimized = _optimized(graph_def, inputs, outputs, scheduled)
    if not scheduled and _needs_scheduler(optimized, calls_stay=True):
        scheduled = True
        optimized = _optimized(graph_def, inputs, outputs, scheduled)
    if not scheduled:
        use_onednn_kernels(optimized)
    return _EagerGraph(optimized, inputs, outputs, scheduled)


class _EagerGraph:
    """A graph as a function of TensorFlow's eager runtime."""

    def __init__(
        self,
        graph_def: tf.compat.v1.GraphDef,
        inputs: Sequence[str],
        outputs: Sequence[str],
        scheduled: bool,
    ) -> None:
        """Loads the graph; its functions leave the eager runtime when this object goes."""
        functions = _rename_functions(graph_def)
        # One fetch for each tensor: a computation may return one tensor at several places.
        fetches = list(dict.fromkeys(outputs))
        self._places = [fetches.index(name) for name in outputs] if fetches != outputs else None
        whole = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph_def, name=""), [])
        tensor = whole.graph.get_tensor_by_name
        self._function = whole.prune([tensor(n) for n in inputs], [tensor(n) for n in fetches])
        self._context = context.context()
        weakref.finalize(self, _remove_functions, functions).atexit = False
        config = tf.compat.v1.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True  # it is optimised
        self._attributes = (
            *("executor_type", "" if scheduled else "SINGLE_THREADED_EXECUTOR"),
            *("config_proto", config.SerializeToString(deterministic=True)),
        )
        self._num_outputs = len(fetches)

    def __call__(
        self, tensors: Sequence[Any], cancel: cancellation.CancellationManager
    ) -> Sequence[Any]:
        """Calls the function; an error inside it is a `tf.errors.OpError`."""
        results = execute.execute_with_cancellation(
            self._function.name, self._num_outputs, tensors, self._attributes, self._context, cancel
        )
        return results if self._places is None else [results[place] for place in self._places]


class _InitializedGraph:
    """A graph with variables or tables of its own, which every call finds as new.

    Such a graph needs a TensorFlow session, and calls of it take turns. None of this project's
    computations is one.
    """

    def __init__(
        self,
        graph_def: tf.compat.v1.GraphDef,
        initialize: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        """Opens the session."""
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(graph_def, name="")
        feeds = [graph.get_tensor_by_name(name) for name in inputs]
        fetches = [graph.get_tensor_by_name(name) for name in outputs]
        session = tf.compat.v1.Session(graph=graph)
        self._dtypes = [tensor.dtype for tensor in fetches]
        self._initialize = session.make_callable(graph.get_operation_by_name(initialize))
        self._run = session.make_callable(fetches, feed_list=feeds)
        self._turn = threading.Lock()
        weakref.finalize(self, session.close).atexit = False

    def __call__(
        self, tensors: Sequence[Any], cancel: cancellation.CancellationManager
    ) -> Sequence[Any]:
        """Initialises and runs; an error inside is a `tf.errors.OpError`."""
        with self._turn:
            self._initialize()
            values = self._run(*(tensor.numpy() for tensor in tensors))
        return [tf.constant(v, d) for v, d in zip(values, self._dtypes, strict=True)]


def _tensor_names(binding: Any) -> Iterator[str]:
    """Yields the names of the tensors of a binding, in order."""
    kind = binding.WhichOneof("binding")
    if kind == "tensor":
        yield binding.tensor.tensor_name
    elif kind == "struct":
        for element in binding.struct.element:
            yield from _tensor_names(element)
    elif kind == "sequence":
        raise UnsupportedComputationError("sequences (tf.data.Dataset)")


def _nodes(graph_def: tf.compat.v1.GraphDef) -> Iterator[Any]:
    """Yields the nodes of a graph and of its functions."""
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def


def _needs_scheduler(graph_def: tf.compat.v1.GraphDef, calls_stay: bool) -> bool:
    """Returns whether a graph cannot be run by one thread alone.

    Args:
      graph_def: The graph.
      calls_stay: Whether the calls in it will not be replaced by what they call.
    """
    compiled = {f.signature.name for f in graph_def.library.function if f.attr[MUST_COMPILE].b}
    if sum(_calls_one_of(compiled, node) for node in graph_def.node) > 1:
        return True
    for node in _nodes(graph_def):
        if node.op in _SCHEDULED or "Dataset" in node.op or "Iterator" in node.op:
            return True
        if calls_stay and node.op in _CALLS and not _calls_one_of(compiled, node):
            return True
    return False


def _calls_one_of(functions: Collection[str], node: Any) -> bool:
    """Returns whether a node is a call of one of the functions."""
    return node.op in _CALLS and node.attr["f"].func.name in functions


def _optimized(
    graph_def: tf.compat.v1.GraphDef, inputs: list[str], outputs: list[str], scheduled: bool
) -> tf.compat.v1.GraphDef:
    """Returns the graph as grappler leaves it; its loops stay whole unless it is scheduled."""
    if not scheduled:
        graph_def = tf.compat.v1.GraphDef.FromString(graph_def.SerializeToString())
        for node in _nodes(graph_def):
            node.attr.pop(_TAKES_LOOPS_APART, None)
    config = tf.compat.v1.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    for name in _OPTIMIZATIONS:
        setattr(rewrites, name, rewrites.AGGRESSIVE)
    # TFF's choice here computes every activation again for the backward pass.
    rewrites.memory_optimization = rewrites.NO_MEM_OPT
    spec = graph_spec.GraphSpec(graph_def, init_op=None, in_names=inputs, out_names=outputs)
    return graph_optimizations.optimize_graph_spec(spec, config).graph_def


def _rename_functions(graph_def: tf.compat.v1.GraphDef) -> list[str]:
    """Gives a graph's functions names that no other graph's have; returns them.

    The eager runtime knows all functions of the process by name, and graphs of different
    computations use the same names for different functions.
    """
    prefix = f"in_process_{next(_numbers)}_"
    names = {f.signature.name: prefix + f.signature.name for f in graph_def.library.function}

    def rename(attributes: Any) -> None:
        """Renames the functions that a node or a function refers to."""
        for value in attributes.values():
            for function in [value.func] if value.HasField("func") else value.list.func:
                function.name = names.get(function.name, function.name)
                rename(function.attr)

    for node in _nodes(graph_def):
        node.op = names.get(node.op, node.op)
        rename(node.attr)
    for function in graph_def.library.function:
        function.signature.name = names[function.signature.name]
        rename(function.attr)
    for gradient in graph_def.library.gradient:
        gradient.function_name = names.get(gradient.function_name, gradient.function_name)
        gradient.gradient_func = names.get(gradient.gradient_func, gradient.gradient_func)
    return list(names.values())


def _remove_functions(names: Sequence[str]) -> None:
    """Takes functions out of the eager runtime, which counts how often each was put in."""
    runtime = context.context()
    for name in names:
        while runtime.has_function(name):
            runtime.remove_function(name)
