"""The in-process runtime gives what the worker gives."""

import collections
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow.python.eager import cancellation
from tensorflow_federated.python.tensorflow_libs import serialization_utils

from fl_research.learning.evaluation import build_evaluation
from fl_research.runtime.core_threads import CoreThreads
from fl_research.runtime.in_process import in_process_runtime
from fl_research.runtime.in_process_context import InProcessContext
from fl_research.runtime.loaded_graph import load_graph
from tests.learning import small_cohorts

pytestmark = pytest.mark.usefixtures("tff_runtime")

AT_CLIENTS = tff.FederatedType(np.float32, tff.CLIENTS)
AT_SERVER = tff.FederatedType(np.float32, tff.SERVER)


@pytest.fixture
def in_process(tff_runtime: None) -> Iterator[None]:
    """The in-process runtime, inside the session's worker."""
    with in_process_runtime(redirect_stderr=False):
        yield


def _in_both(call: Callable[[], Any]) -> tuple[Any, Any]:
    """What a call gives in this process, and on the worker."""
    with in_process_runtime(redirect_stderr=False):
        here = call()
    return here, call()


def _assert_alike(here: Any, worker: Any, *, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Fails unless containers, dtypes and shapes are the same, and numbers are close."""
    assert type(here) is type(worker)
    if isinstance(here, Mapping):
        assert list(here) == list(worker)
        here, worker = list(here.values()), list(worker.values())
    elif hasattr(type(here), "__attrs_attrs__"):
        names = [field.name for field in type(here).__attrs_attrs__]
        here, worker = ([getattr(value, name) for name in names] for value in (here, worker))
    if isinstance(here, list | tuple):
        assert len(here) == len(worker)
        for one, other in zip(here, worker, strict=True):
            _assert_alike(one, other, rtol=rtol, atol=atol)
        return
    if isinstance(here, np.ndarray | np.generic):
        assert here.dtype == worker.dtype and here.shape == worker.shape
    if isinstance(here, np.ndarray):
        assert not here.flags.writeable
    if np.asarray(here).dtype.kind == "f":
        np.testing.assert_allclose(here, worker, rtol=rtol, atol=atol)
    else:
        np.testing.assert_array_equal(here, worker)


# ------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize("model", ["mlp", "logistic_regression"])
@pytest.mark.parametrize("mechanism", ["gaussian", "adaptive_gaussian"])
def test_rounds_are_those_of_the_worker(model: str, mechanism: str) -> None:
    """To 1e-5 relative and 1e-6 absolute: the worker adds up in another order inside operations.

    Blocks of many clients, of a client without rows, and of nobody; then no block at all.
    """
    data = small_cohorts.clients()
    query = small_cohorts.query(
        mechanism, population=len(small_cohorts.SIZES), clip_norm=0.3, noise_multiplier=0.5
    )
    process = small_cohorts.process(small_cohorts.model(model), query, batch_size=4)
    cohorts = [
        small_cohorts.blocks(data, num_blocks=2),
        small_cohorts.blocks(data, num_blocks=1, round_number=2)
        + small_cohorts.blocks(data, num_blocks=1, chosen=[])
        + small_cohorts.blocks(data, num_blocks=1, chosen=[3]),
        [],
    ]

    def train() -> list[Any]:
        outputs = [process.initialize()]
        state = outputs[0]
        for cohort in cohorts:
            outputs.append(process.next(state, cohort))
            state = outputs[-1].state
        weights = process.get_model_weights(state)
        return [*outputs, weights, process.set_model_weights(state, weights)]

    here, worker = _in_both(train)
    _assert_alike(here[0], worker[0])
    _assert_alike(here, worker, rtol=1e-5, atol=1e-6)
    trained = here[1].state.global_model_weights.trainable
    before = here[0].global_model_weights.trainable
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(trained, before, strict=True))


def test_evaluation_is_that_of_the_worker() -> None:
    """Counts are equal; float64 sums to 1e-6, as the float32 logits may differ in the last bit."""
    data = small_cohorts.clients(seed=7)
    model = small_cohorts.model("mlp")
    evaluation = build_evaluation(model, small_cohorts.OBJECTIVE)
    weights = tff.learning.models.ModelWeights(*model.initial_weights)
    cohort = small_cohorts.blocks(data, num_blocks=3)
    here, worker = _in_both(lambda: evaluation(weights, cohort))
    assert len(here.per_client) == 3
    _assert_alike(here, worker, rtol=1e-6)
    with in_process_runtime(redirect_stderr=False):
        nobody = evaluation(weights, [])
    assert nobody.per_client == [] and nobody.pooled["examples"] == 0


# ----------------------------------------------------------------------- one construct at a time


@tff.tensorflow.computation(np.float32)
def _double(x):
    return 2.0 * x


@tff.tensorflow.computation(np.float32, np.float32)
def _append_digit(x, y):
    return 10.0 * x + y


def _each_construct() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Computations and their arguments, by what they try."""
    cases: dict[str, tuple[Any, tuple[Any, ...]]] = {}

    def case(name: str, parameters: tuple[Any, ...], *arguments: Any) -> Callable[[Any], None]:
        """Adds a federated computation, or one of TensorFlow where nothing is placed."""
        placed = any(isinstance(p, tff.FederatedType) for p in parameters) or "eval" in name
        wrap = tff.federated_computation if placed else tff.tensorflow.computation
        return lambda function: cases.update({name: (wrap(function, *parameters), arguments)})

    numbers = [np.float32(1), np.float32(2), np.float32(4)]

    @case("order of members", (AT_CLIENTS,), numbers)
    def _(x):
        return tff.federated_aggregate(x, np.float32(0), _append_digit, _append_digit, _double)

    @case("means, sums, extremes", (AT_CLIENTS, AT_CLIENTS), numbers, [3.0, 2.0, 1.0])
    def _(x, w):
        return (
            *(tff.federated_mean(x), tff.federated_mean(x, w), tff.federated_sum(x)),
            *(tff.federated_min(x), tff.federated_max(w)),
        )

    @case("broadcast, zip, map", (AT_CLIENTS, AT_SERVER), numbers, 5.0)
    def _(x, y):
        both = tff.federated_zip((x, tff.federated_broadcast(y)))
        at_server = tff.federated_zip(collections.OrderedDict(a=y, b=y))
        everywhere = tff.federated_map(_double, tff.federated_broadcast(y))
        return tff.federated_map(_append_digit, both), both, at_server, everywhere

    @case("placed values", (AT_CLIENTS,), numbers)
    def _(x):
        return tff.federated_value(7, tff.SERVER), tff.federated_value(8.5, tff.CLIENTS), x

    @case("eval at the server", ())
    def _():
        return tff.federated_eval(tff.tensorflow.computation(lambda: 3), tff.SERVER)

    @case("text and dtypes", (np.str_, np.bool_, np.int64, np.float64), "ab", True, 3, 0.1)
    def _(text, flag, number, wide):
        return [
            *(text, tf.strings.join([text, "\0"]), tf.stack([text, "längs"]), tf.constant(b"")),
            *(flag, ~tf.stack([flag, flag]), number, wide, tf.zeros([0, 3], tf.uint8)),
        ]

    @case("one tensor twice, one argument unused", (np.float32, np.float32), 1.5, 2.5)
    def _(x, y):
        return collections.OrderedDict(z=x, a=(x, x), empty=(), rest=[x + 1])

    @case("lists and numbers as tensors", (tff.TensorType(np.int32, [None, 2]),), [[1, 2], [3, 4]])
    def _(x):
        return x + 1

    @case(
        "an argument of TensorFlow", (tff.TensorType(np.int64, [None]),), tf.range(3, dtype="int64")
    )
    def _(x):
        return x[::-1]

    @case("no tensors at all", ((),), ())
    def _(x):
        return x

    @case("a variable", (np.float32,), 2.0)
    def _(x):
        variable = tf.Variable(1.0)
        with tf.control_dependencies([variable.assign_add(x)]):
            return variable.read_value()

    @case("a table", (np.str_,), "b")
    def _(key):
        keys, values = tf.constant(["a", "b"]), tf.constant([1, 2])
        table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1)
        return table.lookup(key)

    @case("functions, conditions and loops", (np.int32,), 20)
    def _(limit):
        @tf.function
        def step(x):
            return tf.cond(tf.equal(x % 2, 0), lambda: x // 2, lambda: 3 * x + 1)

        @tf.function(experimental_attributes={"_noinline": True})
        def path(x):
            return tf.while_loop(lambda n, x: x > 1, lambda n, x: (n + 1, step(x)), (0, x))

        return path(limit)

    @case("a gradient through a loop", (np.float32,), 1.1)
    def _(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.while_loop(lambda i, y: i < 5, lambda i, y: (i + 1, y * x), (0, x))[1]
        return tape.gradient(y, x)

    return cases


def test_each_construct_gives_what_the_worker_gives() -> None:
    cases = _each_construct()
    assert len(cases) > 10
    here, worker = _in_both(lambda: [c(*arguments) for c, arguments in cases.values()])
    for name, one, other in zip(cases, here, worker, strict=True):
        try:
            _assert_alike(one, other, rtol=1e-6)
        except AssertionError as error:
            raise AssertionError(f"{name}: {one!r} here, {other!r} on the worker") from error
    assert here[0] == 248, "members are taken in their order"


def test_every_call_starts_with_new_variables(in_process: None) -> None:
    count, arguments = _each_construct()["a variable"]
    assert [count(*arguments) for _ in range(3)] == [3.0, 3.0, 3.0]


@pytest.mark.parametrize("compiled", [True, False])
def test_loops_inside_compiled_and_plain_functions(in_process: None, compiled: bool) -> None:
    """XLA alone; and XLA called from a loop, which is the shape of local training."""

    @tf.function(jit_compile=compiled)
    def norm_after(matrix, steps):
        return tf.norm(
            tf.while_loop(lambda i, m: i < steps, lambda i, m: (i + 1, m / 2), (0, matrix))[1]
        )

    @tff.tensorflow.computation(tff.TensorType(np.float32, [None, 3]), np.int32)
    def total(matrix, repeats):
        return tf.while_loop(
            lambda i, x: i < repeats,
            lambda i, x: (i + 1, x + norm_after(matrix, i)),
            (tf.constant(0), tf.constant(0.0)),
        )[1]

    for rows in (1, 4):
        found = total(np.ones([rows, 3], np.float32), 3)
        assert found == pytest.approx(1.75 * np.sqrt(3 * rows), rel=1e-6)


@pytest.mark.timeout(60)
def test_members_with_conditions_in_loops_do_not_take_each_others_threads() -> None:
    """More members at a time than TensorFlow has threads, each waiting for a branch or a call."""

    @tf.function(experimental_attributes={"_noinline": True})
    def halve(x):
        return x / 2

    @tff.tensorflow.computation(np.float32)
    def halve_while_large(x):
        return tf.while_loop(
            lambda i, x: i < 50,
            lambda i, x: (i + 1, tf.cond(x > 1, lambda: halve(x), lambda: x + 1)),
            (0, x),
        )[1]

    @tff.federated_computation(AT_CLIENTS)
    def halve_all(x):
        return tff.federated_map(halve_while_large, x)

    threads = CoreThreads(16)
    with tff.framework.get_context_stack().install(InProcessContext(threads)):
        for _ in range(20):
            assert halve_all([1.0] * 32) == [1.0] * 32
    threads.stop(1.0)


def test_loops_of_the_old_kind(in_process: None) -> None:
    """Graphs whose loops are taken apart already need another executor."""
    with tf.Graph().as_default():
        tf.compat.v1.disable_control_flow_v2()
        try:

            @tff.tensorflow.computation(np.int32)
            def count_to(limit):
                return tf.while_loop(lambda i: i < limit, lambda i: i + 1, [tf.constant(0)])[0]

        finally:
            tf.compat.v1.enable_control_flow_v2()
    assert count_to(9) == 9


def test_functions_of_one_name_in_two_graphs_are_two(in_process: None) -> None:
    @tff.tensorflow.computation(np.int32)
    def count_by_3(limit):
        return tf.while_loop(lambda i: i < limit, lambda i: i + 3, [tf.constant(0)])[0]

    by_3 = count_by_3.to_building_block().proto
    by_7 = type(by_3).FromString(by_3.SerializeToString())
    graph_def = serialization_utils.unpack_graph_def(by_7.tensorflow.graph_def)
    constants = [
        node.attr["value"].tensor
        for function in graph_def.library.function
        for node in function.node_def
        if node.op == "Const" and list(node.attr["value"].tensor.int_val) == [3]
    ]
    assert len(constants) == 1, "the step is a constant of the loop's function"
    constants[0].int_val[0] = 7
    by_7.tensorflow.graph_def.CopyFrom(serialization_utils.pack_graph_def(graph_def))
    limit, cancel = [tf.constant(10)], cancellation.CancellationManager()
    one, other = load_graph(by_3), load_graph(by_7)
    assert [int(graph(limit, cancel)[0]) for graph in (one, other, one)] == [12, 14, 12]
