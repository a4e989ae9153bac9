"""Rows of ratings, context and targets alike as in training, and their objective."""

import numpy as np

from fl_research.data.interactions import RatingRange
from fl_research.objectives.rating_prediction import RatingPrediction

ITEMS, PLACES = 9, 5
RATINGS = RatingPrediction(
    items=tuple(f"i{number}" for number in range(ITEMS)),
    places=PLACES,
    rating_range=RatingRange(lowest=-1.0, highest=1.0),
)


def draw_ratings(
    generator: np.random.Generator, rows: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws up to five different items a row, their ratings in [-1, 1], and empty places.

    Args:
      generator: Draws.
      rows: How many.
    """
    items = np.argsort(generator.random([rows, ITEMS]), axis=1)[:, :PLACES]
    items = np.where(generator.random(items.shape) < 0.8, items + 1, 0).astype(np.int32)
    weight = (items > 0).astype(np.float32)
    values = generator.uniform(-1, 1, items.shape).astype(np.float32) * weight
    features = {"context_items": items, "context_values": values, "target_items": items}
    return features, np.stack([values, weight], axis=-1)
