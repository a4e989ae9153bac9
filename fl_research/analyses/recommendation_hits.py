"""Recommendation hits: how often a list of recommendations holds something the customer then chose.

The hit rate by the length of the list, of the model and of recommending what most customers have;
and which items the model takes for alike: those whose factors point the same way. The pairs follow
from the released model alone, so nothing of a customer is in them beyond what the model shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.objectives.item_ranking import ItemRanking

if TYPE_CHECKING:
    from fl_research.analysis import AnalysisContext

_SHOWN_ITEMS = 8
_ALIKE = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecommendationHits:
    """The analysis; its task has the objective `ItemRanking`."""

    name: str = "recommendation_hits"

    def __call__(self, context: AnalysisContext) -> dict[str, Any]:
        """Returns hit rates by length of the list, and items that are alike; see the module.

        Args:
          context: Of a task whose objective is `ItemRanking`.
        """
        objective = context.objective
        assert isinstance(objective, ItemRanking)
        pooled = context.pooled(context.task.test)
        popularity = objective.popularity(context.task.train, context.task.test)
        return {
            "customers": int(pooled["customers"]),
            "items": objective.num_items,
            "model": _rates(pooled),
            "popularity": _rates(popularity),
            "alike": alike_items(np.asarray(context.weights.trainable[0]), objective.items),
        }


def alike_items(factors: np.ndarray, items: Sequence[str]) -> list[dict[str, Any]]:
    """Returns, for the items with the longest factors, those most alike by the angle.

    Args:
      factors: [items, factors].
      items: Their names.
    """
    length = np.linalg.norm(factors, axis=1)
    shown = np.argsort(-length, kind="stable")[:_SHOWN_ITEMS]
    directions = factors / np.maximum(length, np.finfo(np.float32).tiny)[:, np.newaxis]
    found = []
    for item in shown:
        cosine = directions @ directions[item]
        cosine[item] = -np.inf
        nearest = np.argsort(-cosine, kind="stable")[: min(_ALIKE, len(items) - 1)]
        found.append(
            {
                "item": items[item],
                "alike": [{"item": items[i], "cosine": float(cosine[i])} for i in nearest],
            }
        )
    return found


def _rates(pooled: Mapping[str, Any]) -> list[float]:
    """The hit rate of lists of 1, 2, ... items."""
    return (np.asarray(pooled["hits_by_length"]) / float(pooled["customers"])).tolist()
