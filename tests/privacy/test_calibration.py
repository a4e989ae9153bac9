"""Calibration and counting of releases against the exact Gaussian and against each other."""

import math

import dp_accounting
import numpy as np
import pytest
from scipy import optimize

from fl_research.data.client_sampling import (
    ClientSampling,
)
from fl_research.errors import InputError
from fl_research.privacy import accounting
from fl_research.privacy.accountants import fits
from fl_research.privacy.calibration import max_releases
from tests.privacy.accounting_cases import (
    DELTA,
    FULL,
    claimed,
    exact_gaussian_epsilon,
    fixed_size,
    poisson,
)

Gaussian = dp_accounting.GaussianDpEvent


@pytest.mark.parametrize("target", [0.5, 8.0])
def test_calibrated_noise_is_the_exact_one_without_sampling(target: float) -> None:
    noise = accounting.calibrate_noise_multiplier(
        target_epsilon=target, delta=DELTA, sampling=FULL, rounds=100
    )
    exact = optimize.brentq(
        lambda value: exact_gaussian_epsilon(value, 100, DELTA) - target, 1, 1000
    )
    assert exact <= noise <= exact * (1 + 3e-5)


@pytest.mark.parametrize(
    ("sampling", "target", "rounds"),
    [
        (poisson(0.05), 2.0, 200),
        (poisson(0.2), 0.1, 3),
        pytest.param(fixed_size(100), 2.0, 100, marks=pytest.mark.slow),
    ],
)
def test_calibrated_noise_is_the_least_that_keeps_the_target(
    sampling: ClientSampling, target: float, rounds: int
) -> None:
    noise = accounting.calibrate_noise_multiplier(
        target_epsilon=target, delta=DELTA, sampling=sampling, rounds=rounds
    )
    assert noise == float(f"{noise:.5g}")
    jittered = float(np.float32(noise)) * (1 - 2**-23)
    assert claimed(sampling, jittered, rounds) <= target
    assert claimed(sampling, noise * (1 - 2e-4), rounds) > target
    fitting = max_releases(
        noise_multiplier=noise, target_epsilon=target, delta=DELTA, sampling=sampling, limit=9999
    )
    assert fitting == rounds


@pytest.mark.parametrize("sampling", [poisson(0.01), fixed_size(10)])
def test_max_releases_is_the_last_that_fits(sampling: ClientSampling) -> None:
    def fitting(limit: int) -> int:
        return max_releases(
            noise_multiplier=2.0, target_epsilon=1.0, delta=DELTA, sampling=sampling, limit=limit
        )

    count = fitting(10_000)
    assert claimed(sampling, 2.0, count) <= 1.0 < claimed(sampling, 2.0, count + 1)
    assert fitting(count) == count and (count == 0 or fitting(count - 1) == count - 1)
    event = accounting.repeated_event(Gaussian(2.0), count, sampling)
    relation, _ = accounting.relation_for(sampling)
    assert fits(event, DELTA, relation, 1.0)
    event = accounting.repeated_event(Gaussian(2.0), count + 1, sampling)
    assert not fits(event, DELTA, relation, 1.0)


def test_no_release_fits_without_noise() -> None:
    count = max_releases(
        noise_multiplier=0.0, target_epsilon=1.0, delta=DELTA, sampling=FULL, limit=10
    )
    assert count == 0


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (1e-7, "even the noise multiplier 10000 gives"),
        (1e9, "asks for no protection"),
        (0.0, "target_epsilon=0.0"),
        (math.nan, "target_epsilon=nan"),
    ],
)
def test_infeasible_targets_say_what_is_possible(target: float, says: str) -> None:
    with pytest.raises(InputError) as raised:
        accounting.calibrate_noise_multiplier(
            target_epsilon=target, delta=DELTA, sampling=poisson(0.1), rounds=10
        )
    assert says in str(raised.value) and "\n" not in str(raised.value)
