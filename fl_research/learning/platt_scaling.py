"""Platt scaling by sums over clients: a model's scores into probabilities that hold.

The probability is sigmoid(slope * score + intercept). Slope and intercept minimise the log loss
over clients that the model was not trained on, by Newton's method: in each step a client adds up
loss, gradient and second derivatives over its own rows, and the server sees the sums of all
clients only. As in the paper the labels are moved off 0 and 1 by what a uniform prior says, so that
separable scores have a finite slope; this needs the counts of both labels, sums as well.

Platt 1999, "Probabilistic outputs for support vector machines and comparisons to regularized
likelihood methods"; Lin, Lin, Weng 2007, "A note on Platt's probabilistic outputs for support
vector machines" (Newton with step halving).
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from fl_research.errors import InputError

_MOST_STEPS = 100
_SMALL_STEP = 1e-10
_EDGE = 1e-7  # float32 probabilities nearer than this to 0 or 1 tell nothing apart.

LossSums = Callable[[np.ndarray], np.ndarray]
"""(slope, intercept) -> the added `client_sums` of all clients."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlattScaling:
    """A fitted scaling.

    Attributes:
      slope: What a score is multiplied by; above 0 the order of the rows stays as it was.
      intercept: What is added.
    """

    slope: float
    intercept: float

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Returns float64 [rows] in (0, 1)."""
        return _sigmoid(self.slope * np.asarray(scores, np.float64) + self.intercept)


def scores_of(probabilities: np.ndarray) -> np.ndarray:
    """Returns the log-odds of predicted probabilities, float64 [rows], finite for 0 and 1 too."""
    clipped = np.clip(np.asarray(probabilities, np.float64), _EDGE, 1 - _EDGE)
    return np.log(clipped) - np.log1p(-clipped)


def fit(scores: np.ndarray, labels: np.ndarray, row_splits: np.ndarray) -> PlattScaling:
    """Fits slope and intercept to clients' scores.

    Args:
      scores: float64 [rows], sorted by client.
      labels: int [rows], 0 or 1.
      row_splits: int64 [clients + 1]: client k owns rows `row_splits[k]:row_splits[k + 1]`.

    Raises:
      InputError: One label is missing, or all scores are the same: no slope fits them best.
    """
    labels = np.asarray(labels)
    positives = int(client_counts(labels, row_splits)[:, 1].sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise InputError(
            f"calibration needs both labels; of {len(labels)} rows {positives} are 1: give more "
            "validation clients (--validation_fraction)"
        )
    if np.ptp(scores) == 0:
        raise InputError(f"calibration needs scores that differ; all {len(labels)} are the same")
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    start = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
    found = _newton(lambda at: client_sums(scores, targets, row_splits, at).sum(axis=0), start)
    return PlattScaling(slope=float(found[0]), intercept=float(found[1]))


def client_counts(labels: np.ndarray, row_splits: np.ndarray) -> np.ndarray:
    """Returns what each client says of its labels, int64 [clients, 2]: how many are 0, and 1."""
    return _add_up(np.stack([labels == 0, labels == 1], axis=1).astype(np.int64), row_splits)


def client_sums(
    scores: np.ndarray, targets: np.ndarray, row_splits: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """Returns what each client says in one step, float64 [clients, 6].

    Args:
      scores: float64 [rows].
      targets: float64 [rows], labels moved off 0 and 1.
      row_splits: int64 [clients + 1].
      at: Slope and intercept.

    Returns:
      Log loss; its derivatives by slope and intercept; its second derivatives by slope twice, by
      both, by intercept twice; each summed over the client's rows.
    """
    logits = at[0] * scores + at[1]
    loss = np.logaddexp(0.0, logits) - targets * logits
    probability = _sigmoid(logits)
    error, curve = probability - targets, probability * (1 - probability)
    rows = [loss, error * scores, error, curve * scores**2, curve * scores, curve]
    return _add_up(np.stack(rows, axis=1), row_splits)


def _newton(sums_at: LossSums, start: np.ndarray) -> np.ndarray:
    """Minimises a convex loss of two parameters; halves a step that does not lower it."""
    at, sums = start, sums_at(start)
    for _ in range(_MOST_STEPS):
        gradient, (ss, si, ii) = sums[1:3], sums[3:]
        # A trace of the identity keeps the matrix regular where probabilities saturate.
        matrix = np.array([[ss, si], [si, ii]]) + 1e-12 * (1 + ss + ii) * np.eye(2)
        step = np.linalg.solve(matrix, gradient)
        scale = 1.0
        while scale > _SMALL_STEP:
            tried = at - scale * step
            tried_sums = sums_at(tried)
            if tried_sums[0] <= sums[0] - 1e-4 * scale * (gradient @ step):
                break
            scale /= 2
        else:
            return at
        moved = np.abs(scale * step).max()
        at, sums = tried, tried_sums
        if moved < _SMALL_STEP * (1 + np.abs(at).max()):
            break
    return at


def _add_up(rows: np.ndarray, row_splits: np.ndarray) -> np.ndarray:
    """Sums over each client's rows [rows, values] -> [clients, values]; 0 for one without rows."""
    totals = np.concatenate([np.zeros((1, rows.shape[1]), rows.dtype), np.cumsum(rows, axis=0)])
    return totals[row_splits[1:]] - totals[row_splits[:-1]]


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """The logistic function, without overflow."""
    return np.exp(-np.logaddexp(0.0, -logits))
