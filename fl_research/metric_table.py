"""Every metric: how it is written, which way is better, and what its values mean."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
      words: Its name as in the middle of a sentence.
      higher_is_better: Which way is better.
      meaning: What a value says, for readers outside the field; may be empty.
    """

    words: str
    higher_is_better: bool = True
    meaning: str = ""


def _error(words: str, meaning: str = "") -> Metric:
    """A metric of which less is better."""
    return Metric(words=words, higher_is_better=False, meaning=meaning)


METRICS: dict[str, Metric] = {
    "auc": Metric(words="AUC", meaning="0.5 is guessing, 1 is perfect"),
    "average_precision": Metric(words="average precision"),
    "accuracy": Metric(words="accuracy", meaning="the share of right answers"),
    "macro_f1": Metric(words="macro F1", meaning="1 is perfect; rare classes count as frequent"),
    "lift_at_10_percent": Metric(
        words="lift at 10 %", meaning="how many times the average rate the top tenth has"
    ),
    "log_loss": _error("log loss"),
    "loss": _error("loss"),
    "brier": _error("Brier score"),
    "mae": _error("mean absolute error"),
    "rmse": _error("RMSE", "typical size of an error, in the units of the value"),
    "wmape": _error("WMAPE", "sum of absolute errors as a share of the sum of values"),
    "pinball_loss": _error("pinball loss"),
    "coverage_80": Metric(words="coverage of the 80 % interval", meaning="0.8 is right"),
    "hit_rate_at_10": Metric(
        words="hit rate at 10", meaning="share of customers with a right item among ten"
    ),
    "ndcg_at_10": Metric(words="NDCG at 10", meaning="1 is perfect"),
    "recall_at_1": Metric(words="recall at 1", meaning="the share of right first answers"),
    "recall_at_5": Metric(words="recall at 5"),
    "mrr": Metric(words="MRR", meaning="mean of 1 / rank of the right answer"),
    "out_of_scope_recall": Metric(
        words="out-of-scope recall", meaning="share of foreign questions handed to a person"
    ),
    "adjusted_rand_index": Metric(
        words="adjusted Rand index", meaning="0 is chance, 1 is the true grouping"
    ),
    "inertia": _error("inertia", "mean squared distance to the nearest centre"),
}


def words(name: str) -> str:
    """Returns how a metric is written; an unknown one by its name."""
    return METRICS[name].words if name in METRICS else name.replace("_", " ")


def sign(name: str) -> int:
    """Returns 1 for a metric of which more is better, else -1."""
    return 1 if name not in METRICS or METRICS[name].higher_is_better else -1
