"""A run over workers on several machines: the flags, one lost in mid-round, the cable pulled.

The runs go through the binary's own `main` in this process; the workers are real processes of
`experiments.worker`, and in one test each has a network namespace, an address and a link of its
own. A run must end where the run ends that one machine computes alone: with the same bits if the
server's part is computed by a worker too, and up to rounding if it is computed in this process.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import churn_prevention, experiment_flags
from fl_research.errors import InputError
from fl_research.privacy.ledger import read_ledger
from fl_research.run.checkpoints import CheckpointStore
from fl_research.runtime import WorkerError, remote_worker
from tests.experiments.test_worker import free_port

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 30
RUN = [f"--rounds={ROUNDS}", "--noise_multiplier=1", "--noise_seed=7", "--evaluate_every=100"]
_CAN_MAKE_NETWORKS = os.geteuid() == 0 and shutil.which("ip") is not None

Started = Callable[..., subprocess.Popen[str]]


def _main(output: Path, *arguments: str) -> None:
    """Runs the churn binary's main in this process."""
    with flagsaver.flagsaver():
        flags.FLAGS(["churn_prevention", f"--output_dir={output}", *arguments])
        churn_prevention.main([])


def _digests(folder: Path) -> dict[int, str]:
    """The digest of the state after each released round."""
    entries = read_ledger(folder / "ledger.jsonl")
    payloads = [entry.payload for entry in entries if entry.kind == "release"]
    assert len({payload["round"] for payload in payloads}) == len(payloads), "none twice"
    return {payload["round"]: payload["state_sha256"] for payload in payloads}


def _final_state(folder: Path) -> list[np.ndarray]:
    """The arrays of the state after the last round."""
    checkpoint = CheckpointStore(folder / "checkpoints").latest()
    assert checkpoint is not None and checkpoint.round_number == ROUNDS
    return [np.asarray(array) for array in checkpoint.arrays]


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Started]:
    """Starts a worker binary, perhaps in a network namespace, and waits until it listens."""
    processes: list[subprocess.Popen[str]] = []

    def start(port: int, namespace: str | None = None) -> subprocess.Popen[str]:
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        command = [sys.executable, "-m", "experiments.worker", f"--port={port}"]
        log = tmp_path / f"worker_{namespace}_{port}.log"
        process = subprocess.Popen(
            [*inside, *command, f"--log_file={log}"], cwd=ROOT, text=True, stdout=subprocess.PIPE
        )
        processes.append(process)
        assert "listening" in process.stdout.readline()
        return process

    yield start
    for process in processes:
        process.terminate()
        process.communicate(timeout=20)


def _in_mid_round(ledger: Path, strike: Callable[[], None], then: Callable[[], None]) -> None:
    """Calls `strike` after some rounds, and `then` once the round that it struck stands still."""
    deadline = time.monotonic() + 120
    while not ledger.exists() or ledger.read_bytes().count(b'"release"') < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    strike()
    size, since = -1, 0.0
    while size != ledger.stat().st_size or time.monotonic() - since < 1:
        if size != ledger.stat().st_size:
            size, since = ledger.stat().st_size, time.monotonic()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    then()


def _lose_a_worker(
    output: Path, arguments: list[str], strike: Callable[[], None], then: Callable[[], None]
) -> str:
    """Starts a run that loses a worker in mid-round; returns the error after a look at the disk."""
    watcher = threading.Thread(
        target=_in_mid_round, args=(output / "run" / "ledger.jsonl", strike, then), daemon=True
    )
    watcher.start()
    with pytest.raises(WorkerError) as caught:
        _main(output, "--run_name=run", *arguments)
    watcher.join()
    entries = read_ledger(output / "run" / "ledger.jsonl")
    released = len(_digests(output / "run"))
    assert entries[-1].kind == "round_started"
    assert entries[-1].payload["round"] == released + 1, "begun, and nothing of it was released"
    assert json.loads((output / "run" / "run.json").read_text())["status"] == "failed"
    assert 3 <= released < ROUNDS
    return str(caught.value)


@pytest.mark.slow
def test_one_of_three_workers_is_killed_in_mid_round_and_the_two_left_finish(
    tmp_path: Path, start_worker: Started
) -> None:
    """The worker stands still in a round, then is killed with -9."""
    run = [*RUN, "--runtime=worker"]
    _main(tmp_path, "--run_name=alone", "--num_blocks=6", *run)
    ports = [free_port() for _ in range(3)]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    workers = [start_worker(port) for port in ports]
    (victim,) = psutil.Process(workers[1].pid).children()
    message = _lose_a_worker(
        tmp_path, [*run, f"--workers={','.join(addresses)}"], victim.suspend, victim.kill
    )
    assert re.search(rf"the TFF worker at {addresses[1]} ended, or the connection", message)
    assert workers[1].wait(timeout=10) == 1, "its binary says so on its own machine, too"
    _main(tmp_path, "--run_name=run", *run, f"--workers={addresses[0]},{addresses[2]}")
    assert _digests(tmp_path / "run") == _digests(tmp_path / "alone")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["num_blocks"] == 6
    assert all(worker.poll() is None for worker in (workers[0], workers[2]))


@contextlib.contextmanager
def _networks(number: int) -> Iterator[list[tuple[str, str, str]]]:
    """Makes namespaces, each with a link to this one: (namespace, its end of the link, address)."""
    made = []
    with contextlib.ExitStack() as stack:
        for index in range(number):
            namespace, ours, theirs = (f"{kind}{os.getpid() % 10**6}{index}" for kind in "noi")
            here, there = (f"10.219.{index}.{host}" for host in (1, 2))
            _ip("netns", "add", namespace)
            stack.callback(_ip, "netns", "del", namespace)
            _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", namespace)
            _ip("addr", "add", f"{here}/30", "dev", ours)
            _ip("link", "set", ours, "up")
            _ip("-n", namespace, "link", "set", "lo", "up")
            _ip("-n", namespace, "addr", "add", f"{there}/30", "dev", theirs)
            _ip("-n", namespace, "link", "set", theirs, "up")
            made.append((namespace, theirs, there))
        yield made


def _ip(*arguments: str) -> None:
    """Runs `ip`."""
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {result.stderr.strip()}")


@pytest.mark.slow
@pytest.mark.skipif(not _CAN_MAKE_NETWORKS, reason="network namespaces need root and iproute2's ip")
def test_across_two_networks_the_cable_is_pulled_in_mid_round_and_put_back(
    tmp_path: Path, start_worker: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing closes the connection of a pulled cable: only the silence tells."""
    monkeypatch.setattr(remote_worker, "SILENCE_SECONDS", 3.0)
    with contextlib.ExitStack() as stack:
        try:
            networks = stack.enter_context(_networks(2))
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        for namespace, _, _ in networks:
            stack.callback(start_worker(8470, namespace).terminate)
        arguments = [
            *RUN,
            "--num_blocks=6",
            f"--workers={networks[0][2]}:8470,{networks[1][2]}:8470",
        ]
        namespace, link, address = networks[1]
        times = []

        def pull() -> None:
            times.append(time.monotonic())
            _ip("-n", namespace, "link", "set", link, "down")

        message = _lose_a_worker(tmp_path, arguments, pull, lambda: None)
        assert time.monotonic() - times[0] < 15
        assert f"the TFF worker at {address}:8470 has not answered for 3 s" in message
        _ip("-n", namespace, "link", "set", link, "up")
        _main(tmp_path, "--run_name=run", *arguments)
    _main(tmp_path, "--run_name=alone", "--num_blocks=6", *RUN)
    pairs = zip(_final_state(tmp_path / "run"), _final_state(tmp_path / "alone"), strict=True)
    for spread, alone in pairs:
        np.testing.assert_allclose(spread, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers=here"], "--workers=here: 'here' is no address of a worker"),
        (["--workers=a:1,a:1"], "--workers=a:1,a:1: a:1 is there twice"),
        (["--workers="], "--workers= names no worker"),
        (["--worker_timeout_seconds=0"], "--worker_timeout_seconds=0 must be"),
        (["--workers=a:1", "--num_blocks=0"], "num_blocks=0"),
    ],
)
def test_wrong_flags_are_one_clear_line_and_write_nothing(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as error:
        _main(tmp_path / "runs", *arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_where_a_run_computes_is_no_part_of_what_it_is() -> None:
    """So that other workers may go on with it: neither the flag file nor the name holds them."""
    texts = []
    for arguments in ([], ["--workers=a:1,b:2", "--worker_timeout_seconds=9"]):
        with flagsaver.flagsaver():
            flags.FLAGS(["churn_prevention", *arguments])
            texts.append(experiment_flags.flags_text("experiments.experiment_flags"))
    assert texts[0] == texts[1]
    assert "worker" not in texts[0] and "--seed" in texts[0]


@pytest.mark.slow
def test_an_unreachable_worker_is_named_before_a_round_begins(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(WorkerError, match=rf"reached at {address} \(Connection refused\)"):
        _main(tmp_path, "--run_name=run", *RUN, f"--workers={address}")
    assert not (tmp_path / "run" / "ledger.jsonl").exists()
