"""Canary directions and the law of a canary that took no part."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from scipy import stats

from fl_research.audit.canaries import canary_signs, log_false_positive_rate, rademacher_chunks
from fl_research.audit.one_shot import cosines
from fl_research.errors import InputError


def test_signs_are_a_function_of_seed_and_index() -> None:
    signs = canary_signs(3, 5, 1001)
    assert signs.shape == (1001,) and signs.dtype == np.int8 and set(signs) == {-1, 1}
    np.testing.assert_array_equal(signs, canary_signs(3, 5, 1001))
    assert np.any(signs != canary_signs(3, 6, 1001)) and np.any(signs != canary_signs(4, 5, 1001))


def test_chunks_are_unit_vectors_in_order() -> None:
    chunks = list(rademacher_chunks(1, range(7), 100, rows_per_chunk=3))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    rows = np.concatenate(chunks)
    np.testing.assert_array_equal(np.sign(rows[4]), canary_signs(1, 4, 100))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("release", ["normal", "heavy"])
def test_rademacher_cosines_are_normal_enough(release: str) -> None:
    """Kolmogorov-Smirnov, 10,000 canaries at d = 2,000; false alarm 1e-6 each.

    "heavy" has t-distributed coordinates with 5 degrees of freedom, as a trained model may.
    """
    dimension, count = 2000, 10_000
    random = np.random.default_rng(11)
    released = {
        "normal": random.standard_normal(dimension),
        "heavy": random.standard_t(5, dimension),
    }[release]
    observed = cosines(released, rademacher_chunks(0, range(count), dimension, 1000))
    scores = math.sqrt(dimension) * observed
    assert stats.kstest(scores, "norm").pvalue > 1e-6
    # So many canaries show a scale that is wrong by a seventh.
    assert stats.kstest(scores * 1.15, "norm").pvalue < 1e-6
    # The count beyond each threshold is explained by the bound (false alarm 1e-7 each).
    for score in (0.0, 1.0, 2.0, 3.0, 4.0):
        log_rate = log_false_positive_rate(
            score / math.sqrt(dimension), dimension=dimension, directions="rademacher"
        )
        allowed = stats.binom.isf(1e-7, count, math.exp(log_rate))
        assert np.sum(scores > score) <= allowed


@pytest.mark.parametrize(
    "weights",
    [[1.0], [1, 1], [1, 1, 1], [3, 1, 1, 1], [1] * 9, [1] * 12, [0.9**i for i in range(12)]],
)
def test_no_release_passes_the_rademacher_bound(weights: list[float]) -> None:
    """Counts all sign patterns, also of releases that a few coordinates carry: d up to 12."""
    unit = np.array(weights) / np.linalg.norm(weights)
    sums = np.array(list(itertools.product([-1, 1], repeat=len(unit)))) @ unit
    dimension = max(len(unit), 2)  # Further coordinates of the release are zero.
    reached = np.unique(np.round(sums[sums > 1e-9], 12))
    for score in np.concatenate([[0.0], reached - 1e-6, reached + 1e-6]):
        cosine = max(score, 0.0) / math.sqrt(dimension)
        if cosine > 1:
            continue
        bound = log_false_positive_rate(cosine, dimension=dimension, directions="rademacher")
        assert np.mean(sums > score + 1e-9) <= math.exp(bound) * (1 + 1e-9)


def test_the_rademacher_bound_lies_between_the_normal_tail_and_hoeffding() -> None:
    scores = np.linspace(0, 60, 601)
    bound = log_false_positive_rate(scores / 1000, dimension=1_000_000, directions="rademacher")
    assert np.all(bound <= -(scores**2) / 2)
    assert np.all(bound >= stats.norm.logsf(scores))


@pytest.mark.parametrize("dimension", [2, 3, 10, 2000, 1_000_000])
def test_the_sphere_tail_agrees_with_many_digits(dimension: int) -> None:
    for score in (0.0, 1.0, 8.0, 30.0, 64.0):
        cosine = score / math.sqrt(dimension)
        if cosine >= 1:
            continue
        with mpmath.workdps(60):
            square = mpmath.mpf(cosine) ** 2
            # The complement where it converges fast: P(cosine² > x) / 2.
            tail = mpmath.betainc(
                mpmath.mpf(dimension - 1) / 2, 0.5, 0, 1 - square, regularized=True
            )
            exact = float(mpmath.log(tail / 2))
        found = float(log_false_positive_rate(cosine, dimension=dimension))
        if exact > math.log(1e-250):
            assert found == pytest.approx(exact, abs=1e-6)
        else:
            assert exact <= found <= exact + 10


def test_sphere_tail_is_a_cap_in_three_dimensions() -> None:
    """Archimedes: the height of a point on the sphere is uniform."""
    heights = np.linspace(0, 0.999, 50)
    np.testing.assert_allclose(
        np.exp(log_false_positive_rate(heights, dimension=3)), (1 - heights) / 2, rtol=1e-9
    )


def test_rounds_multiply_up_to_one() -> None:
    once = log_false_positive_rate(0.004, dimension=1_000_000)
    thrice = log_false_positive_rate(0.004, dimension=1_000_000, rounds=3)
    assert thrice == pytest.approx(once + math.log(3))
    assert log_false_positive_rate(0.0, dimension=1_000_000, rounds=3) == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dimension": 1}, "dimension=1"),
        ({"directions": "normal"}, "directions='normal'"),
        ({"rounds": 0}, "rounds=0"),
        ({"threshold": -0.1}, "threshold=-0.1"),
        ({"threshold": math.nan}, "threshold=nan"),
    ],
)
def test_wrong_input_is_refused(changes: dict, named: str) -> None:
    arguments = {"threshold": 0.1, "dimension": 100} | changes
    with pytest.raises(InputError, match=named):
        log_false_positive_rate(arguments.pop("threshold"), **arguments)
    with pytest.raises(InputError, match="index=-1"):
        canary_signs(0, -1, 5)
