"""The audit by repeated runs: never above the truth, near to it with many runs, and no slacker."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from fl_research.audit.gaussian_epsilon import epsilon_between_normals
from fl_research.audit.repeated_runs import (
    RepeatedRunsAudit,
    audit_repeated_runs,
    detectable_epsilon,
)
from fl_research.errors import InputError
from fl_research.randomness import generator

_SIGMA = 3.73  # epsilon = 1.003 at delta = 1e-5
_DELTA = 1e-5


def _gaussian_audit(
    sigma: float, runs: int, repetition: int, confidence: float = 0.95
) -> RepeatedRunsAudit:
    """A sum of sensitivity 1 with normal noise, released with and without the client."""
    random = generator(0, f"gaussian_{sigma}", repetition)
    outs, ins = sigma * random.standard_normal((2, runs))
    return audit_repeated_runs(ins + 1, outs, delta=_DELTA, confidence=confidence)


@pytest.mark.parametrize("sigma", [_SIGMA, 1.0, 0.3])
def test_the_bound_never_passes_the_truth(sigma: float) -> None:
    """100 repetitions at an error of 1e-9 each: false alarm 1e-7."""
    truth = epsilon_between_normals(0, sigma, 1, sigma, _DELTA)
    for repetition in range(100):
        audit = _gaussian_audit(sigma, 1000, repetition, confidence=1 - 1e-9)
        assert audit.epsilon_lower <= truth


@pytest.mark.parametrize("confidence", [0.7, 0.95])
def test_the_bound_holds_as_often_as_stated_where_it_is_tight(confidence: float) -> None:
    """Randomised response, whose two outputs are the best event; 300 repetitions.

    More misses than a fair bound has with probability 1e-6 fail.
    """
    epsilon, runs, repetitions = 1.5, 200, 300
    truthful = math.exp(epsilon) / (1 + math.exp(epsilon))
    random = generator(1, "randomised_response")
    misses = 0
    for _ in range(repetitions):
        ins, outs = random.random((2, runs)) < np.array([[truthful], [1 - truthful]])
        audit = audit_repeated_runs(ins, outs, delta=1e-9, confidence=confidence)
        misses += audit.epsilon_lower > epsilon
    assert misses <= stats.binom.isf(1e-6, repetitions, 1 - confidence)
    assert misses > 0  # It is tight: a bound that never misses would be too low.


def test_many_runs_come_near_the_truth() -> None:
    truth = epsilon_between_normals(0, _SIGMA, 1, _SIGMA, _DELTA)
    assert truth == pytest.approx(1.0, abs=0.005)
    assert _gaussian_audit(_SIGMA, 1_000_000, 0).epsilon_lower > 0.6 * truth
    assert _gaussian_audit(_SIGMA, 20_000, 0).epsilon_lower > 0.25 * truth


def test_noise_three_times_too_small_is_caught() -> None:
    for repetition in range(10):
        audit = _gaussian_audit(_SIGMA / 3, 20_000, repetition)
        assert (
            1.0
            < audit.epsilon_lower
            < epsilon_between_normals(0, _SIGMA / 3, 1, _SIGMA / 3, _DELTA)
        )


def test_a_client_that_is_released_plainly_gives_all_that_runs_can_show() -> None:
    audit = audit_repeated_runs(np.ones(100), np.zeros(100), delta=1e-6)
    assert audit.epsilon_lower == pytest.approx(detectable_epsilon(100, 0.95, 1e-6), rel=1e-12)
    assert audit.epsilon_lower == audit.largest_possible
    root = 0.025 ** (1 / 50)
    assert audit.epsilon_lower == pytest.approx(math.log((root - 1e-6) / (1 - root)), rel=1e-9)
    assert (audit.true_positives, audit.false_positives) == (50, 0)
    assert (audit.counted_in, audit.counted_out, audit.choosing_in, audit.choosing_out) == (50,) * 4
    assert 0 < audit.threshold < 1 and audit.above
    assert audit.true_positive_rate_lower == pytest.approx(root)
    assert audit.false_positive_rate_upper == pytest.approx(1 - root)


def test_a_gap_in_the_middle_of_the_runs_is_found() -> None:
    """Both sides are spread wide, and no quantile of either falls into the gap by itself."""
    random = generator(2, "gap")
    ins, outs = 1e-3 + random.random(5000), -random.random(5000)
    audit = audit_repeated_runs(ins, outs, delta=1e-6)
    assert audit.epsilon_lower == pytest.approx(audit.largest_possible)


def test_the_other_sign_gives_the_mirrored_event() -> None:
    random = generator(3, "mirror")
    ins, outs = 1 + random.standard_normal(3000), random.standard_normal(3000)
    plain = audit_repeated_runs(ins, outs, delta=_DELTA)
    mirrored = audit_repeated_runs(-ins, -outs, delta=_DELTA)
    assert plain.above and not mirrored.above
    assert mirrored.epsilon_lower == pytest.approx(plain.epsilon_lower, rel=0.15)
    assert mirrored.epsilon_lower > 1


def test_the_complement_is_used_where_it_says_more() -> None:
    """With the client the statistic is never 0, without it half of the time."""
    outs = np.tile([0.0, 1.0], 1000)
    audit = audit_repeated_runs(np.ones(2000), outs, delta=1e-6)
    assert audit.by_complement
    assert audit.epsilon_lower > 4
    swapped = audit_repeated_runs(outs, np.ones(2000), delta=1e-6)
    assert swapped.epsilon_lower == pytest.approx(audit.epsilon_lower, rel=1e-9)


def test_the_counted_half_has_no_say_in_the_threshold() -> None:
    random = generator(4, "halves")
    ins, outs = 1 + random.standard_normal(400), random.standard_normal(400)
    first = audit_repeated_runs(ins, outs, delta=_DELTA)
    ins[200:], outs[200:] = outs[200:].copy(), ins[200:].copy()
    second = audit_repeated_runs(ins, outs, delta=_DELTA)
    assert (first.threshold, first.above) == (second.threshold, second.above)
    assert second.epsilon_lower == 0 and first.epsilon_lower > 0


def test_what_delta_explains_is_no_evidence() -> None:
    """A client that is shown in one run of ten, and a delta of 0.2."""
    ins, outs = (np.arange(5000) % 10 == 0).astype(float), np.zeros(5000)
    assert audit_repeated_runs(ins, outs, delta=0.2).epsilon_lower == 0
    assert audit_repeated_runs(ins, outs, delta=1e-3).epsilon_lower > 3


def test_detectable_epsilon_grows_with_runs_and_falls_with_confidence() -> None:
    found = [detectable_epsilon(runs, 0.95, 1e-6) for runs in (12, 20, 100, 1000, 10**6)]
    assert all(a < b for a, b in itertools.pairwise(found))
    # About log(counted runs / -log(error / 2)): 500 runs, 0.025.
    assert found[3] == pytest.approx(math.log(500 / -math.log(0.025)), abs=0.01)
    assert detectable_epsilon(1000, 0.99, 1e-6) < found[3]
    assert detectable_epsilon(4, 0.999999, 1e-6) == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"in_statistics": np.ones(3)}, r"in_statistics has shape \[3\]"),
        ({"out_statistics": np.ones((5, 1))}, r"out_statistics has shape \[5, 1\]"),
        ({"in_statistics": np.array([1, 2, 3, np.nan])}, "in_statistics is not finite in 1 runs"),
        ({"delta": 0}, "delta=0"),
        ({"confidence": 1.0}, "confidence=1.0"),
    ],
)
def test_wrong_input_is_refused(changes: dict, named: str) -> None:
    arguments = {"in_statistics": np.ones(8), "out_statistics": np.ones(8), "delta": 1e-6} | changes
    with pytest.raises(InputError, match=named):
        audit_repeated_runs(
            arguments.pop("in_statistics"), arguments.pop("out_statistics"), **arguments
        )
    with pytest.raises(InputError, match="runs=3"):
        detectable_epsilon(3, 0.95, 1e-6)
