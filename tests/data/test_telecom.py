"""The telecom generator: its stated law of churn, its branches, its schema, wrong settings."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fl_research.data.client_data import ClientData
from fl_research.data.schema import encode
from fl_research.data.synthetic import telecom
from fl_research.data.synthetic.telecom import TelecomConfig
from fl_research.errors import InputError


def test_default_has_the_stated_size_and_fits_its_schema() -> None:
    generated = telecom.generate(TelecomConfig(), seed=0)
    encoded = encode(generated.records, generated.schema)
    data = ClientData.from_rows({"inputs": encoded.inputs}, encoded.labels, encoded.client_ids)
    assert data.num_clients == 4000
    assert (data.rows_per_client.min(), data.rows_per_client.max()) == (3, 12)
    assert encoded.inputs.shape == (len(generated.records), 24)
    assert encoded.cleaning["rows kept"] == encoded.cleaning["rows read"] == data.num_rows
    assert set(encoded.cleaning) == {"rows kept", "rows read"}  # no rule had to act
    np.testing.assert_array_equal(encoded.labels == 1, generated.records["churn"] == "yes")


def test_log_odds_by_hand() -> None:
    """Two records; numbers worked out from the effects in the module."""
    records = pd.DataFrame(
        {
            "branch": ["branch_01", "branch_02"],
            "tenure_months": [10, 50],
            "contract": ["month_to_month", "two_year"],
            "internet": ["fiber", "dsl"],
            "payment_method": ["electronic_check", "bank_transfer"],
            "monthly_charge": [80.0, 55.0],
            "call_minutes": [300.0, 100.0],
            "data_gb": [np.e - 1, 40.0],
            "complaints": [2, 2],
            "support_calls": [3, 0],
        }
    )
    log_odds = telecom.churn_log_odds(
        records, intercept=-1.0, branch_effects={"branch_01": 0.25, "branch_02": -0.5}
    )
    first = -1 + 0.25 - 0.3 + 0 + 2.8 + 0.5 + 0.4 + 2 * (0.2 + 1.2) + 0.75 - 0.8
    second = -1 - 0.5 - 1.5 - 2.0 + 0 + 0 - 0.1 + 2 * 0.2 + 0 + 0
    np.testing.assert_allclose(log_odds, [first, second], atol=1e-12)


def test_labels_are_drawn_from_the_true_probability() -> None:
    """Churn in 50 bins of true probability and by branch; false alarm probability 2e-6."""
    generated = telecom.generate(TelecomConfig(num_customers=20_000), seed=1)
    truth = generated.churn_probability
    log_odds = telecom.churn_log_odds(
        generated.records,
        intercept=generated.intercept,
        branch_effects=generated.branch_effects,
    )
    np.testing.assert_allclose(truth, 1 / (1 + np.exp(-log_odds)), rtol=1e-12)
    assert truth.mean() == pytest.approx(0.25, abs=1e-9)
    churned = (generated.records["churn"] == "yes").to_numpy()
    for groups in (pd.qcut(truth, 50, labels=False), pd.factorize(generated.records["branch"])[0]):
        excess = np.bincount(groups, weights=churned - truth)
        variance = np.bincount(groups, weights=truth * (1 - truth))
        assert stats.chi2.sf(np.sum(excess**2 / variance), df=len(excess)) > 1e-6


def test_best_auc_and_what_a_linear_model_reaches() -> None:
    """The best AUC is about 0.85; logistic regression stays a little below it, by customer."""
    best, linear = [], []
    for seed in range(3):
        generated = telecom.generate(TelecomConfig(), seed)
        encoded = encode(generated.records, generated.schema)
        rows = {"inputs": encoded.inputs, "truth": generated.churn_probability}
        data = ClientData.from_rows(rows, encoded.labels, encoded.client_ids)
        train, _, test = data.split(validation_fraction=0, test_fraction=0.2, seed=seed)
        model = LogisticRegression(max_iter=2000).fit(train.features["inputs"], train.labels)
        scores = model.decision_function(test.features["inputs"])
        best.append(roc_auc_score(test.labels, test.features["truth"]))
        linear.append(roc_auc_score(test.labels, scores))
    print(f"best AUC {np.round(best, 4)}, logistic regression {np.round(linear, 4)}")
    assert np.mean(best) == pytest.approx(0.85, abs=0.02)
    gap = np.mean(best) - np.mean(linear)
    assert 0.003 < gap < 0.02  # what the two interactions are worth


def test_branches_differ_as_far_as_asked() -> None:
    """Contract, fibre, churn by branch; chi-square, false alarm probability 3e-6 when alike."""

    def p_values(spread: float) -> list[float]:
        config = TelecomConfig(num_customers=10_000, branch_spread=spread)
        records = telecom.generate(config, seed=2).records
        # One record a customer: those of one customer are not independent.
        records = records.groupby("customer_id").first()
        columns = ("contract", "internet", "churn")
        return [
            stats.chi2_contingency(pd.crosstab(records["branch"], records[column]))[1]
            for column in columns
        ]

    assert min(p_values(0.0)) > 1e-6
    assert max(p_values(1.0)) < 1e-9


def test_generation_is_pure_in_its_seed() -> None:
    config = TelecomConfig(num_customers=50)
    first, again, other = (telecom.generate(config, seed) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(first.records, again.records)
    np.testing.assert_array_equal(first.churn_probability, again.churn_probability)
    assert not first.records.equals(other.records)
    assert first.schema == other.schema  # public: nothing in it comes from the records


@pytest.mark.parametrize(
    "setting",
    [
        {"num_customers": 0},
        {"min_months": 0},
        {"min_months": 13},
        {"max_months": 61},
        {"num_branches": 0},
        {"num_branches": 100},
        {"branch_spread": -0.1},
        {"branch_spread": float("nan")},
        {"churn_rate": 0.0},
        {"churn_rate": 1.0},
    ],
)
def test_wrong_settings_are_refused(setting: dict) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(InputError, match=f"{name}={value}"):
        TelecomConfig(**setting)
    assert TelecomConfig(num_customers=1, min_months=1, max_months=1, num_branches=1)


def test_the_smallest_provider_can_be_generated() -> None:
    config = TelecomConfig(num_customers=1, min_months=1, max_months=1, num_branches=1)
    assert len(telecom.generate(config, seed=0).records) == 1
