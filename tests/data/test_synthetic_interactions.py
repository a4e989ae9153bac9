"""Generated ratings and baskets follow the law that they state; MovieLens is read as published."""

from pathlib import Path

import numpy as np
import pytest

from fl_research.data.datasets import movielens_100k
from fl_research.data.datasets import registry as datasets
from fl_research.data.synthetic import baskets, ratings
from fl_research.errors import InputError


def test_ratings_have_the_stated_rank_noise_and_range() -> None:
    """A piece of the means that is known in full has rank 3 + 2: its sixth singular value is 0."""
    config = ratings.RatingsConfig(num_customers=400, num_items=60, typical_ratings=30, rank=3)
    generated = ratings.generate(config, seed=1)
    records = generated.records
    assert not records.duplicated(["customer", "item"]).any()
    assert records["rating"].between(1, 5).all() and records["customer"].nunique() == 400
    inside = np.abs(generated.expected - 3) < 1
    error = (records["rating"] - generated.expected)[inside]
    assert error.std() == pytest.approx(config.noise, rel=0.03) and abs(error.mean()) < 0.02
    means = np.full([400, 60], np.nan)
    rows = records["customer"].str[1:].astype(int) - 1, records["item"].str[1:].astype(int) - 1
    means[rows] = generated.expected
    # Rank 3, and two more for the biases.
    values = np.linalg.svd(_known_piece(means, 7), compute_uv=False)
    assert values[4] > 1e-6 and values[5] < 1e-9


def _known_piece(means: np.ndarray, size: int) -> np.ndarray:
    """A square piece of a matrix without NaN: the customers and items with most ratings."""
    known = np.isfinite(means)
    items = np.argsort(-known.sum(axis=0))[:size]
    customers = np.flatnonzero(known[:, items].all(axis=1))[:size]
    assert len(customers) == size
    return means[np.ix_(customers, items)]


def test_the_smallest_rmse_is_that_of_the_noise_where_nothing_is_cut() -> None:
    config = ratings.RatingsConfig(
        num_customers=300, taste=0.1, customer_bias=0.1, item_bias=0.1, noise=0.3
    )
    assert ratings.generate(config, 0).smallest_rmse == pytest.approx(0.3, rel=0.03)


def test_baskets_follow_the_stated_probabilities() -> None:
    """Frequencies over all customers against the mean probability: chi-squared per item about 1."""
    config = baskets.BasketsConfig(num_customers=1500, num_items=40)
    generated = baskets.generate(config, seed=3)
    records = generated.records
    owner = records["customer"].str[1:].astype(int).to_numpy() - 1
    item = records["item"].str[1:].astype(int).to_numpy() - 1
    np.testing.assert_allclose(generated.probability.sum(axis=1), 1)
    expected = generated.probability[owner].sum(axis=0)
    variance = (generated.probability * (1 - generated.probability))[owner].sum(axis=0)
    score = (np.bincount(item, minlength=40) - expected) / np.sqrt(variance)
    assert np.mean(score**2) == pytest.approx(1, abs=0.6)
    # And by customer: what is bought has more probability than popularity gives it.
    own = generated.probability[owner, item].mean()
    assert own > 2 * generated.probability.mean(axis=0)[item].mean()
    by_invoice = records.groupby("invoice")
    assert (by_invoice["time"].nunique() == 1).all() and by_invoice.size().max() <= 6
    baskets_of = records.groupby("customer")["invoice"].nunique()
    assert baskets_of.min() == 1 and baskets_of.max() == config.max_baskets
    days = records.drop_duplicates("invoice").groupby("customer")["time"].nunique()
    np.testing.assert_array_equal(days, baskets_of)


@pytest.mark.parametrize("name", ["synthetic_ratings", "synthetic_baskets"])
def test_the_seed_decides(name: str) -> None:
    one, again, other = (datasets.load(name, path=None, seed=s).records for s in (1, 1, 2))
    assert one.equals(again) and not one.equals(other)


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (ratings.RatingsConfig, {"typical_ratings": 200}, "typical_ratings=200 is too many"),
        (ratings.RatingsConfig, {"noise": -1.0}, "noise=-1.0 is not possible"),
        (ratings.RatingsConfig, {"num_items": 3}, "num_items=3 is not possible"),
        (baskets.BasketsConfig, {"num_items": 2}, "num_items=2 is not possible"),
        (baskets.BasketsConfig, {"concentration": 0.0}, "concentration=0.0 is not possible"),
    ],
)
def test_settings_out_of_range(config: type, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(**settings)


def test_movielens_is_read_from_the_users_folder(tmp_path: Path) -> None:
    content = "196\t242\t3\t881250949\n186\t302\t5\t891717742\n"
    (tmp_path / "u.data").write_text(content)
    for path in (tmp_path, tmp_path / "u.data"):
        loaded = movielens_100k.load(path=str(path))
        assert loaded.records.drop(columns="time").to_numpy().tolist() == [
            ["196", "242", "3"],
            ["186", "302", "5"],
        ]
        assert str(loaded.records["time"].iloc[0]) == "1997-12-04 15:55:49"
        assert "not that of the known copy" in loaded.notes[0]


def test_movielens_is_never_downloaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="may not be passed on .*ml-100k.zip.*--data=PATH"):
        movielens_100k.load(path=None)
    with pytest.raises(InputError, match="u.data cannot be read"):
        movielens_100k.load(path=str(tmp_path))
    (tmp_path / "u.data").write_text("1\t2\t3\tnoon\n")
    with pytest.raises(InputError, match="'noon' where seconds since 1970 belong"):
        movielens_100k.load(path=str(tmp_path))
