"""Checkpoints: equal to the bit, recognised when damaged, committed in two phases."""

import os
import resource
from pathlib import Path

import numpy as np
import pytest

from fl_research.errors import InputError
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.run.checkpoints import CheckpointStore, state_digest


def _arrays() -> list[np.ndarray]:
    """Returns arrays of the kinds that a server state has, odd values included."""
    nan_with_payload = np.array([0x7FC00001], np.uint32).view(np.float32)
    return [
        np.arange(12, dtype=np.float32).reshape(3, 4).T,
        np.array(-(2**62), np.int64),
        np.array([0.0, -0.0, np.inf, -np.inf], np.float32),
        nan_with_payload,
        np.array([True, False]),
        np.zeros((0, 3), np.float64),
        np.array([1, 2], ">i4"),
        np.float32(0.5),
    ]


def _store_with_rounds(folder: Path, rounds: int, keep: int = 3) -> CheckpointStore:
    """Returns a store with the given number of committed rounds, round r holding [r]."""
    store = CheckpointStore(folder, keep=keep)
    for number in range(1, rounds + 1):
        store.prepare(number, [np.array([number], np.float32)], {"round": number})
        store.commit(number)
    return store


def test_arrays_and_metadata_come_back_to_the_bit(tmp_path: Path) -> None:
    arrays = _arrays()
    store = CheckpointStore(tmp_path)
    digest = store.prepare(12, arrays, {"row": {"loss": float("nan"), "round": 12}})
    assert os.listdir(tmp_path) == ["round_000012.ckpt.pending"]
    assert store.latest() is None, "a pending checkpoint does not count"
    store.commit(12)
    loaded = CheckpointStore(tmp_path).latest()
    assert (loaded.round_number, loaded.digest) == (12, digest)
    assert loaded.metadata == {"row": {"loss": None, "round": 12}}
    assert len(loaded.arrays) == len(arrays)
    for got, expected in zip(loaded.arrays, arrays, strict=True):
        assert got.shape == expected.shape
        assert got.dtype == expected.dtype.newbyteorder("=")
        assert got.tobytes() == expected.astype(expected.dtype.newbyteorder("=")).tobytes()
        assert got.flags.writeable
    assert state_digest(loaded.arrays) == digest


def test_the_digest_is_that_of_the_bits(tmp_path: Path) -> None:
    arrays = _arrays()
    digest = state_digest(arrays)
    assert digest == state_digest([np.array(array) for array in _arrays()])
    assert digest == CheckpointStore(tmp_path).prepare(1, arrays, {"anything": "else"})
    changes = [
        (2, np.array([0.0, 0.0, np.inf, -np.inf], np.float32)),  # -0.0 became 0.0
        (0, arrays[0].reshape(3, 4)),
        (1, arrays[1].astype(np.float64)),
        (3, np.array([np.nan], np.float32)),
    ]
    for position, changed in changes:
        other = [*arrays[:position], changed, *arrays[position + 1 :]]
        assert state_digest(other) != digest
    assert state_digest([np.array([1, 2]), np.array([3])]) != state_digest([np.array([1, 2, 3])])


def test_every_cut_and_every_flipped_bit_is_recognised(tmp_path: Path) -> None:
    store = _store_with_rounds(tmp_path, 2)
    path = tmp_path / "round_000002.ckpt"
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(len(whole))]
    damaged += [whole + b"\0"]
    damaged += [
        bytes([*whole[:i], whole[i] ^ (1 << bit), *whole[i + 1 :]])
        for i in range(len(whole))
        for bit in (0, 7)
    ]
    for content in damaged:
        path.write_bytes(content)
        store.warnings.clear()
        assert store.latest().round_number == 1
        assert len(store.warnings) == 1
        assert "round_000002.ckpt is damaged" in store.warnings[0]
        assert "; kept as round_000002.ckpt.corrupt, going back" in store.warnings[0]
        assert (tmp_path / "round_000002.ckpt.corrupt").read_bytes() == content
    path.write_bytes(whole)
    assert store.latest().round_number == 2


def test_a_checkpoint_under_another_rounds_name_is_damaged(tmp_path: Path) -> None:
    store = _store_with_rounds(tmp_path, 1)
    (tmp_path / "round_000001.ckpt").rename(tmp_path / "round_000009.ckpt")
    assert store.latest() is None
    assert "it is of round 1" in store.warnings[0]


def test_the_last_are_kept_and_all_damaged_is_none(tmp_path: Path) -> None:
    store = _store_with_rounds(tmp_path, 5, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["round_000004.ckpt", "round_000005.ckpt"]
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    assert store.latest() is None
    assert len(store.warnings) == 2
    assert sorted(os.listdir(tmp_path)) == [
        "round_000004.ckpt.corrupt",
        "round_000005.ckpt.corrupt",
    ]


def test_rounds_sort_by_number_beyond_six_digits(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for number in (999_999, 1_000_000):
        store.prepare(number, [np.zeros(1)], {})
        store.commit(number)
    assert store.latest().round_number == 1_000_000


def test_pending_is_known_by_its_digest_and_can_be_discarded(tmp_path: Path) -> None:
    store = _store_with_rounds(tmp_path, 3)
    digest = store.prepare(4, [np.array([4.0])], {})
    reopened = CheckpointStore(tmp_path)
    assert reopened.pending(4) == digest
    assert reopened.pending(5) is None
    path = tmp_path / "round_000004.ckpt.pending"
    path.write_bytes(path.read_bytes()[:-1])  # as a killed `prepare` leaves it
    assert reopened.pending(4) is None
    assert reopened.discard_pending() == [4]
    assert reopened.latest().round_number == 3
    with pytest.raises(InputError, match="round_000004"):
        reopened.commit(4)


def test_no_space_leaves_the_committed_ones(tmp_path: Path) -> None:
    store = _store_with_rounds(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(InputError, match="free some space"):
            store.prepare(2, [np.zeros(10_000)], {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["round_000001.ckpt"]
    assert store.latest().round_number == 1


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for wrong in (np.array(["text"]), np.array([None])):
        with pytest.raises(TypeError, match="numbers and booleans"):
            store.prepare(1, [wrong], {})
    assert os.listdir(tmp_path) == []


def test_a_tff_state_comes_back_and_trains_on_to_the_same_bits(
    tff_runtime: None, tmp_path: Path
) -> None:
    """A real state: mappings, tuples, attrs classes and scalars, adaptive clipping's included."""
    import collections

    import tensorflow as tf
    import tensorflow_federated as tff

    from fl_research.models import logistic_regression
    from fl_research.run.server_state import flatten_state, unflatten_state

    model = logistic_regression.build(
        logistic_regression.Config(),
        row_types={"inputs": ((2,), np.dtype(np.float32))},
        objective=BinaryClassification(),
        seed=0,
    )
    process = tff.learning.algorithms.build_weighted_fed_avg(
        model,
        client_optimizer_fn=tff.learning.optimizers.build_sgdm(0.1),
        server_optimizer_fn=tff.learning.optimizers.build_adam(0.1),
        model_aggregator=tff.learning.robust_aggregator(),
    )
    x = collections.OrderedDict(inputs=np.eye(2, dtype=np.float32))
    data = tf.data.Dataset.from_tensors((x, np.array([0, 1], np.int32)))
    initial = process.initialize()
    trained = process.next(initial, [data, data]).state

    store = CheckpointStore(tmp_path)
    digest = store.prepare(1, flatten_state(trained), {})
    store.commit(1)
    restored = unflatten_state(initial, store.latest().arrays)
    assert type(restored) is type(trained)
    assert state_digest(flatten_state(restored)) == digest
    assert state_digest(flatten_state(initial)) != digest

    after = [process.next(state, [data, data]).state for state in (trained, restored)]
    assert state_digest(flatten_state(after[0])) == state_digest(flatten_state(after[1]))

    arrays = flatten_state(trained)
    with pytest.raises(InputError, match=r"has 1 arrays, this model"):
        unflatten_state(initial, arrays[:1])
    with pytest.raises(InputError, match=r"the checkpoint's \S+ is float32\[7\]"):
        unflatten_state(initial, [np.zeros(7, np.float32), *arrays[1:]])
