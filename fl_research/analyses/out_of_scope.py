"""Out of scope: which questions the model answers itself, and which it hands to a person.

The model answers where its confidence reaches a threshold, the one that keeps a wished share of the
validation clients' questions; all others go to a person. On the test questions it is then counted
how many are kept and how many of those answers are right, and, where there are questions of foreign
topics, how many of these are handed over: the out-of-scope recall. The threshold knows nothing of
foreign questions, as in real use, where nobody knows what will be asked.

Paper: Larson et al. 2019, "An Evaluation Dataset for Intent Classification and Out-of-Scope
Prediction".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.argument_checks import is_finite_number
from fl_research.data.clients import Clients
from fl_research.errors import InputError

if TYPE_CHECKING:
    from fl_research.analysis import AnalysisContext

_CURVE_POINTS = 60


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OutOfScope:
    """The analysis.

    Attributes:
      keep: Share of the validation clients' questions that are answered, in (0, 1).
      foreign: Features of questions of foreign topics; None: there are none.
      foreign_from: What these questions are, in words.
      name: The finding's name.

    Raises:
      InputError: `keep` is out of range.
    """

    keep: float = 0.95
    foreign: Mapping[str, np.ndarray] | None = None
    foreign_from: str = ""
    name: str = "out_of_scope"

    def __post_init__(self) -> None:
        if not is_finite_number(self.keep) or not 0 < self.keep < 1:
            raise InputError(
                f"keep_in_scope={self.keep!r} is out of range; give a share between 0 and 1, such "
                "as 0.95"
            )

    def __call__(self, context: AnalysisContext) -> dict[str, Any]:
        """Returns the threshold, what it keeps of the test questions, and the recall.

        Args:
          context: The trained model; its objective predicts `class_index` and `confidence`.
        """
        validation, test = context.task.validation, context.task.test
        known, _ = _confidences(context, validation)
        threshold = keeping_threshold(known, self.keep)
        confidence, right = _confidences(context, test)
        foreign = None
        if self.foreign is not None:
            foreign = context.predict(self.foreign)["confidence"].astype(np.float64)
        kept = confidence >= threshold
        recall = None if foreign is None else float(np.mean(foreign < threshold))
        return {
            "keep": self.keep,
            "threshold": threshold,
            "validation_questions": len(known),
            "test_questions": len(confidence),
            "kept": float(kept.mean()),
            "accuracy_of_all": float(right.mean()),
            "accuracy_of_kept": float(right[kept].mean()) if kept.any() else None,
            "foreign_questions": 0 if foreign is None else len(foreign),
            "foreign_from": self.foreign_from,
            "out_of_scope_recall": recall,
            "test_metrics": {} if recall is None else {"out_of_scope_recall": recall},
            "curve": _curve(confidence, right, foreign),
        }


def keeping_threshold(confidence: np.ndarray, keep: float) -> float:
    """Returns the highest threshold at or above which at least a share `keep` of values lies.

    Args:
      confidence: float [questions], at least one.
      keep: In (0, 1).
    """
    ordered = np.sort(confidence)
    # The epsilon takes back what rounding adds: 0.95 of 20 are 19, not 20.
    needed = int(np.ceil(keep * len(ordered) - 1e-9))
    return float(ordered[len(ordered) - needed])


def _confidences(context: AnalysisContext, clients: Clients) -> tuple[np.ndarray, np.ndarray]:
    """The confidence of each row's answer, float64, and whether it is right."""
    rows = clients.select(np.arange(clients.num_clients))
    predicted = context.predict(rows.features)
    right = predicted["class_index"] == np.asarray(rows.labels)
    return predicted["confidence"].astype(np.float64), right


def _curve(
    confidence: np.ndarray, right: np.ndarray, foreign: np.ndarray | None
) -> dict[str, list[float]]:
    """What other thresholds would give, from none to all test questions kept."""
    thresholds = np.quantile(confidence, np.linspace(0, 1, _CURVE_POINTS), method="lower")
    thresholds = np.unique(thresholds)
    kept = [confidence >= threshold for threshold in thresholds]
    curve = {
        "threshold": thresholds.tolist(),
        "kept": [float(which.mean()) for which in kept],
        "accuracy_of_kept": [float(right[which].mean()) for which in kept],
    }
    if foreign is not None:
        curve["out_of_scope_recall"] = [float(np.mean(foreign < t)) for t in thresholds]
    return curve
