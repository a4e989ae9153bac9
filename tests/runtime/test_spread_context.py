"""Rounds over workers of their own: the same bits, no growth, and one clear error each time.

The workers are real processes on this machine; only the network between is missing, see
tests/experiments/test_several_machines.py.
"""

import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

from fl_research import runtime
from fl_research.runtime import remote_worker
from fl_research.runtime.in_process import in_process_runtime
from fl_research.runtime.worker_process import WorkerProcess
from tests.learning import small_cohorts
from tests.runtime.conftest import StartWorkers

pytestmark = pytest.mark.usefixtures("tff_runtime")

ENDLESS = 2**31 - 1


def _over(workers: list[WorkerProcess], timeout_seconds: float = 60.0) -> Any:
    """A runtime over these workers."""
    return runtime.local_runtime(
        workers=[worker.address for worker in workers],
        call_timeout_seconds=timeout_seconds,
        redirect_stderr=False,
    )


def _bits(structure: Any) -> list[tuple[str, bytes]]:
    """The type and the bytes of each array of a structure."""
    return [(str(leaf.dtype), leaf.tobytes()) for leaf in small_cohorts.leaves(structure)]


def _count_at_clients() -> Any:
    """A computation whose clients each count up to the server's number plus their own."""
    import tensorflow as tf
    import tensorflow_federated as tff

    @tff.tensorflow.computation(np.int32, np.int32)
    def count(limit, more):
        return tf.while_loop(lambda i: i < limit, lambda i: i + 1, [tf.constant(0)])[0] + more

    @tff.federated_computation(
        tff.FederatedType(np.int32, tff.SERVER), tff.FederatedType(np.int32, tff.CLIENTS)
    )
    def total(limit, more):
        return tff.federated_sum(tff.federated_map(count, (tff.federated_broadcast(limit), more)))

    return total


@pytest.mark.slow
def test_three_rounds_and_an_evaluation_have_the_bits_of_one_worker(
    start_workers: StartWorkers,
) -> None:
    """Over three workers and two, with seven blocks, one of them empty; the server has a state.

    With the server's part in this process the bits are those of any number of workers, and the
    numbers those that this process computes alone, up to rounding.
    """
    from fl_research.learning.evaluation import build_evaluation

    model = small_cohorts.model("mlp")
    query = small_cohorts.query(
        "adaptive_gaussian", population=100, clip_norm=1.0, noise_multiplier=0.5
    )
    process = small_cohorts.process(
        model, query, server_optimizer=small_cohorts.optimizer("adam", 0.1), batch_size=2
    )
    evaluation = build_evaluation(model, small_cohorts.OBJECTIVE)
    data = small_cohorts.clients([3, 1, 9, 0, 2, 40])

    def trained() -> Any:
        state, outputs = process.initialize(), []
        for number in range(3):
            blocks = small_cohorts.blocks(data, num_blocks=7, round_number=number)
            outputs.append(process.next(state, blocks))
            state = outputs[-1].state
        return outputs, evaluation(process.get_model_weights(state), blocks)

    alone = trained()
    workers = start_workers(3)
    for number in (3, 2):
        with _over(workers[:number]):
            spread = trained()
        assert _bits(spread) == _bits(alone)
        assert type(spread[0][0].state) is type(alone[0][0].state)
    used = [psutil.Process(worker.process_id).cpu_times().user for worker in workers]
    assert min(used) > 0.05, f"each worker has worked: {used} s"
    here = []
    for number in (0, 2, 3):
        addresses = [worker.address for worker in workers[:number]]
        with in_process_runtime(workers=addresses, redirect_stderr=False):
            here.append(trained())
    assert _bits(here[1]) == _bits(here[2])
    for one, other in zip(here[0][0], here[1][0], strict=True):
        small_cohorts.assert_states_close(one.state, other.state, rtol=1e-4, atol=1e-5)


def test_workers_get_equal_contiguous_shares_and_those_without_are_left_out(
    start_workers: StartWorkers,
) -> None:
    from fl_research.runtime import spread_context

    shares = spread_context._shares(7, 3)
    assert [list(range(7))[share] for share in shares] == [[0, 1], [2, 3, 4], [5, 6]]
    assert sum(s.stop - s.start for s in spread_context._shares(1, 3)) == 1
    total = _count_at_clients()
    workers = start_workers(2)
    with _over(workers):
        assert total(3, [10, 20, 30]) == 3 * 3 + 60
        os.kill(workers[0].process_id, signal.SIGSTOP)
        assert total(3, [10]) == 13, "the share of one of two clients is the second worker's"
        os.kill(workers[0].process_id, signal.SIGCONT)


@pytest.mark.parametrize("case", ["killed", "stopped", "too slow"])
def test_a_worker_that_fails_in_mid_round_is_one_clear_error_in_time(
    start_workers: StartWorkers, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped worker is noticed long before a call may have taken too long."""
    monkeypatch.setattr(remote_worker, "SILENCE_SECONDS", 2.0)
    signals = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "too slow": signal.SIGCONT}
    words = {
        "killed": "ended, or the connection to it broke",
        "stopped": "has not answered for 2 s",
        "too slow": "did not finish a call within --worker_timeout_seconds=3",
    }
    total = _count_at_clients()
    workers = start_workers(3)
    victim = workers[1]
    with _over(workers, timeout_seconds=3.0 if case == "too slow" else 60.0):
        assert total(3, [1, 1, 1]) == 12
        threading.Timer(1.0, os.kill, (victim.process_id, signals[case])).start()
        started = time.monotonic()
        with pytest.raises(runtime.WorkerError, match=words[case]) as caught:
            total(ENDLESS, [0, 0, 0])
        assert time.monotonic() - started < {"killed": 2.0, "stopped": 5.0, "too slow": 4.5}[case]
        message = str(caught.value)
        named = [worker.address for worker in workers if worker.address in message]
        assert len(named) == 1 and (named == [victim.address] or case == "too slow")
        assert "run the same command again" in message and "\n" not in message
        with pytest.raises(runtime.WorkerError):
            total(3, [1, 1, 1])
        left = time.monotonic()
    assert time.monotonic() - left < 3, "leaving does not wait for lost workers"


def test_ctrl_c_in_mid_round_leaves_at_once(start_workers: StartWorkers) -> None:
    total = _count_at_clients()
    workers = start_workers(2)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        with _over(workers):
            total(3, [1, 1])
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            total(ENDLESS, [0, 0])
    assert time.monotonic() - started < 5
    assert all(worker.is_alive() for worker in workers), "they belong to another machine"


def test_an_error_inside_a_computation_is_passed_on_and_the_workers_go_on(
    start_workers: StartWorkers,
) -> None:
    import tensorflow as tf
    import tensorflow_federated as tff

    @tff.tensorflow.computation(np.int32)
    def refuse(value):
        with tf.control_dependencies([tf.debugging.Assert(value > 0, ["too small"])]):
            return tf.identity(value)

    @tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS), np.int32)
    def total(values, unused):
        return tff.federated_sum(tff.federated_map(refuse, values))

    with _over(start_workers(2)):
        with pytest.raises(grpc.RpcError, match="too small"):
            total([1, 1, -1], 0)
        assert total([1, 1, 1], 0) == 3


def test_a_worker_that_was_started_again_between_two_rounds_is_an_error(
    start_workers: StartWorkers,
) -> None:
    total = _count_at_clients()
    (worker,) = start_workers(1)
    port = int(worker.address.rpartition(":")[2])
    with _over([worker]):
        assert total(3, [1]) == 4
        worker.stop()
        again = WorkerProcess(worker._log_path, port=port)
        again.start()
        again.wait_until_listening()
        try:
            with pytest.raises(runtime.WorkerError, match=worker.address):
                total(3, [1])
        finally:
            again.stop()


def test_what_cannot_be_reached_is_named_before_anything_starts(
    start_workers: StartWorkers,
) -> None:
    (worker,) = start_workers(1)
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0)) as silent:
        closed.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in (closed, silent)]
        started = time.monotonic()
        with pytest.raises(runtime.WorkerError) as caught:
            with runtime.local_runtime(
                workers=[*addresses, worker.address, "no-such-host.invalid:1"],
                call_timeout_seconds=1.0,
            ):
                raise AssertionError("not entered")
    message = str(caught.value)
    assert f"{addresses[0]} (Connection refused)" in message
    assert f"{addresses[1]} (it takes a connection, but does not answer)" in message
    assert "no-such-host.invalid:1 (" in message
    assert worker.address not in message and "\n" not in message
    assert time.monotonic() - started < 10


def test_another_grpc_server_is_no_worker() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(runtime.WorkerError, match=f"127.0.0.1:{port} .* no TFF worker"):
            with runtime.local_runtime(workers=[f"127.0.0.1:{port}"], redirect_stderr=False):
                raise AssertionError("not entered")
    finally:
        server.stop(None)


def test_what_cannot_be_split_runs_here_with_a_warning(start_workers: StartWorkers) -> None:
    import tensorflow_federated as tff

    @tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS), np.int32)
    def total(values, unused):
        return tff.federated_sum(values)

    add_one: Callable[[int], int] = tff.tensorflow.computation(lambda x: x + 1, np.int32)
    (worker,) = start_workers(1)
    with _over([worker]):
        os.kill(worker.process_id, signal.SIGSTOP)  # so that it cannot take part
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert add_one(1) == 2, "without clients there is nothing to spread, nor to warn of"
        with pytest.warns(UserWarning, match="runs on this machine alone"):
            assert total([1, 2, 3], 0) == 6
        os.kill(worker.process_id, signal.SIGCONT)


@pytest.mark.slow
def test_the_memory_of_a_worker_does_not_grow_over_rounds(start_workers: StartWorkers) -> None:
    """60 rounds that send 4 MiB each: 240 MiB if nothing were freed."""
    import tensorflow as tf
    import tensorflow_federated as tff

    values_type = tff.TensorType(np.float32, [None])

    @tff.tensorflow.computation(values_type)
    def mean(values):
        return tf.reduce_mean(values)

    @tff.federated_computation(tff.FederatedType(values_type, tff.CLIENTS), np.int32)
    def total(values, unused):
        return tff.federated_sum(tff.federated_map(mean, values))

    (worker,) = start_workers(1)
    process = psutil.Process(worker.process_id)
    memory = []
    with _over([worker]):
        for _ in range(70):
            assert total([np.ones(2**19, np.float32)] * 2, 0) == 2
            memory.append(process.memory_info().rss / 2**20)
    # The least of some rounds: what is about to be freed is no growth.
    before, after = min(memory[5:20]), min(memory[-20:])
    assert after - before < 40, f"MiB: {before:.0f} to {after:.0f}"
