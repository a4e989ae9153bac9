"""Turns a TFF computation into a plan: which graph is called, with which tensors, for whom.

A plan has registers; each holds one tensor, or one for each member of CLIENTS. The tree of the
computation is walked once, with registers in place of values. Whatever only moves values about
(functions, blocks, selections, structures, broadcasts, zips) is over when the walk is. What stays
are the calls of TensorFlow graphs: once, for each member, or over the members one after another.

    federated_map      -> for each member side by side: outputs of the member = graph(its inputs)
    federated_aggregate-> accumulated = zero; for each member in order:
                              accumulated = accumulate(accumulated, value of the member)
                          result = report(accumulated)

That is how TFF's worker aggregates too; with members on one machine it has no use for `merge`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff
from tensorflow.python.eager import cancellation
from tensorflow_federated.python.core.environments.tensorflow_backend import (
    tensorflow_tree_transformations,
)
from tensorflow_federated.python.core.impl.compiler import (
    building_blocks,
    intrinsic_defs,
    transformations,
)

from fl_research.runtime.core_threads import CoreThreads
from fl_research.runtime.loaded_graph import Graph, UnsupportedComputationError, load_graph


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is: its register, and whether that holds one tensor a member."""

    register: int
    each: bool


Function = Callable[["Value"], "Value"]
# What stands for a value while the plan is made; a tuple is a structure, without its names.
Value = Place | tuple["Value", ...] | Function | None


@dataclasses.dataclass(kw_only=True)
class Run:
    """One run of a plan.

    Attributes:
      registers: The tensors.
      members: The number of members of CLIENTS.
      threads: Where members run side by side.
      cancel: Cancels the calls of graphs.
    """

    registers: list[Any]
    members: int
    threads: CoreThreads
    cancel: cancellation.CancellationManager

    def tensor(self, place: Place, member: int) -> Any:
        """Returns the tensor at a place, for a member."""
        held = self.registers[place.register]
        return held[member] if place.each else held


@dataclasses.dataclass(frozen=True)
class _Once:
    """Calls a graph once."""

    graph: Graph
    inputs: Sequence[Place]
    outputs: Sequence[Place]

    def run(self, run: Run) -> None:
        """Does the step."""
        results = self.graph([run.registers[p.register] for p in self.inputs], run.cancel)
        for place, tensor in zip(self.outputs, results, strict=True):
            run.registers[place.register] = tensor


@dataclasses.dataclass(frozen=True)
class _ForEach:
    """Calls a graph for each member, side by side."""

    graph: Graph
    inputs: Sequence[Place]
    outputs: Sequence[Place]

    def run(self, run: Run) -> None:
        """Does the step."""
        results = run.threads.for_each(
            run.members,
            lambda member: self.graph([run.tensor(p, member) for p in self.inputs], run.cancel),
            # A failure inside TensorFlow cancels the calls beside it.
            consequence=tf.errors.CancelledError,
        )
        for index, place in enumerate(self.outputs):
            run.registers[place.register] = [tensors[index] for tensors in results]


@dataclasses.dataclass(frozen=True)
class _Fold:
    """Accumulates over the members in their order."""

    zero: Sequence[Place]
    accumulated: Sequence[Place]
    values: Sequence[Place]
    value: Sequence[Place]
    steps: "Sequence[Step]"
    results: Sequence[Place]

    def run(self, run: Run) -> None:
        """Does the step."""
        registers = run.registers
        for place, zero in zip(self.accumulated, self.zero, strict=True):
            registers[place.register] = registers[zero.register]
        for member in range(run.members):
            for place, values in zip(self.value, self.values, strict=True):
                registers[place.register] = run.tensor(values, member)
            for step in self.steps:
                step.run(run)
            results = [registers[place.register] for place in self.results]
            for place, tensor in zip(self.accumulated, results, strict=True):
                registers[place.register] = tensor


Step = _Once | _ForEach | _Fold


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a computation does.

    Attributes:
      parameters: The places of the parameter's tensors, in the order of the parameter's type.
      result: Where the result is.
      registers: The registers before a run, with the constants.
      steps: What to do, in order.
    """

    parameters: Sequence[Place]
    result: Value
    registers: Sequence[Any]
    steps: Sequence[Step]

    def run(self, run: Run) -> None:
        """Does all steps.

        Args:
          run: Its registers hold the parameter's tensors and the constants.
        """
        for step in self.steps:
            step.run(run)


def make_plan(computation: tff.Computation) -> Plan:
    """Returns the plan of a computation.

    Args:
      computation: Its tensors come in and go out in the order of its types' leaves.

    Raises:
      UnsupportedComputationError: It uses something that a plan cannot express.
    """
    block, _ = tensorflow_tree_transformations.replace_intrinsics_with_bodies(
        computation.to_building_block()
    )
    block = transformations.to_call_dominant(block)
    walk = _Walk()
    parameter_type = computation.type_signature.parameter
    parameter = None if parameter_type is None else walk.new_places(parameter_type)
    result = walk.apply(walk.value_of(block, {}), parameter)
    return Plan(
        parameters=list(leaves(parameter)),
        result=result,
        registers=walk.registers,
        steps=walk.steps,
    )


def leaves(value: Value) -> Iterator[Place]:
    """Yields the places of a value in order."""
    if isinstance(value, Place):
        yield value
    elif isinstance(value, tuple):
        for element in value:
            yield from leaves(element)
    elif value is not None:
        raise UnsupportedComputationError("a function as a value")


class _Walk:
    """The walk through a computation's tree."""

    def __init__(self) -> None:
        """Starts without registers."""
        self.registers: list[Any] = []
        self.steps: list[Step] = []
        self._each = False
        self._graphs: dict[bytes, Graph] = {}

    def new_places(self, of_type: tff.Type, each: bool = False) -> Value:
        """Returns new places for a value of a type."""
        if isinstance(of_type, tff.TensorType):
            self.registers.append(None)
            return Place(len(self.registers) - 1, each)
        if isinstance(of_type, tff.StructType):
            return tuple(self.new_places(element, each) for element in of_type)
        if isinstance(of_type, tff.FederatedType) and (
            of_type.all_equal or of_type.placement is tff.CLIENTS
        ):
            return self.new_places(of_type.member, not of_type.all_equal)
        if isinstance(of_type, tff.SequenceType):
            raise UnsupportedComputationError("sequences (tf.data.Dataset)")
        raise UnsupportedComputationError(f"a value of type {of_type.compact_representation()}")

    def apply(self, function: Value, argument: Value) -> Value:
        """Applies a function; the steps that this takes are added."""
        assert callable(function)
        return function(argument)

    def value_of(self, block: Any, names: dict[str, Value]) -> Value:
        """Returns the value of a building block.

        Args:
          block: The block.
          names: The values that it may refer to.
        """
        match block:
            case building_blocks.Reference():
                value = names[block.name]
            case building_blocks.Block():
                for name, local in block.locals:
                    names = {**names, name: self.value_of(local, names)}
                value = self.value_of(block.result, names)
            case building_blocks.Lambda():
                value = self._function(block.parameter_name, block.result, names)
            case building_blocks.Call():
                argument = None if block.argument is None else self.value_of(block.argument, names)
                value = self.apply(self.value_of(block.function, names), argument)
            case building_blocks.Struct():
                value = tuple(self.value_of(element, names) for element in block)
            case building_blocks.Selection():
                source = self.value_of(block.source, names)
                assert isinstance(source, tuple)
                value = source[block.as_index()]
            case building_blocks.CompiledComputation():
                value = functools.partial(self._call_graph, block)
            case building_blocks.Intrinsic():
                value = functools.partial(self._call_intrinsic, block)
            case building_blocks.Literal():
                self.registers.append(tf.constant(block.value, block.type_signature.dtype))
                value = Place(len(self.registers) - 1, each=False)
            case _:
                raise UnsupportedComputationError(f"a {type(block).__name__}")
        return value

    def _function(self, parameter: str | None, body: Any, names: dict[str, Value]) -> Function:
        """Returns the function of a parameter that a building block is the body of."""
        if parameter is None:
            return lambda _: self.value_of(body, names)
        return lambda argument: self.value_of(body, {**names, parameter: argument})

    def _call_graph(self, block: Any, argument: Value) -> Value:
        """Adds the call of a graph."""
        key = block.proto.SerializeToString(deterministic=True)
        if key not in self._graphs:
            self._graphs[key] = load_graph(block.proto)
        result = self.new_places(block.type_signature.result, self._each)
        step: type[_ForEach] | type[_Once] = _ForEach if self._each else _Once
        self.steps.append(step(self._graphs[key], list(leaves(argument)), list(leaves(result))))
        return result

    def _call_intrinsic(self, block: Any, argument: Value) -> Value:
        """Adds what an intrinsic does."""
        uri, parts = block.uri, argument if isinstance(argument, tuple) else ()
        if uri in _MOVES_VALUES:
            return argument
        if uri == intrinsic_defs.FEDERATED_EVAL_AT_SERVER.uri:
            return self.apply(argument, None)
        if uri == intrinsic_defs.FEDERATED_EVAL_AT_CLIENTS.uri:
            return self._for_each_member(argument, None)
        if uri in _MAPS:
            function, value = parts
            if block.type_signature.result.all_equal:
                return self.apply(function, value)
            return self._for_each_member(function, value)
        if uri == intrinsic_defs.FEDERATED_AGGREGATE.uri:
            value, zero, accumulate, _, report = parts
            return self.apply(report, self._fold(value, zero, accumulate))
        raise UnsupportedComputationError(f"the intrinsic {uri}")

    def _for_each_member(self, function: Value, argument: Value) -> Value:
        """Applies a function for each member of CLIENTS."""
        self._each = True
        try:
            return self.apply(function, argument)
        finally:
            self._each = False

    def _fold(self, values: Value, zero: Value, accumulate: Value) -> Value:
        """Adds an accumulation over the members."""
        accumulated, value = self._like(zero), self._like(values)
        outer, self.steps = self.steps, []
        try:
            results = self.apply(accumulate, (accumulated, value))
        finally:
            inner, self.steps = self.steps, outer
        self.steps.append(
            _Fold(
                zero=list(leaves(zero)),
                accumulated=list(leaves(accumulated)),
                values=list(leaves(values)),
                value=list(leaves(value)),
                steps=inner,
                results=list(leaves(results)),
            )
        )
        return accumulated

    def _like(self, value: Value) -> Value:
        """Returns new places for one tensor each, in the structure of a value."""
        if isinstance(value, Place):
            self.registers.append(None)
            return Place(len(self.registers) - 1, each=False)
        assert isinstance(value, tuple)
        return tuple(self._like(element) for element in value)


# One tensor for everybody is held once, so sending it to everybody moves nothing.
_MOVES_VALUES = frozenset(
    intrinsic.uri
    for intrinsic in (
        intrinsic_defs.FEDERATED_BROADCAST,
        intrinsic_defs.FEDERATED_VALUE_AT_CLIENTS,
        intrinsic_defs.FEDERATED_VALUE_AT_SERVER,
        intrinsic_defs.FEDERATED_ZIP_AT_CLIENTS,
        intrinsic_defs.FEDERATED_ZIP_AT_SERVER,
    )
)
_MAPS = frozenset(
    intrinsic.uri
    for intrinsic in (
        intrinsic_defs.FEDERATED_APPLY,
        intrinsic_defs.FEDERATED_MAP,
        intrinsic_defs.FEDERATED_MAP_ALL_EQUAL,
    )
)
