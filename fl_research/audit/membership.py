"""Membership inference: can the clients that trained a model be told from others by its losses?

One client is one case, since the client is the unit of privacy: its rows count together.

* Threshold attack: a client whose mean loss is low is taken for a member.
* Logistic regression attack: on mean, smallest and largest loss and the number of rows, fitted on
  four fifths of the clients and scored on the fifth that it has not seen, five times.

The area under the ROC curve gets DeLong's interval, the advantage (true minus false positive rate,
at the best threshold) a bootstrap interval over clients, and true positive rates at fixed false
positive rates Clopper-Pearson intervals. Beside them stands the largest true positive rate that
(epsilon, delta)-DP allows. The best threshold is chosen on the clients that it is scored on, so an
advantage is biased upwards.

A weak attack shows nothing of a stronger one. Shokri, Stronati, Song, Shmatikov 2017, Membership
Inference Attacks Against Machine Learning Models (arXiv:1610.05820); Yeom et al. 2018, Privacy Risk
in Machine Learning (arXiv:1709.01604); Carlini et al. 2022, Membership Inference Attacks From First
Principles (arXiv:2112.03570), for the small false positive rates; DeLong, DeLong, Clarke-Pearson
1988, Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from fl_research import randomness
from fl_research.audit.binomial_bounds import error_of, lower_bound, upper_bound
from fl_research.data.clients import Clients
from fl_research.errors import InputError
from fl_research.privacy.accounting import best_true_positive_rate

FALSE_POSITIVE_RATES = (0.01, 0.001)
FEATURES = ("mean loss", "smallest loss", "largest loss", "log of the number of rows")

_FOLDS = 5
_RESAMPLES = 1000
_CLIENTS_AT_ONCE = 4096
# As the evaluation clips: a probability of 0 or 1 has no finite loss.
_LEAST_PROBABILITY = 1e-7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attack:
    """How well one attack told members from others.

    Attributes:
      name: "threshold" or "logistic regression".
      auc: Area under the ROC curve; 0.5 is guessing.
      auc_interval: Its confidence interval, by DeLong.
      advantage: Largest true minus false positive rate over all thresholds.
      advantage_interval: By the bootstrap, percentiles.
      rates: For each of `FALSE_POSITIVE_RATES`: the true positive rate and what DP allows.
      false_positive_curve: float64[points] of the ROC curve, rising.
      true_positive_curve: float64[points].
    """

    name: str
    auc: float
    auc_interval: tuple[float, float]
    advantage: float
    advantage_interval: tuple[float, float]
    rates: tuple[dict[str, Any], ...]
    false_positive_curve: np.ndarray = dataclasses.field(repr=False)
    true_positive_curve: np.ndarray = dataclasses.field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Returns the attack without its curve, as plain JSON."""
        return {
            "name": self.name,
            "auc": self.auc,
            "auc_interval": list(self.auc_interval),
            "advantage": self.advantage,
            "advantage_interval": list(self.advantage_interval),
            "rates": [dict(rate) for rate in self.rates],
        }


def client_features(
    clients: Clients,
    predict: Callable[[np.ndarray], np.ndarray],
    advance: Callable[[int], None] = lambda clients: None,
) -> np.ndarray:
    """Returns what the attacks see of each client.

    Args:
      clients: Clients with binary labels; those without a row are left out.
      predict: Inputs float32[rows, features] -> the probability of label 1, [rows].
      advance: Told how many more clients are done.

    Returns:
      float64[clients with rows, len(FEATURES)].
    """
    parts = []
    for start in range(0, clients.num_clients, _CLIENTS_AT_ONCE):
        some = np.arange(start, min(start + _CLIENTS_AT_ONCE, clients.num_clients))
        data = clients.select(some)
        if data.num_rows:
            probability = np.asarray(predict(data.features["inputs"]), np.float64).reshape(-1)
            losses = row_losses(probability, data.labels)
            parts.append(_by_client(losses, np.asarray(data.row_splits)))
        advance(len(some))
    return np.concatenate(parts) if parts else np.zeros((0, len(FEATURES)))


def row_losses(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the cross-entropy of each row, float64[rows]."""
    kept = np.clip(probability, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return -np.where(np.asarray(labels).reshape(-1) > 0, np.log(kept), np.log1p(-kept))


def attack_members(
    members: np.ndarray,
    others: np.ndarray,
    *,
    epsilon: float,
    delta: float | None,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Attack]:
    """Returns the threshold attack and the logistic regression attack.

    Args:
      members: float64[n, features] of clients that trained, from `client_features`; 10 or more.
      others: float64[m, features] of clients that did not; 10 or more.
      epsilon: That is claimed; infinite without a claim.
      delta: Of the claim; None without one.
      confidence: Of all intervals, in (0, 1).
      seed: Of folds and bootstrap.

    Raises:
      InputError: There are too few clients, or a loss is not finite.
    """
    for name, features in (("members", members), ("others", others)):
        if features.ndim != 2 or len(features) < 2 * _FOLDS:
            raise InputError(
                f"{name} has shape {list(features.shape)}; an attack needs {2 * _FOLDS} or more "
                "clients with rows"
            )
        if not np.isfinite(features).all():
            raise InputError(f"{name} has losses that are not finite; the model is broken")
    scores = {
        "threshold": (-members[:, 0], -others[:, 0]),
        "logistic regression": _regression_scores(members, others, seed),
    }
    return [
        _attack(name, *found, epsilon=epsilon, delta=delta, confidence=confidence, seed=seed)
        for name, found in scores.items()
    ]


def auc_with_interval(
    members: np.ndarray, others: np.ndarray, confidence: float
) -> tuple[float, tuple[float, float]]:
    """Returns the area under the ROC curve and DeLong's interval.

    Args:
      members: float[n], scores that should be high, n of 2 or more.
      others: float[m], scores that should be low, m of 2 or more.
      confidence: Of the interval, in (0, 1).
    """
    n, m = len(members), len(others)
    ranks = stats.rankdata(np.concatenate([members, others]))
    # Share of the others below each member, and of the members above each other.
    of_members = (ranks[:n] - stats.rankdata(members)) / m
    of_others = 1 - (ranks[n:] - stats.rankdata(others)) / n
    auc = float(of_members.mean())
    variance = np.var(of_members, ddof=1) / n + np.var(of_others, ddof=1) / m
    half = float(stats.norm.isf(error_of(confidence) / 2) * math.sqrt(variance))
    return auc, (max(0.0, auc - half), min(1.0, auc + half))


def roc_curve(members: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns false and true positive rates from (0, 0) to (1, 1), a point a threshold."""
    thresholds = np.unique(np.concatenate([members, others]))[::-1]
    true = len(members) - np.searchsorted(np.sort(members), thresholds)
    false = len(others) - np.searchsorted(np.sort(others), thresholds)
    return np.append(0.0, false / len(others)), np.append(0.0, true / len(members))


def _by_client(losses: np.ndarray, row_splits: np.ndarray) -> np.ndarray:
    """The features of the clients that have rows."""
    rows = np.diff(row_splits)
    starts = row_splits[:-1][rows > 0]
    rows = rows[rows > 0]
    return np.stack(
        [
            np.add.reduceat(losses, starts) / rows,
            np.minimum.reduceat(losses, starts),
            np.maximum.reduceat(losses, starts),
            np.log(rows),
        ],
        axis=1,
    )


def _regression_scores(
    members: np.ndarray, others: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of members and others, each by a model that has not seen it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    features = np.concatenate([members, others])
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-12)
    labels = np.repeat([1, 0], [len(members), len(others)])
    scores = np.zeros(len(labels))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed % 2**32)
    for known, unseen in folds.split(features, labels):
        model = LogisticRegression(class_weight="balanced").fit(features[known], labels[known])
        scores[unseen] = model.decision_function(features[unseen])
    return scores[: len(members)], scores[len(members) :]


def _attack(
    name: str,
    members: np.ndarray,
    others: np.ndarray,
    *,
    epsilon: float,
    delta: float | None,
    confidence: float,
    seed: int,
) -> Attack:
    """The figures of one attack."""
    auc, auc_interval = auc_with_interval(members, others, confidence)
    false, true = roc_curve(members, others)
    error = error_of(confidence)
    random = randomness.generator(seed, f"membership_bootstrap_{name}")
    resampled = [
        _advantage(random.choice(members, len(members)), random.choice(others, len(others)))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(resampled, [error / 2, 1 - error / 2])
    return Attack(
        name=name,
        auc=auc,
        auc_interval=auc_interval,
        advantage=float(np.max(true - false)),
        advantage_interval=(float(low), float(high)),
        rates=tuple(
            {
                "false_positive_rate": rate,
                **_true_positives(rate, (false, true), (len(members), len(others)), error),
                "largest_allowed": best_true_positive_rate(epsilon, delta or 0.0, rate),
            }
            for rate in FALSE_POSITIVE_RATES
        ),
        false_positive_curve=false,
        true_positive_curve=true,
    )


def _advantage(members: np.ndarray, others: np.ndarray) -> float:
    """Largest true minus false positive rate."""
    false, true = roc_curve(members, others)
    return float(np.max(true - false))


def _true_positives(
    rate: float, curve: tuple[np.ndarray, np.ndarray], sizes: tuple[int, int], error: float
) -> dict[str, Any]:
    """The true positive rate at one false positive rate; None where too few clients could show it.

    With fewer than 1 / rate others, no threshold but "nobody" has so small a rate.
    """
    members, others = sizes
    if rate * others < 1:
        return {"true_positive_rate": None, "interval": None}
    false, true = curve
    best = float(true[false <= rate].max())
    hits = round(best * members)
    interval = lower_bound(hits, members, error / 2), upper_bound(hits, members, error / 2)
    return {"true_positive_rate": best, "interval": [float(end) for end in interval]}
