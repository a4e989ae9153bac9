"""Interactions out of tables: rules, errors, what is held out, bounds, preparing new ones."""

import numpy as np
import pandas as pd
import pytest

from fl_research.data.interaction_split import SplitConfig, split_interactions
from fl_research.data.interactions import (
    InteractionColumns,
    Interactions,
    RatingRange,
    read_interactions,
)
from fl_research.data.preparation import interactions as preparation
from fl_research.errors import InputError

RATED = InteractionColumns(user="who", item="what", rating="stars")
BOUGHT = InteractionColumns(user="who", item="what", time="when", basket="invoice")
STARS = RatingRange(lowest=1.0, highest=5.0)


def _rated(*rows: tuple) -> pd.DataFrame:
    """A table of ratings."""
    return pd.DataFrame(rows, columns=["who", "what", "stars"])


def _bought(*rows: tuple) -> pd.DataFrame:
    """A table of purchases."""
    return pd.DataFrame(rows, columns=["who", "what", "when", "invoice"])


def _many(users: int, items: int, seed: int = 0, purchases: int = 12) -> pd.DataFrame:
    """Purchases over some days, items again and again."""
    generator = np.random.default_rng(seed)
    rows = users * purchases
    day = generator.integers(1, 20, rows)
    who = np.repeat(np.arange(users), purchases)
    return pd.DataFrame(
        {
            "who": np.char.mod("u%03d", who),
            "what": np.char.mod("i%02d", generator.integers(0, items, rows)),
            "when": [f"2024-03-{d:02d}" for d in day],
            "invoice": [f"{w}-{d}" for w, d in zip(who, day, strict=True)],
            "stars": generator.integers(1, 6, rows).astype(str),
        }
    )


def _pairs(clients, labels) -> set[tuple[str, int]]:
    """(customer, number of an item) of arrays of items."""
    return {
        (str(name), int(item))
        for name, items in zip(clients.client_ids, labels, strict=True)
        for item in items[items > 0]
    }


def test_rules_and_their_counts() -> None:
    read = read_interactions(
        _rated(
            ("b", "y", "4"),
            ("a", "x", "1"),
            ("", "x", "2"),
            ("a", " ", "2"),
            ("a", "y", ""),
            ("b", "y", " 2.5 "),
            (7, 8.0, "5"),
        ),
        RATED,
        rating_range=STARS,
    )
    assert read.users.tolist() == ["7", "a", "b"] and read.items == ("8", "x", "y")
    assert read.frame[["user", "item", "rating"]].to_numpy().tolist() == [
        [1, 1, 1.0],
        [2, 2, 2.5],
        [0, 0, 5.0],
    ]
    assert read.cleaning == {
        "records read": 7,
        "who: missing -> record left out": 1,
        "what: missing -> record left out": 1,
        "stars: missing -> record left out": 1,
        "an item rated again by the same user: only the last counts": 1,
        "records kept": 3,
    }


def test_the_last_rating_is_the_latest_where_there_are_times() -> None:
    records = _rated(("a", "x", "4"), ("a", "x", "2"), ("a", "y", "1")).assign(
        when=["2024-01-05", "2024-01-02", "2024-01-01"]
    )
    columns = InteractionColumns(user="who", item="what", rating="stars", time="when")
    read = read_interactions(records, columns, rating_range=STARS)
    assert read.frame["rating"].tolist() == [1.0, 4.0]


@pytest.mark.parametrize(
    ("rows", "bounds", "message"),
    [
        ([("a", "x", "6"), ("a", "y", "1")], STARS, r"row 1 .*rating 6 is outside.*1,5 \(1 are\)"),
        ([("a", "x", "-2"), ("a", "y", "1")], None, "negative rating -2.*--rating_range"),
        ([("a", "x", "good"), ("a", "y", "1")], STARS, "'stars', row 1 .*'good' is no rating"),
        ([("a", "x", "nan"), ("a", "y", "1")], STARS, "row 1 .*'nan' is no rating"),
        ([("a", "x", "3"), ("b", "y", "3")], None, "every rating .* is 3.*implicit"),
        ([("a", "x", "3"), ("b", "x", "4")], STARS, "names 1 item"),
        ([("", "x", "3"), ("b", "", "4")], STARS, "no interaction is left of 2 records"),
        ([], STARS, "is empty"),
    ],
)
def test_wrong_ratings_are_one_clear_error(
    rows: list, bounds: RatingRange | None, message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_interactions(_rated(*rows), RATED, rating_range=bounds)
    assert "\n" not in str(error.value)


def test_missing_columns_and_unreadable_times() -> None:
    with pytest.raises(InputError, match="no column 'stars' for the rating .*did you mean 'star'"):
        read_interactions(_rated(("a", "x", "1")).rename(columns={"stars": "star"}), RATED)
    table = _bought(("a", "x", "yesterday", "1"), ("a", "y", "2024-01-01", "2"))
    with pytest.raises(InputError, match="'when', row 1 .*'yesterday' is no date"):
        read_interactions(table, BOUGHT)


@pytest.mark.parametrize("bounds", [(5.0, 1.0), (1.0, 1.0), (float("nan"), 5.0)])
def test_a_range_that_is_none_is_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="rating_range=.* is no range"):
        RatingRange(lowest=bounds[0], highest=bounds[1])


def test_a_given_catalogue_leaves_out_other_items() -> None:
    read = read_interactions(
        _rated(("a", "z", "4"), ("a", "x", "1"), ("b", "new", "2")),
        RATED,
        rating_range=STARS,
        items=("w", "x", "z"),
    )
    assert read.items == ("w", "x", "z") and read.frame["item"].tolist() == [2, 1]
    assert read.cleaning["items that the catalogue does not have: record left out"] == 1


def test_the_last_basket_is_held_out_by_hand() -> None:
    """Items bought before are no test; nor is one basket, or a last one with nothing new."""
    read = read_interactions(
        _bought(
            ("a", "x", "2024-01-01", "1"),
            ("a", "z", "2024-02-03", "4"),
            ("a", "x", "2024-02-03", "4"),
            ("a", "y", "2024-01-02", "2"),
            ("b", "x", "2024-01-01", "3"),
            ("c", "x", "2024-01-01", "5"),
            ("c", "x", "2024-01-02", "6"),
        ),
        BOUGHT,
    )
    split = split_interactions(read, SplitConfig(held_out="last_basket", max_items=3), seed=0)
    assert split.train.client_ids.tolist() == ["a", "b", "c"]
    assert split.train.labels.tolist() == [[1, 2, 0], [1, 0, 0], [1, 0, 0]]
    np.testing.assert_array_equal(split.train.features["context_items"], split.train.labels)
    assert split.held_out.client_ids.tolist() == ["a"]
    assert split.held_out.labels.tolist() == [[3, 0, 0]]
    assert split.held_out.features["context_items"].tolist() == [[1, 2, 0]]
    assert split.counts == {
        "items of the last basket bought before: not tested": 2,
        "interactions trained on": 4,
        "interactions held out": 1,
        "customers with nothing to hold out: trained on only": 2,
    }


def test_without_basket_numbers_the_same_time_is_a_basket() -> None:
    table = _bought(("a", "x", "2024-01-01", ""), ("a", "y", "2024-01-02", ""))
    table = pd.concat([table, _bought(("a", "z", "2024-01-02", ""))])
    columns = InteractionColumns(user="who", item="what", time="when")
    split = split_interactions(
        read_interactions(table, columns), SplitConfig(held_out="last_basket"), seed=0
    )
    assert _pairs(split.held_out, split.held_out.labels) == {("a", 2), ("a", 3)}


@pytest.mark.parametrize("held_out", ["random", "last_basket"])
@pytest.mark.parametrize("max_items", [3, 200])
def test_no_item_of_the_test_was_seen_in_training(held_out: str, max_items: int) -> None:
    read = read_interactions(_many(80, 15), BOUGHT)
    split = split_interactions(read, SplitConfig(held_out=held_out, max_items=max_items), seed=1)
    trained = _pairs(split.train, split.train.labels)
    held = _pairs(split.held_out, split.held_out.labels)
    assert len(held) > 50 and not trained & held
    context = _pairs(split.held_out, split.held_out.features["context_items"])
    assert context <= trained
    np.testing.assert_array_equal(split.train.labels, split.train.features["context_items"])


def test_ratings_are_held_out_at_random_and_none_gets_lost() -> None:
    records = _many(60, 40)
    read = read_interactions(records, RATED, rating_range=STARS)
    split = split_interactions(read, SplitConfig(held_out="random", fraction=0.25), seed=2)
    kept = (split.train.features["target_items"] > 0).sum(axis=1)
    held = (split.held_out.features["target_items"] > 0).sum(axis=1)
    np.testing.assert_array_equal(held, np.floor(0.25 * (kept + held) + 0.5))
    last = records.drop_duplicates(["who", "what"], keep="last")
    expected = {(w, i, int(s)) for w, i, s in last[["who", "what", "stars"]].to_numpy()}
    found = set()
    for clients in (split.train, split.held_out):
        for name, items, labels in zip(
            clients.client_ids, clients.features["target_items"], clients.labels, strict=True
        ):
            there = labels[:, 1] == 1
            np.testing.assert_array_equal(there, items > 0)
            for item, value in zip(items[there], labels[there, 0], strict=True):
                found.add((name, read.items[item - 1], round(float(STARS.decode(value)))))
    assert found == expected
    other = split_interactions(read, SplitConfig(held_out="random", fraction=0.25), seed=3)
    assert (other.held_out.labels != split.held_out.labels).any()


def _row_of(split, name: str) -> tuple:
    """What a user trains on, and is tested on if at all."""
    return tuple(
        clients.labels[clients.client_ids == name].tolist()
        for clients in (split.train, split.held_out)
    )


@pytest.mark.parametrize("held_out", ["random", "last_basket"])
def test_a_users_split_and_bound_depend_on_no_other_user(held_out: str) -> None:
    """Neighbouring data sets differ in one customer only; the catalogue is the same."""
    records = _many(30, 25, purchases=25)
    items = tuple(sorted(records["what"].unique()))
    config = SplitConfig(held_out=held_out, max_items=4)

    def split(table: pd.DataFrame):
        return split_interactions(read_interactions(table, BOUGHT, items=items), config, seed=5)

    everybody, others = split(records), split(records[records["who"] != "u003"])
    assert others.held_out.num_clients > 5 and others.train.num_clients == 29
    for name in others.train.client_ids:
        assert _row_of(everybody, name) == _row_of(others, name)


def test_the_newest_items_are_kept_within_the_bound() -> None:
    table = _bought(*(("a", f"i{d}", f"2024-01-{d:02d}", str(d)) for d in range(9, 0, -1)))
    read = read_interactions(table, BOUGHT)
    split = split_interactions(read, SplitConfig(held_out="last_basket", max_items=2), seed=0)
    assert {read.items[i - 1] for i in split.train.labels[0]} == {"i7", "i8"}
    assert split.counts["over max_items_per_client: left out of training"] == 6


@pytest.mark.parametrize(
    ("table", "held_out", "message"),
    [
        (_rated(("a", "x", "1"), ("b", "y", "2")), "random", "no user has two interactions"),
        (_rated(("a", "x", "1"), ("a", "y", "2")), "last_basket", "--time_column"),
    ],
)
def test_nothing_to_hold_out_is_refused(table: pd.DataFrame, held_out: str, message: str) -> None:
    read = read_interactions(table, RATED, rating_range=STARS)
    with pytest.raises(InputError, match=message):
        split_interactions(read, SplitConfig(held_out=held_out), seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"held_out": "newest"}, "held_out='newest' is unknown"),
        ({"fraction": 1.0}, "held_out_fraction=1.0 is no share"),
        ({"max_items": 0}, "max_items_per_client=0 is not possible"),
    ],
)
def test_split_settings_out_of_range(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SplitConfig(**{"held_out": "random", **settings})


def _settings(read: Interactions, columns: InteractionColumns, max_items: int = 4) -> dict:
    """The preparation of a model trained on these."""
    return preparation.settings_of(
        columns, items=read.items, max_items=max_items, rating_range=read.rating_range
    )


def test_new_purchases_are_prepared_as_in_training() -> None:
    """The same records give the same context; unknown items are left out and counted."""
    records = _many(20, 15)
    read = read_interactions(records, BOUGHT)
    split = split_interactions(read, SplitConfig(held_out="last_basket", max_items=4), seed=0)
    newest = read.frame.groupby("user")["basket"].transform("last")
    earlier = read.frame[read.frame["basket"] != newest]
    again = pd.DataFrame(
        {
            "who": read.users[earlier["user"]],
            "what": np.array(read.items)[earlier["item"]],
            "when": earlier["time"],
            "invoice": earlier["basket"],
        }
    )
    again = pd.concat([again, _bought(("u001", "unheard of", "2024-03-01", "1"))])
    prepared = preparation.prepare(again, _settings(read, BOUGHT))
    assert list(prepared.ids) == split.train.client_ids.tolist()
    np.testing.assert_array_equal(
        prepared.features["context_items"], split.train.features["context_items"]
    )
    assert prepared.dropped == {"items that the catalogue does not have: record left out": 1}


def test_empty_ratings_are_questions() -> None:
    read = read_interactions(_many(20, 15), RATED, rating_range=STARS)
    new = _rated(
        ("n", "i03", "5"),
        ("n", "i04", ""),
        ("m", "i05", ""),
        ("k", "i05", "1"),
        *(("m", f"i{n:02d}", "") for n in range(6, 12)),
    )
    prepared = preparation.prepare(new, _settings(read, RATED))
    assert list(prepared.ids) == ["m", "n"]  # k asks nothing
    assert prepared.features["context_items"].tolist() == [[0] * 4, [4, 0, 0, 0]]
    assert prepared.features["context_values"][1].tolist() == [1.0, 0, 0, 0]
    assert prepared.features["target_items"][1].tolist() == [5, 0, 0, 0]
    assert (prepared.features["target_items"][0] > 0).all()
    assert prepared.dropped == {"questions beyond 4 of one customer left out": 3}
    with pytest.raises(InputError, match="no record asks for a rating"):
        preparation.prepare(_rated(("n", "i03", "5")), _settings(read, RATED))


@pytest.mark.parametrize("ratings", [["", "5"], ["5", ""], ["", "1", "", "5"]])
def test_a_question_stands_beside_a_rating_of_the_same_item(ratings: list[str]) -> None:
    read = read_interactions(_many(20, 15), RATED, rating_range=STARS)
    new = _rated(*(("n", "i03", rating) for rating in ratings))
    prepared = preparation.prepare(new, _settings(read, RATED))
    assert list(prepared.ids) == ["n"]
    assert prepared.features["target_items"].tolist() == [[4, 0, 0, 0]]
    assert prepared.features["context_items"].tolist() == [[4, 0, 0, 0]]
    assert prepared.features["context_values"].tolist() == [[1.0, 0, 0, 0]]
    again = {"an item rated again by the same user: only the last counts": 1,
             "an item asked for again by the same user: only the last counts": 1}  # fmt: skip
    assert prepared.dropped == (again if len(ratings) == 4 else {})
