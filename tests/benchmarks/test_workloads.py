"""The benchmark's workloads: the same for every process, and what the issue's table says."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import workloads
from benchmarks.workloads import Workload

REPOSITORY = Path(__file__).resolve().parents[2]
# Name to (population, cohort, batch size, classes, parameters).
FACTS = {
    "mlp": (1000, 100, 20, 2, 20 * 64 + 64 + 64 * 2 + 2),
    "text": (1000, 50, 20, 77, 5000 * 64 + 64 * 77 + 77),
    "gru": (1000, 50, 20, 2, (4 + 32 + 2) * 96 + 32 * 2 + 2),
    "cnn": (200, 20, 20, 62, 320 + 9 * 32 * 64 + 64 + 7744 * 128 + 128 + 128 * 62 + 62),
    "telco": (5600, 560, 1, 2, 47),
    "skewed": (1000, 100, 20, 2, 20 * 64 + 64 + 64 * 2 + 2),
}
ROWS = {"mlp": 100, "text": 100, "gru": 100, "cnn": 100, "telco": 1}
SHAPES = {"gru": (28, 4), "cnn": (28, 28, 1), "telco": (46,)}


@pytest.fixture(scope="module", params=workloads.NAMES)
def workload(request: pytest.FixtureRequest) -> Workload:
    return workloads.load(request.param)


def _checksum(workload: Workload) -> str:
    """Returns a checksum of everything that is drawn."""
    arrays = [*workload.features.values(), workload.labels, workload.row_splits]
    arrays += [*workload.initial_weights.values(), workload.cohort(1), workload.cohort(7)]
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def test_there_is_a_workload_for_each_row_of_the_table() -> None:
    assert set(workloads.NAMES) == set(FACTS)


def test_sizes_are_those_of_the_table(workload: Workload) -> None:
    population, cohort, batch_size, classes, parameters = FACTS[workload.name]
    assert workload.num_clients == population
    assert workload.expected_cohort_size == cohort
    assert workload.batch_size == batch_size
    assert workload.num_classes == classes
    assert sum(w.size for w in workload.initial_weights.values()) == parameters
    assert {w.dtype for w in workload.initial_weights.values()} == {np.dtype(np.float32)}
    sizes = np.diff(workload.row_splits)
    if workload.name in ROWS:
        assert set(sizes) == {ROWS[workload.name]}


def test_client_sizes_of_skewed_are_lognormal_within_bounds() -> None:
    sizes = np.diff(workloads.load("skewed").row_splits)
    assert sizes.min() >= 1
    assert sizes.max() <= 5000
    inner = np.log(sizes[(sizes > 3) & (sizes < 1500)])
    assert np.median(np.log(sizes)) == pytest.approx(4.0, abs=0.2)
    assert inner.std() > 1.0
    assert (sizes > 1000).any()


def test_rows_fit_the_model(workload: Workload) -> None:
    ((name, values),) = workload.features.items()
    rows = workload.row_splits[-1]
    assert len(values) == len(workload.labels) == rows
    assert workload.row_splits[0] == 0
    assert workload.labels.dtype == np.int32
    assert set(np.unique(workload.labels)) <= set(range(workload.num_classes))
    if workload.name == "text":
        assert (name, values.dtype, values.shape[1:]) == ("tokens", np.int32, (20,))
        assert values.min() == 0
        assert values.max() == 4999
        counts = np.bincount(values.ravel(), minlength=5000)
        assert counts[0] > 20 * counts[100:200].mean()  # a few tokens make up most of the text
    else:
        shape = SHAPES.get(workload.name, (20,))
        assert (name, values.dtype, values.shape[1:]) == ("inputs", np.float32, shape)


def test_a_client_owns_its_rows(workload: Workload) -> None:
    features, labels = workload.client(3)
    start, stop = workload.row_splits[3:5]
    np.testing.assert_array_equal(labels, workload.labels[start:stop])
    for name, values in features.items():
        np.testing.assert_array_equal(values, workload.features[name][start:stop])


def test_cohorts_are_pure_in_the_round_and_differ(workload: Workload) -> None:
    cohorts = [workload.cohort(number) for number in range(4)]
    again = workloads.load(workload.name)
    for number, cohort in enumerate(cohorts):
        assert cohort.dtype == np.int64
        np.testing.assert_array_equal(cohort, again.cohort(number))
        assert len(set(cohort)) == len(cohort)
        assert np.all(np.diff(cohort) > 0)
        assert 0 <= cohort[0] <= cohort[-1] < workload.num_clients
        if not workload.poisson:
            assert len(cohort) == workload.expected_cohort_size
    assert len({tuple(cohort) for cohort in cohorts}) == len(cohorts)


def test_only_telco_samples_by_poisson_around_its_mean() -> None:
    assert [name for name in FACTS if workloads.load(name).poisson] == ["telco"]
    telco = workloads.load("telco")
    sizes = [len(telco.cohort(number)) for number in range(200)]
    assert len(set(sizes)) > 20
    assert np.mean(sizes) == pytest.approx(560, abs=5 * np.sqrt(560 * 0.9 / 200))


def test_another_process_draws_the_same() -> None:
    program = """
import sys
from benchmarks import workloads
from tests.benchmarks.test_workloads import _checksum
print(*(_checksum(workloads.load(name)) for name in ("telco", "skewed")))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    expected = [_checksum(workloads.load(name)) for name in ("telco", "skewed")]
    assert result.stdout.split() == expected


def test_the_check_has_no_noise_and_another_clip() -> None:
    workload = workloads.load("telco")
    checked = workload.for_check(0.5)
    assert (checked.clip_norm, checked.noise_multiplier) == (0.5, 0.0)
    assert (workload.clip_norm, workload.noise_multiplier) == (1.0, 1.0)
    assert checked.labels is workload.labels


def test_the_clip_of_the_check_reaches_some_clients_of_telco_and_not_others() -> None:
    """Computes the updates by hand: one row a client, so one step of logistic regression."""
    workload = workloads.load("telco")
    rows = workload.row_splits[workload.cohort(1)]
    inputs, labels = workload.features["inputs"][rows], workload.labels[rows]
    logits = inputs @ workload.initial_weights["output_kernel"][:, 0]
    errors = 1 / (1 + np.exp(-logits)) - labels
    norms = 0.1 * np.abs(errors) * np.sqrt(np.sum(inputs**2, axis=1) + 1)
    assert 0.3 < np.mean(norms > workload.check_clip_norm) < 0.7


def test_a_name_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="workload='mpl' is not known; give one of mlp, text"):
        workloads.load("mpl")
