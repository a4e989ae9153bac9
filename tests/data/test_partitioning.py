"""Partitioning: every row to one client, with the skew that was asked for."""

import numpy as np
import pytest
from scipy import stats

from fl_research.data import partitioning
from fl_research.data.client_data import ClientData
from fl_research.errors import InputError


def test_iid_is_even_and_ignores_the_order_of_rows() -> None:
    """Client by quarter of the table; chi-square, false alarm probability 1e-6."""
    ids = partitioning.iid(10_003, 20, seed=0)
    assert set(np.bincount(ids)) == {500, 501}
    table = np.zeros((20, 4))
    np.add.at(table, (ids, np.arange(10_003) * 4 // 10_003), 1)
    assert stats.chi2_contingency(table)[1] > 1e-6
    np.testing.assert_array_equal(ids, partitioning.iid(10_003, 20, seed=0))
    assert not np.array_equal(ids, partitioning.iid(10_003, 20, seed=1))


@pytest.mark.parametrize("concentration", [0.5, 4.0])
def test_label_skew_is_dirichlet(concentration: float) -> None:
    """Label counts of a client are beta-binomial; chi-square, false alarm probability 1e-6.

    Of 1,000 clients the first 200 hold a fifth of the rows, so that no label can run out among
    them and their counts are independent.
    """
    labels = np.repeat([0, 1], [140_000, 60_000])
    ids = partitioning.dirichlet_label_skew(labels, 1000, concentration, seed=0)
    assert set(np.bincount(ids)) == {200}
    ones = np.bincount(ids, weights=labels, minlength=1000)[:200].astype(int)
    law = stats.betabinom(200, 0.3 * concentration, 0.7 * concentration)
    edges = np.unique(law.ppf(np.linspace(0, 1, 9)[1:-1]))
    observed = np.bincount(np.searchsorted(edges, ones), minlength=len(edges) + 1)
    expected = 200 * np.diff(np.concatenate([[0], law.cdf(edges), [1]]))
    assert stats.chisquare(observed, expected).pvalue > 1e-6


def test_label_skew_at_its_extremes() -> None:
    """Chi-square tests, false alarm probability 1e-6 each; the last clients take what is left."""
    labels = np.random.default_rng(0).integers(0, 10, 20_000)
    single = partitioning.dirichlet_label_skew(labels, 100, 1e-4, seed=0)
    kinds = np.array([len(np.unique(labels[single == client])) for client in range(100)])
    # Only a client that meets the end of a label takes a second one.
    assert np.sum(kinds > 1) <= 30
    even = partitioning.dirichlet_label_skew(labels, 20, 1e7, seed=0)
    counts = np.zeros((20, 10))
    np.add.at(counts, (even, labels), 1)
    expected = 1000 * np.bincount(labels) / 20_000
    statistic = np.sum((counts[:10] - expected) ** 2 / expected)
    assert stats.chi2.sf(statistic, df=10 * 9) > 1e-6
    by_position = np.zeros((20, 10))
    np.add.at(by_position, (even, np.arange(20_000) * 10 // 20_000), 1)
    assert stats.chi2_contingency(by_position)[1] > 1e-6
    assert set(np.bincount(single)) == {200} and set(np.bincount(even)) == {1000}
    again = partitioning.dirichlet_label_skew(labels, 100, 1e-4, seed=0)
    np.testing.assert_array_equal(single, again)


def test_label_skew_with_a_rare_label_ends() -> None:
    labels = np.array(["common"] * 997 + ["rare"] * 3)
    ids = partitioning.dirichlet_label_skew(labels, 10, 0.01, seed=5)
    assert list(np.bincount(ids)) == [100] * 10


def test_quantity_skew_is_lognormal() -> None:
    """Variance of the log sizes by a chi-square interval; false alarm probability 1e-6.

    The interval is widened by 2 % for the multinomial draw on top of the weights.
    """
    ids = partitioning.quantity_skew(1_000_000, 400, 0.8, seed=0)
    assert len(ids) == 1_000_000
    log_sizes = np.log(np.bincount(ids, minlength=400))
    statistic = 399 * np.var(log_sizes, ddof=1) / 0.8**2
    low, high = stats.chi2(df=399).ppf([5e-7, 1 - 5e-7])
    assert 0.98 * low < statistic < 1.02 * high
    even = np.bincount(partitioning.quantity_skew(100_000, 50, 0.0, seed=0))
    assert stats.chisquare(even).pvalue > 1e-6


def test_a_client_without_rows_does_not_exist() -> None:
    ids = partitioning.quantity_skew(100, 100, 2.0, seed=0)
    data = ClientData.from_rows({"inputs": np.arange(100.0)}, np.arange(100), ids)
    assert data.num_clients < 100
    assert data.rows_per_client.min() >= 1
    assert sorted(data.labels) == list(range(100))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: partitioning.iid(5, 6, 0), "num_clients=6 does not fit 5 rows"),
        (lambda: partitioning.iid(5, 0, 0), "num_clients=0"),
        (lambda: partitioning.quantity_skew(5, 2, -1.0, 0), "sigma=-1.0"),
        (lambda: partitioning.dirichlet_label_skew(np.ones(5), 2, 0.0, 0), "concentration=0.0"),
        (lambda: partitioning.dirichlet_label_skew(np.ones(0), 2, 1.0, 0), "num_clients=2"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
