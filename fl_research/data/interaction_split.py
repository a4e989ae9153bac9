"""Interactions into what a user is known by and what is to be predicted; both bounded.

What is held out of a user:

- `random`: a share of its interactions, at random; at least one stays. A user with one interaction
  has nothing held out and is trained on only.
- `last_basket`: what the user bought last, without the items that it had bought before. A user with
  one basket is trained on only, and so is one whose last basket has no new item.

A row is one user. Its context is the interactions that are trained on; its targets are those same
ones in training, and the held-out ones in the evaluation. So no item of the evaluation was seen in
training by that user. Of each user at most `max_items` interactions are trained on, the newest
where there are times, else a choice at random, and at most as many are held out. Every choice for a
user depends on the seed, the user's name and its own interactions, on no other user.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from fl_research import randomness
from fl_research.argument_checks import require_at_least, require_choice
from fl_research.data.client_data import ClientData
from fl_research.data.interactions import Interactions
from fl_research.errors import InputError

CONTEXT_ITEMS, CONTEXT_VALUES, TARGET_ITEMS = "context_items", "context_values", "target_items"
HELD_OUT = ("random", "last_basket")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How interactions are held out and bounded.

    Attributes:
      held_out: `random` or `last_basket`.
      fraction: The share that `random` holds out, in (0, 1).
      max_items: Most interactions of a user that are trained on, and that are held out, 1 or more.

    Raises:
      InputError: A value is out of its range.
    """

    held_out: str
    fraction: float = 0.2
    max_items: int = 200

    def __post_init__(self) -> None:
        require_choice("held_out", self.held_out, HELD_OUT)
        require_at_least("max_items_per_client", self.max_items, 1)
        if not 0 < self.fraction < 1:
            raise InputError(
                f"held_out_fraction={self.fraction!r} is no share; give one above 0 and below 1"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SplitClients:
    """The users as clients of one row each.

    Attributes:
      train: All users with something to train on; targets are the context.
      held_out: Those of them with something held out, which are the targets.
      counts: What was held out and what a bound left out, by the rule in words.
    """

    train: ClientData
    held_out: ClientData
    counts: Mapping[str, int]


def split_interactions(
    interactions: Interactions, config: SplitConfig, *, seed: int
) -> SplitClients:
    """Returns the users as clients, split and bounded.

    Args:
      interactions: At least one user has something to hold out.
      config: How.
      seed: Of the choices at random.

    Raises:
      InputError: There are no baskets or times for `last_basket`, or nothing can be held out.
    """
    frame = interactions.frame.assign(
        draw=_draws(interactions, seed), place=np.arange(len(interactions.frame))
    )
    counts: dict[str, int] = {}
    if config.held_out == "random":
        known, held = _hold_out_at_random(frame, config.fraction)
    else:
        known, held, counts = _hold_out_last_basket(frame)
    if held.empty:
        raise InputError(
            f"held_out={config.held_out!r} leaves nothing to test on: no user has two "
            f"{'baskets with a new item' if config.held_out == 'last_basket' else 'interactions'}; "
            "check the user column, or give more records"
        )
    by = "place" if "time" in frame else "draw"
    known, known_out = _bounded(known, by, config.max_items)
    held, held_out = _bounded(held, "draw", config.max_items)
    users, tested = known["user"].nunique(), held["user"].nunique()
    counts |= {
        "interactions trained on": len(known),
        "interactions held out": len(held),
        "over max_items_per_client: left out of training": known_out,
        "over max_items_per_client: left out of the test": held_out,
        "customers with nothing to hold out: trained on only": users - tested,
    }
    context = _by_user(known, interactions, config.max_items)
    targets = _by_user(held, interactions, config.max_items)
    return SplitClients(
        train=_clients(interactions, context, context),
        held_out=_clients(interactions, context, targets),
        counts={rule: int(n) for rule, n in counts.items() if n},
    )


def context_arrays(
    frame: pd.DataFrame, interactions: Interactions, max_items: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns users and the arrays of their newest interactions, as in training.

    Args:
      frame: Interactions, rows of `interactions.frame` in its order.
      interactions: Where they come from.
      max_items: Most interactions of a user.

    Returns:
      The numbers of the users, ascending, and `items` int32 [users, max_items] (numbers from 1, 0
      for nothing), with ratings also `values` float32 (encoded).
    """
    last, _ = _bounded(frame.assign(place=np.arange(len(frame))), "place", max_items)
    arrays = _by_user(last, interactions, max_items)
    return arrays.users, arrays.as_dict()


@dataclasses.dataclass(frozen=True, eq=False)
class _Arrays:
    """Interactions as arrays [users, max_items]: item numbers from 1, and encoded ratings."""

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray | None

    def of(self, users: np.ndarray) -> "_Arrays":
        """Those of some users, all of whom are there."""
        place = np.searchsorted(self.users, users)
        values = None if self.values is None else self.values[place]
        return _Arrays(users, self.items[place], values)

    def as_dict(self) -> dict[str, np.ndarray]:
        """By name, without what is not there."""
        arrays = {"items": self.items, "values": self.values}
        return {name: array for name, array in arrays.items() if array is not None}


def _hold_out_at_random(frame: pd.DataFrame, fraction: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Splits into known and held out: of each user the share of its items with smallest draws."""
    # What was bought twice is one item, known by its last purchase.
    frame = frame[~frame.duplicated(["user", "item"], keep="last")]
    rank = frame.groupby("user")["draw"].rank(method="first").to_numpy() - 1
    count = frame.groupby("user")["draw"].transform("size").to_numpy()
    is_held = rank < np.minimum(np.floor(fraction * count + 0.5), count - 1)
    return frame[~is_held], frame[is_held]


def _hold_out_last_basket(
    frame: pd.DataFrame,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Splits into known and held out: of each user the new items of its last basket."""
    if "basket" not in frame:
        raise InputError(
            "held_out='last_basket' needs to know what was bought last; give --time_column, or "
            "--held_out=random"
        )
    last = frame.groupby("user")["basket"].transform("last")
    in_last = (frame["basket"] == last).to_numpy()
    baskets = frame.groupby("user")["basket"].transform("nunique").to_numpy()
    in_last &= baskets > 1
    known = frame[~in_last]
    known = known[~known.duplicated(["user", "item"], keep="last")]
    held = frame[in_last]
    held = held[~held.duplicated(["user", "item"], keep="last")]
    pairs = pd.MultiIndex.from_frame(known[["user", "item"]])
    again = pd.MultiIndex.from_frame(held[["user", "item"]]).isin(pairs)
    return known, held[~again], {"items of the last basket bought before: not tested": again.sum()}


def _bounded(frame: pd.DataFrame, by: str, max_items: int) -> tuple[pd.DataFrame, int]:
    """The last so many rows of each user in the order of a column, and how many were left out."""
    rank = frame.groupby("user")[by].rank(method="first", ascending=False)
    kept = (rank <= max_items).to_numpy()
    return frame[kept], int((~kept).sum())


def _by_user(frame: pd.DataFrame, interactions: Interactions, max_items: int) -> _Arrays:
    """The interactions as arrays, users ascending."""
    frame = frame.sort_values("user", kind="stable")
    users, row = np.unique(frame["user"].to_numpy(), return_inverse=True)
    place = frame.groupby("user").cumcount().to_numpy()
    items = np.zeros([len(users), max_items], np.int32)
    items[row, place] = frame["item"].to_numpy() + 1
    if interactions.rating_range is None:
        return _Arrays(users, items, None)
    values = np.zeros([len(users), max_items], np.float32)
    values[row, place] = interactions.rating_range.encode(frame["rating"].to_numpy())
    return _Arrays(users, items, values)


def _clients(interactions: Interactions, context: _Arrays, targets: _Arrays) -> ClientData:
    """The users with targets as clients."""
    known = context.of(targets.users)
    features = {CONTEXT_ITEMS: known.items}
    labels = targets.items
    if known.values is not None and targets.values is not None:
        features |= {CONTEXT_VALUES: known.values, TARGET_ITEMS: targets.items}
        weight = (targets.items > 0).astype(np.float32)
        labels = np.stack([targets.values, weight], axis=-1)
    return ClientData.from_rows(features, labels, interactions.users[targets.users])


def _draws(interactions: Interactions, seed: int) -> np.ndarray:
    """A number for each interaction, uint64, from the seed and the names of user and item only."""
    secret = randomness.key(seed, "held_out_interactions").view(np.uint64)[0]
    users = pd.util.hash_array(interactions.users.astype(object))
    items = pd.util.hash_array(np.array(interactions.items, object))
    frame = interactions.frame
    mixed = pd.util.hash_array(users[frame["user"].to_numpy()] ^ secret)
    return pd.util.hash_array(mixed ^ items[frame["item"].to_numpy()])
