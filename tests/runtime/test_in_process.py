"""The in-process runtime: clear errors, prompt interrupts, nothing kept and nothing left behind.

What it computes is compared with the worker in test_in_process_results.py.
"""

import collections
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow.python.eager import context as eager_context

from fl_research import runtime
from fl_research.errors import InputError
from fl_research.runtime.core_threads import CoreThreads
from fl_research.runtime.in_process import in_process_runtime
from fl_research.runtime.loaded_graph import UnsupportedComputationError

REPOSITORY = Path(__file__).resolve().parents[2]
ENDLESS = 2**31 - 1
MATRIX = tff.TensorType(np.float32, [None, 3])

# One program, interrupted while it computes; it prints nothing but what it says here.
PROGRAM = """
import sys
from pathlib import Path
from fl_research.runtime.in_process import in_process_runtime

with in_process_runtime(log_path=Path(sys.argv[1])):
    import numpy as np, tensorflow as tf, tensorflow_federated as tff

    @tff.tensorflow.computation(np.int32)
    def count_to(limit):
        return tf.while_loop(lambda i: i < limit, lambda i: i + 1, [tf.constant(0)])[0]

    @tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
    def count_all(limits):
        return tff.federated_map(count_to, limits)

    print("counted", *count_all([3, 4]), flush=True)
    if sys.argv[2] == "count":
        count_all([2**31 - 1] * 3)
try:
    count_to(7)
except RuntimeError:
    print("no context", flush=True)
"""


@pytest.fixture(autouse=True)
def in_process(tff_runtime: None) -> Iterator[None]:
    """The in-process runtime, inside the session's worker."""
    with in_process_runtime(redirect_stderr=False):
        yield


@tff.tensorflow.computation(np.int32)
def _add_one(value):
    return value + 1


@tff.tensorflow.computation(np.int32)
def _count_to(limit):
    return tf.while_loop(lambda i: i < limit, lambda i: i + 1, [tf.constant(0)])[0]


@tff.tensorflow.computation(MATRIX)
def _same(matrix):
    return matrix


@tff.tensorflow.computation(MATRIX)
def _double(matrix):
    return 2.0 * matrix


@tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
def _count_all(limits):
    return tff.federated_map(_count_to, limits)


# --------------------------------------------------------------------------------------- contexts


def test_it_gives_way_to_the_enclosing_runtime_and_takes_over_again() -> None:
    children = psutil.Process().children()
    contexts = [tff.framework.get_context_stack().current]
    with in_process_runtime(redirect_stderr=False) as session:
        contexts.append(tff.framework.get_context_stack().current)
        assert _add_one(1) == 2
        assert session.num_threads == len(os.sched_getaffinity(0))
        assert psutil.Process().children() == children, "it has no process of its own"
        with runtime.local_runtime(redirect_stderr=False):
            contexts.append(tff.framework.get_context_stack().current)
            assert _add_one(2) == 3
        assert tff.framework.get_context_stack().current is contexts[1]
        assert _add_one(3) == 4
    assert tff.framework.get_context_stack().current is contexts[0]
    assert len({id(context) for context in contexts}) == 3
    assert _add_one(4) == 5


@pytest.mark.parametrize("error", [None, ZeroDivisionError(), SystemExit(3)])
def test_no_thread_stays(error: BaseException | None) -> None:
    before = set(threading.enumerate())
    try:
        with in_process_runtime(redirect_stderr=False):
            assert _count_all([5, 6, 7]) == [5, 6, 7]
            assert set(threading.enumerate()) - before
            if error is not None:
                raise error
    except (ZeroDivisionError, SystemExit) as caught:
        assert caught is error
    assert set(threading.enumerate()) == before


# ----------------------------------------------------------------------------------------- errors


def test_a_wrong_argument_is_refused_with_its_place_and_both_types() -> None:
    @tff.tensorflow.computation(
        collections.OrderedDict(a=MATRIX, b=collections.OrderedDict(c=np.int32))
    )
    def rows(value):
        return tf.shape(value["a"])[0] + value["b"]["c"]

    good = collections.OrderedDict(
        a=np.zeros([2, 3], np.float32), b=collections.OrderedDict(c=np.int32(1))
    )
    assert rows(good) == 3
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"a": np.zeros([2, 4], np.float32)}, r"argument\.a: .*\(2, 4\).*\(None, 3\).*float32\["),
        ({"a": np.zeros([3], np.float32)}, r"argument\.a: .*\(3,\)"),
        ({"a": np.zeros([2, 3], np.float64)}, r"argument\.a: .*float64 is no float32"),
        ({"a": [[1, 2, "x"]]}, r"argument\.a: .*list is no float32"),
        ({"a": None}, r"argument\.a: .*NoneType"),
        ({"b": collections.OrderedDict(d=np.int32(1))}, r"argument\.b: found 'd' .* of 'c'"),
        ({"b": ()}, r"argument\.b: a structure of 0 elements .* of 1"),
        ({"b": np.int32(1)}, r"argument\.b: .*int32 is no structure"),
        ({"b": collections.OrderedDict(c=2**40)}, r"argument\.b\.c: .*int is no int32"),
        ({"b": collections.OrderedDict(c="1")}, r"argument\.b\.c: .*str is no int32"),
        ({"b": collections.OrderedDict(c=1.5)}, r"argument\.b\.c: .*float is no int32"),
        ({"b": collections.OrderedDict(c=np.int32([1]))}, r"argument\.b\.c: .*\(1,\).*\(\)"),
    ]
    for change, message in wrong:
        with pytest.raises(TypeError, match=message) as caught:
            rows(collections.OrderedDict(good, **change))
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match=r"argument\[1\]: .*str is no int32"):
        _count_all([1, "2"])
    with pytest.raises(TypeError, match="CLIENTS is a list"):
        _count_all(3)
    assert rows(good) == 3


def test_values_of_as_many_members_each() -> None:
    at_clients = tff.FederatedType(np.int32, tff.CLIENTS)

    @tff.federated_computation(at_clients, at_clients)
    def both(one, other):
        return tff.federated_zip((one, other))

    assert both([1], [2]) == [(1, 2)]
    with pytest.raises(ValueError, match="Conflicting cardinalities.* 3 vs 2"):
        both([1, 2], [1, 2, 3])


def test_what_it_cannot_run_is_one_error_that_names_the_other_runtime() -> None:
    sequence = tff.SequenceType(np.int32)

    @tff.tensorflow.computation(sequence)
    def total(dataset):
        return dataset.reduce(0, lambda one, other: one + other)

    @tff.federated_computation(tff.FederatedType(sequence, tff.CLIENTS))
    def all_totals(datasets):
        return tff.federated_sum(tff.federated_map(total, datasets))

    @tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
    def secure(values):
        return tff.federated_secure_sum_bitwidth(values, 4)

    @tff.federated_computation(tff.FederatedType(tff.TensorType(np.int32, [1]), tff.CLIENTS))
    def selected(keys):
        most = tff.federated_value(3, tff.SERVER)
        values = tff.federated_value(5, tff.SERVER)
        return tff.federated_select(
            keys, most, values, tff.tensorflow.computation(lambda value, key: value + key)
        )

    at_server = tff.FederatedType(np.int32, tff.SERVER, all_equal=False)
    odd = tff.federated_computation(lambda x: x, at_server)
    for computation, argument, what in [
        (total, [1, 2], "sequences"),
        (all_totals, [[1, 2]], "sequences"),
        (secure, [1], "the intrinsic federated_secure_sum_bitwidth"),
        (selected, [np.int32([1])], "federated_select"),
        (odd, [1], "@SERVER"),
    ]:
        with pytest.raises(UnsupportedComputationError, match=what) as caught:
            computation(argument)
        assert isinstance(caught.value, InputError)
        assert "local_runtime" in str(caught.value) and "\n" not in str(caught.value)


def test_an_error_inside_a_computation_is_tensorflows_and_the_next_call_works() -> None:
    @tff.tensorflow.computation(np.int32)
    def refuse(value):
        with tf.control_dependencies([tf.debugging.Assert(value < 3, ["too large", value])]):
            return tf.identity(value)

    @tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
    def refuse_all(values):
        return tff.federated_map(refuse, values)

    for computation, bad, good in ((refuse, 5, 1), (refuse_all, [1, 7, 5, 2], [1, 2])):
        with pytest.raises(tf.errors.InvalidArgumentError, match="too large") as caught:
            computation(bad)
        assert caught.value.__cause__ is None
        assert computation(good) == good


def test_of_several_failures_the_first_one_counts() -> None:
    threads = CoreThreads(4)
    begun = threading.Barrier(4)

    def fail(index: int) -> None:
        begun.wait(10)
        time.sleep(0.02 * (4 - index))
        raise (KeyError if index > 1 else ValueError)(index)

    with pytest.raises(ValueError, match="0"):
        threads.for_each(4, fail)
    with pytest.raises(KeyError, match="2"):
        threads.for_each(4, fail, consequence=ValueError)
    threads.stop(1.0)


# ---------------------------------------------------------------------------------------- results


def test_members_run_side_by_side_and_more_of_them_than_threads() -> None:
    threads = CoreThreads(3)
    together = threading.Barrier(3)

    def meet(index: int) -> int:
        together.wait(10)
        return index

    assert threads.for_each(12, meet) == list(range(12))
    threads.stop(1.0)


@pytest.mark.parametrize("rows", [1, 20_000])
def test_a_result_shares_no_memory_that_the_caller_can_write_to(rows: int) -> None:
    memory = np.zeros(rows * 12 + 64, np.uint8)
    start = -memory.ctypes.data % 64  # where TensorFlow does not copy
    argument = memory[start : start + rows * 12].view(np.float32).reshape(rows, 3)
    result = _same(argument)
    argument += 1
    assert result.sum() == 0
    with pytest.raises(ValueError, match="read-only"):
        result += 1
    doubled = _double(argument)
    again = _same(doubled)
    np.testing.assert_array_equal(again, 2 * argument)
    assert np.shares_memory(again, doubled) == (rows > 1), "no copy without need"


def test_a_result_cannot_change_a_constant_of_the_computation() -> None:
    @tff.tensorflow.computation
    def constant():
        return tf.constant(np.ones(10_000, np.float32))

    first = constant()
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 7
    with pytest.raises(ValueError, match="WRITEABLE"):
        first.flags.writeable = True
    assert constant().sum() == 10_000


def test_a_computation_that_is_gone_leaves_nothing_behind() -> None:
    def functions() -> int:
        gc.collect()
        return len(eager_context.context().list_function_names())

    def call_new(number: int) -> None:
        @tff.tensorflow.computation(np.int32)
        def count(limit):
            return tf.while_loop(lambda i: i < limit, lambda i: i + number, [number])[0]

        assert count(100) >= 100

    call_new(1)
    before = functions()
    for number in range(2, 8):
        call_new(number)
    assert functions() == before


def test_memory_and_functions_stay_the_same_while_shapes_change() -> None:
    """1,000 calls on blocks of 1 to 4,000 rows: less than 20 MiB, and nothing is traced."""

    @tff.federated_computation(tff.FederatedType(MATRIX, tff.CLIENTS))
    def total(matrices):
        norm = tff.tensorflow.computation(lambda m: tf.linalg.norm(m @ tf.transpose(m[:1])), MATRIX)
        return tff.federated_sum(tff.federated_map(norm, matrices))

    process, generator = psutil.Process(), np.random.default_rng(0)

    def call(times: int) -> None:
        for _ in range(times):
            sizes = generator.integers(1, 4000, size=2)
            assert np.isfinite(total([np.ones([rows, 3], np.float32) for rows in sizes]))

    call(100)
    functions, memory = eager_context.context().list_function_names(), process.memory_info().rss
    call(1000)
    assert eager_context.context().list_function_names() == functions
    assert process.memory_info().rss - memory < 20 * 2**20


# ------------------------------------------------------------------------------------- interrupts


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_in_the_midst_of_a_computation_ends_it(
    number: signal.Signals, expected: type[BaseException], members: int
) -> None:
    before = set(threading.enumerate())
    timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
    timer.start()
    started = time.monotonic()
    with pytest.raises(expected):
        with in_process_runtime(redirect_stderr=False):
            _count_all([ENDLESS] * members)
    assert time.monotonic() - started < 2
    timer.join()
    assert set(threading.enumerate()) == before
    assert _count_all([3]) == [3], "the enclosing runtime goes on"


def test_it_computes_again_after_an_interrupt() -> None:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        _count_all([ENDLESS, 5])
    assert _count_all([6, 5]) == [6, 5]


@pytest.mark.slow
@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGTERM])
def test_a_program_that_is_interrupted_ends_at_once(
    tmp_path: Path, number: signal.Signals | None
) -> None:
    """Its terminal shows its own lines (and Python's traceback of Ctrl-C) and nothing else."""
    log = tmp_path / "run.log"
    mode = "leave" if number is None else "count"
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(log), mode],
        cwd=REPOSITORY,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "counted 3 4\n"
        assert psutil.Process(program.pid).children() == []
        if number is not None:
            time.sleep(0.5)
            program.send_signal(number)
        # Not communicate(), which misses what readline() may have read ahead.
        too_late = threading.Timer(10, program.kill)
        too_late.start()
        output, errors = program.stdout.read(), program.stderr.read()  # type: ignore[union-attr]
        too_late.cancel()
    finally:
        program.kill()
        program.wait()
    assert program.returncode == {None: 0, signal.SIGINT: -2, signal.SIGTERM: 143}[number]
    assert output == ("no context\n" if number is None else "")
    assert errors.count("Traceback") == (number == signal.SIGINT), errors
    assert number == signal.SIGINT or errors == ""
    assert "cuda" in log.read_text(), "TensorFlow's chatter is in the log"
