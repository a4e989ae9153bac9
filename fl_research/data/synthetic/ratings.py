"""Seeded ratings of known rank: customers rate items, each rating drawn around a known mean.

The mean of customer u's rating of item i is `3.2 + customer bias + item bias + u . v` with normal
biases and factors; the rating is that plus normal noise, rounded to tenths and cut to 1 to 5. Some
items are rated much more often than others, and customers rate items by popularity, not by taste.
Because the mean is known, so is the smallest RMSE that any model can reach.
"""

import dataclasses

import numpy as np
import pandas as pd

from fl_research import randomness
from fl_research.argument_checks import require_at_least, require_not_negative
from fl_research.errors import InputError

LOWEST, HIGHEST = 1.0, 5.0
_MEAN = 3.2
_FEWEST_ITEMS = 20
_DIGITS = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatingsConfig:
    """Settings of the generator.

    Attributes:
      num_customers: How many customers, 1 or more.
      num_items: How many items, 20 or more.
      rank: Numbers in a factor, 0 (biases only) or more.
      typical_ratings: Median number of ratings of a customer, 1 or more; half the items at most.
      taste: Standard deviation of `u . v` over customers and items, 0 or more.
      customer_bias: Standard deviation of the customers' biases.
      item_bias: Standard deviation of the items' biases.
      noise: Standard deviation of a rating around its mean.

    Raises:
      InputError: A value is out of its range.
    """

    num_customers: int = 2000
    num_items: int = 300
    rank: int = 4
    typical_ratings: int = 40
    taste: float = 0.6
    customer_bias: float = 0.3
    item_bias: float = 0.4
    noise: float = 0.5

    def __post_init__(self) -> None:
        require_at_least("num_customers", self.num_customers, 1)
        require_at_least("num_items", self.num_items, _FEWEST_ITEMS)
        require_at_least("rank", self.rank, 0)
        require_at_least("typical_ratings", self.typical_ratings, 1)
        for name in ("taste", "customer_bias", "item_bias", "noise"):
            require_not_negative(name, getattr(self, name))
        if self.typical_ratings > self.num_items // 2:
            raise InputError(
                f"typical_ratings={self.typical_ratings} is too many for {self.num_items} items; "
                "give at most half as many ratings as items"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class GeneratedRatings:
    """Ratings and the law that they follow.

    Attributes:
      records: Columns customer, item (texts) and rating, a row a rating; the pairs differ.
      expected: float64 [rows], the mean of each rating's distribution before it is rounded and cut
        to the range; cut to the range, it is close to the best prediction there is.
    """

    records: pd.DataFrame
    expected: np.ndarray

    @property
    def smallest_rmse(self) -> float:
        """RMSE of the known means, cut to the range, on all ratings."""
        error = self.records["rating"] - np.clip(self.expected, LOWEST, HIGHEST)
        return float(np.sqrt(np.mean(error**2)))


def generate(config: RatingsConfig, seed: int) -> GeneratedRatings:
    """Returns ratings drawn from the law of this module.

    Args:
      config: The settings.
      seed: Of all that is drawn.
    """
    generator = randomness.generator(seed, "synthetic_ratings")
    users, items = config.num_customers, config.num_items
    popularity = np.log(generator.exponential(1.0, items) + 0.05)
    drawn = generator.lognormal(np.log(config.typical_ratings), 0.6, users)
    number = np.clip(drawn, 1, items // 2).astype(np.int64)
    # The items with the largest of log popularity plus Gumbel noise are a draw without replacement
    # (Gumbel's trick).
    keys = popularity + generator.gumbel(size=[users, items])
    order = np.argsort(-keys, axis=1)
    user = np.repeat(np.arange(users), number)
    place = np.arange(len(user)) - np.repeat(np.cumsum(number) - number, number)
    item = order[user, place]
    of_user = generator.normal(size=[users, config.rank])
    of_item = generator.normal(size=[items, config.rank])
    expected = (
        _MEAN
        + config.customer_bias * generator.normal(size=users)[user]
        + config.item_bias * generator.normal(size=items)[item]
    )
    if config.rank:
        products = np.einsum("rk,rk->r", of_user[user], of_item[item])
        expected += config.taste / np.sqrt(config.rank) * products
    rating = expected + config.noise * generator.normal(size=len(user))
    records = pd.DataFrame(
        {
            "customer": np.char.mod("C%06d", user + 1),
            "item": np.char.mod("I%05d", item + 1),
            "rating": np.clip(rating.round(_DIGITS), LOWEST, HIGHEST),
        }
    )
    return GeneratedRatings(records=records, expected=expected)
