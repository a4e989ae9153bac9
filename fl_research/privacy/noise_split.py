"""One noise multiplier shared out between the sum of updates and the count of unclipped ones.

The count's sensitivity is 1/2, so that noise of standard deviation s on it has the multiplier 2s.
With (z**-2 - (2s)**-2) ** (-1/2) on the update, both together cost exactly what one Gaussian with
multiplier z costs (Andrew et al. 2021, theorem 1).
"""

import dataclasses

from fl_research.argument_checks import require_not_negative
from fl_research.errors import InputError

_COUNT_SENSITIVITY = 0.5
_DEFAULT_COUNT_STDDEV_PER_CLIENT = 1 / 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseSplit:
    """How the total noise multiplier is shared out.

    Attributes:
      value_noise_multiplier: Standard deviation of the noise on the sum of updates / clip norm.
      clipped_count_stddev: Standard deviation of the noise on the count, in clients.
      count_noise_multiplier: The same divided by the count's sensitivity, 1/2.
    """

    value_noise_multiplier: float
    clipped_count_stddev: float
    count_noise_multiplier: float


def split_noise(
    noise_multiplier: float, clipped_count_stddev: float | None, expected_cohort_size: float
) -> NoiseSplit:
    """Returns the noise of update and count that together cost one noise multiplier.

    Args:
      noise_multiplier: The total; 0 adds no noise to either.
      clipped_count_stddev: Standard deviation of the noise on the count, in clients; None is a
        twentieth of the expected cohort size.
      expected_cohort_size: Clients.

    Raises:
      InputError: The default noise on the count would alone cost more than the total.
    """
    check_count_stddev(clipped_count_stddev, noise_multiplier)
    total = noise_multiplier
    if total == 0:
        return NoiseSplit(
            value_noise_multiplier=0.0, clipped_count_stddev=0.0, count_noise_multiplier=0.0
        )
    count_stddev = clipped_count_stddev
    if count_stddev is None:
        count_stddev = expected_cohort_size * _DEFAULT_COUNT_STDDEV_PER_CLIENT
    count_multiplier = count_stddev / _COUNT_SENSITIVITY
    if count_multiplier <= total:
        enough = total * _COUNT_SENSITIVITY / _DEFAULT_COUNT_STDDEV_PER_CLIENT
        raise InputError(
            f"noise_multiplier={total:g} is too large for adaptive clipping with "
            f"{expected_cohort_size:g} expected clients a round, whose clipped_count_stddev is a "
            f"twentieth of that; use a noise_multiplier below {count_multiplier:g}, more than "
            f"{enough:g} clients a round, or a clipped_count_stddev above {total / 2:g}"
        )
    return NoiseSplit(
        value_noise_multiplier=(total**-2 - count_multiplier**-2) ** -0.5,
        clipped_count_stddev=count_stddev,
        count_noise_multiplier=count_multiplier,
    )


def check_quantile(target_quantile: float) -> None:
    """Raises InputError unless the quantile is a number from 0 to 1."""
    require_not_negative("target_quantile", target_quantile)
    if target_quantile > 1:
        raise InputError(
            f"target_quantile={target_quantile!r} is not possible; give a number from 0 to 1, such "
            "as 0.5 for the median"
        )


def check_count_stddev(clipped_count_stddev: float | None, noise_multiplier: float) -> None:
    """Raises InputError unless the count's noise leaves some of the total for the update."""
    if clipped_count_stddev is None:
        return
    require_not_negative("clipped_count_stddev", clipped_count_stddev)
    if noise_multiplier == 0 and clipped_count_stddev > 0:
        raise InputError(
            f"clipped_count_stddev={clipped_count_stddev!r} does not go with noise_multiplier=0, "
            "which adds no noise at all; leave it out"
        )
    if 2 * clipped_count_stddev <= noise_multiplier and noise_multiplier > 0:
        raise InputError(
            f"clipped_count_stddev={clipped_count_stddev!r} is too small for "
            f"noise_multiplier={noise_multiplier!r}; give more than {noise_multiplier / 2:g}, or "
            "leave it out"
        )
