"""Epsilon between normals: against closed forms in 60 digits, another library, and integrals."""

import math

import mpmath
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution

from fl_research.audit.gaussian_epsilon import epsilon_between_normals, epsilons_between_normals
from fl_research.errors import InputError


def _analytic_delta(epsilon: float, shift: float) -> float:
    """Balle and Wang's theorem 5, in 60 digits."""
    with mpmath.workdps(60):
        e, mu = mpmath.mpf(epsilon), mpmath.mpf(shift)
        return float(mpmath.ncdf(mu / 2 - e / mu) - mpmath.exp(e) * mpmath.ncdf(-mu / 2 - e / mu))


@pytest.mark.parametrize("delta", [1e-2, 1e-6, 1e-10, 1e-14])
@pytest.mark.parametrize("shift", [0.02, 0.237, 1.85, 30.0])
def test_equal_variances_give_the_analytic_gaussian(shift: float, delta: float) -> None:
    epsilon = epsilon_between_normals(5.0, 2.0, 5.0 - 2 * shift, 2.0, delta)
    if epsilon == 0:
        assert _analytic_delta(0, shift) <= delta
    else:
        assert _analytic_delta(epsilon, shift) == pytest.approx(delta, rel=1e-7)


@pytest.mark.parametrize(("sigma", "rounded"), [(4.22, 1), (1.54, 3), (0.541, 10)])
def test_the_papers_noise_levels_and_the_loss_distribution(sigma: float, rounded: float) -> None:
    epsilon = epsilon_between_normals(0, sigma, 1, sigma, 1e-6)
    assert epsilon == pytest.approx(rounded, rel=4e-3)
    loss = privacy_loss_distribution.from_gaussian_mechanism(
        sigma, value_discretization_interval=1e-4
    )
    assert epsilon == pytest.approx(loss.get_epsilon_for_delta(1e-6), abs=2e-4)


@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-10])
@pytest.mark.parametrize(
    ("mean", "std"), [(0.3, 1.1), (0.3, 0.9), (0.0, 1.3), (0.0, 0.5), (2.0, 1.001), (4.0, 3.0)]
)
def test_unequal_variances_agree_with_an_integral(mean: float, std: float, delta: float) -> None:
    """Integrates the positive part of p - exp(epsilon) q on a grid, both ways round."""
    epsilon = epsilon_between_normals(0, 1, mean, std, delta)
    x, step = np.linspace(-40, 40, 400_001, retstep=True)
    null = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    other = np.exp(-(((x - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))
    weight = math.exp(epsilon)
    integrals = [
        np.maximum(p - weight * q, 0).sum() * step for p, q in ((null, other), (other, null))
    ]
    assert max(integrals) == pytest.approx(delta, rel=1e-4)


def test_neither_order_nor_unit_nor_sign_matters() -> None:
    epsilon = epsilon_between_normals(1.0, 2.0, 1.7, 2.3, 1e-6)
    assert epsilon_between_normals(1.7, 2.3, 1.0, 2.0, 1e-6) == pytest.approx(epsilon, rel=1e-11)
    assert epsilon_between_normals(-1.0, 2.0, -1.7, 2.3, 1e-6) == pytest.approx(epsilon, rel=1e-11)
    assert epsilon_between_normals(1e-3, 2e-3, 1.7e-3, 2.3e-3, 1e-6) == pytest.approx(
        epsilon, rel=1e-11
    )


@pytest.mark.parametrize("offset", [-1e-7, -1e-12, -2e-16, 2.3e-16, 1e-12, 1e-7])
def test_nearly_equal_variances_are_no_special_case(offset: float) -> None:
    equal = epsilon_between_normals(0, 1, 0.7, 1, 1e-8)
    assert epsilon_between_normals(0, 1, 0.7, 1 + offset, 1e-8) == pytest.approx(equal, rel=1e-5)


def test_epsilon_grows_with_the_distance_of_the_means() -> None:
    """The lower bound by a fit rests on this."""
    means = np.linspace(0, 4, 81)
    for std in (0.4, 0.95, 1.0, 1.05, 2.5):
        for delta in (1e-2, 1e-6, 1e-10):
            epsilons = epsilons_between_normals(0.0, 1.0, means, std, delta)
            assert np.all(np.diff(epsilons) >= -1e-9)


def test_the_same_distribution_twice_is_private() -> None:
    assert epsilon_between_normals(0.3, 2.0, 0.3, 2.0, 1e-12) == 0
    assert epsilon_between_normals(0.0, 1.0, 1e-4, 1.0, 1e-3) == 0


def test_far_apart_stays_finite_and_right() -> None:
    """At 1e5 standard deviations epsilon is mu²/2 + mu z, z the normal quantile of 1 - delta."""
    epsilon = epsilon_between_normals(0, 1, 1e5, 1, 1e-10)
    assert epsilon == pytest.approx(1e10 / 2 + 1e5 * 6.361340902404056, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, 0, 1, 1, 1e-6), "std_0=0"),
        ((0, 1, 1, -1, 1e-6), "std_1=-1"),
        ((math.nan, 1, 1, 1, 1e-6), "mean_0=nan"),
        ((0, 1, math.inf, 1, 1e-6), "mean_1=inf"),
        ((0, 1, 1, 1, 0.0), "delta=0.0"),
        ((0, 1, 1, 1, 1), "delta=1"),
    ],
)
def test_wrong_input_is_refused(arguments: tuple, named: str) -> None:
    with pytest.raises(InputError, match=named):
        epsilon_between_normals(*arguments)
