"""One-sided confidence bounds of a probability from counted successes.

A bound is the probability under which the count, or one more extreme, would be just as likely as
the error that is allowed. It holds for every sample size, at the price of being wrong less often
than allowed.

Clopper and Pearson 1934, The Use of Confidence or Fiducial Limits Illustrated in the Case of the
Binomial.
"""

import numpy as np
from scipy import stats

from fl_research.argument_checks import is_finite_number
from fl_research.errors import InputError

Counts = np.ndarray | int


def lower_bound(successes: Counts, trials: Counts, error: float) -> np.ndarray:
    """Returns a lower bound of the probability of success.

    Args:
      successes: Whole numbers from 0 to `trials`.
      trials: Independent trials, 1 or more; broadcasts with `successes`.
      error: Largest allowed probability that the bound lies above the truth, in (0, 1).

    Returns:
      float64 in [0, 1), of the shape that both broadcast to; 0 without a success.

    Raises:
      InputError: An argument is out of its range.
    """
    successes, trials = _checked(successes, trials, error)
    some = np.maximum(successes, 1)
    return np.where(successes == 0, 0.0, stats.beta.ppf(error, some, trials - some + 1))


def upper_bound(successes: Counts, trials: Counts, error: float) -> np.ndarray:
    """Returns an upper bound of the probability of success.

    Args:
      successes: Whole numbers from 0 to `trials`.
      trials: Independent trials, 1 or more; broadcasts with `successes`.
      error: Largest allowed probability that the bound lies below the truth, in (0, 1).

    Returns:
      float64 in (0, 1], of the shape that both broadcast to; 1 without a failure.

    Raises:
      InputError: An argument is out of its range.
    """
    successes, trials = _checked(successes, trials, error)
    some = np.minimum(successes, trials - 1)
    return np.where(successes == trials, 1.0, stats.beta.isf(error, some + 1, trials - some))


def require_error(error: float) -> None:
    """Raises InputError unless 0 < error < 1."""
    if not is_finite_number(error) or not 0 < error < 1:
        raise InputError(f"error={error!r} is not possible; give a number between 0 and 1")


def error_of(confidence: float) -> float:
    """Returns 1 - confidence.

    Raises:
      InputError: `confidence` is not between 0 and 1.
    """
    if not is_finite_number(confidence) or not 0 < confidence < 1:
        raise InputError(
            f"confidence={confidence!r} is not possible; give a number between 0 and 1, "
            "such as 0.95"
        )
    return 1 - float(confidence)


def _checked(successes: Counts, trials: Counts, error: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns both counts as arrays of one shape."""
    require_error(error)
    successes, trials = np.broadcast_arrays(successes, trials)
    if not all(np.issubdtype(counts.dtype, np.integer) for counts in (successes, trials)):
        raise InputError(
            f"successes={successes} of trials={trials} are not counts; give whole numbers"
        )
    if np.any(trials < 1) or np.any(successes < 0) or np.any(successes > trials):
        raise InputError(
            f"successes={successes} of trials={trials} are not possible; give 1 or more trials "
            "and from 0 to as many successes"
        )
    return successes, trials
