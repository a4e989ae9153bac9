"""Seeded baskets of a shop with known tastes: what customers buy, order by order.

Each customer has a taste over a few themes (a draw from a Dirichlet distribution); each item
belongs to one theme and has a popularity. For every place of a basket a theme is drawn by the
customer's taste, then an item of that theme by popularity. So the probability of each item for each
customer is known, and with it the best ranking; popularity alone cannot tell tastes apart.
"""

import dataclasses

import numpy as np
import pandas as pd

from fl_research import randomness
from fl_research.argument_checks import require_at_least, require_positive

_FIRST_DAY = np.datetime64("2024-01-01T09:00:00")
_DAYS = 300


@dataclasses.dataclass(frozen=True, kw_only=True)
class BasketsConfig:
    """Settings of the generator.

    Attributes:
      num_customers: How many customers, 1 or more.
      num_items: How many items, at least one a theme.
      num_themes: How many themes, 1 or more.
      max_baskets: Most baskets of a customer, 2 or more; uniform from 1.
      max_basket_items: Most places in a basket, 1 or more; uniform from 1.
      concentration: Of the Dirichlet distribution of tastes, above 0; small: one theme each.

    Raises:
      InputError: A value is out of its range.
    """

    num_customers: int = 2000
    num_items: int = 300
    num_themes: int = 6
    max_baskets: int = 9
    max_basket_items: int = 6
    concentration: float = 0.15

    def __post_init__(self) -> None:
        require_at_least("num_customers", self.num_customers, 1)
        require_at_least("num_themes", self.num_themes, 1)
        require_at_least("num_items", self.num_items, self.num_themes)
        require_at_least("max_baskets", self.max_baskets, 2)
        require_at_least("max_basket_items", self.max_basket_items, 1)
        require_positive("concentration", self.concentration)


@dataclasses.dataclass(frozen=True, eq=False)
class GeneratedBaskets:
    """What was bought, and the law behind it.

    Attributes:
      records: Columns customer, item, invoice (texts) and time, a row a place of a basket.
      probability: float64 [customers, items]: of each item in a place of a customer's basket;
        customers and items in the order of their names.
    """

    records: pd.DataFrame
    probability: np.ndarray


def generate(config: BasketsConfig, seed: int) -> GeneratedBaskets:
    """Returns baskets drawn from the law of this module.

    Args:
      config: The settings.
      seed: Of all that is drawn.
    """
    generator = randomness.generator(seed, "synthetic_baskets")
    customers, items, themes = config.num_customers, config.num_items, config.num_themes
    taste = generator.dirichlet([config.concentration] * themes, customers)
    theme = np.arange(items) % themes
    weight = generator.lognormal(0.0, 1.0, items)
    within = np.where(theme == np.arange(themes)[:, np.newaxis], weight, 0.0)
    within /= within.sum(axis=1, keepdims=True)
    probability = taste @ within
    baskets = generator.integers(1, config.max_baskets + 1, customers)
    customer = np.repeat(np.arange(customers), baskets)
    # Days without order yet: the baskets of a customer come on different days, sorted.
    day = np.argsort(generator.random([customers, _DAYS]), axis=1)[:, : config.max_baskets]
    day = np.concatenate([np.sort(d[:n]) for d, n in zip(day, baskets, strict=True)])
    places = generator.integers(1, config.max_basket_items + 1, len(customer))
    basket = np.repeat(np.arange(len(customer)), places)
    draws = generator.random(len(basket))
    owner = customer[basket]
    cumulative = np.cumsum(probability, axis=1)
    bought = np.array(
        [np.searchsorted(cumulative[u], x) for u, x in zip(owner, draws, strict=True)]
    )
    records = pd.DataFrame(
        {
            "customer": np.char.mod("C%06d", owner + 1),
            "item": np.char.mod("I%05d", np.minimum(bought, items - 1) + 1),
            "invoice": np.char.mod("B%07d", basket + 1),
            "time": (_FIRST_DAY + day.astype("timedelta64[D]"))[basket],
        }
    )
    return GeneratedBaskets(records=records, probability=probability)
