"""The survey generator: its stated law of satisfaction and of comments, schema, wrong settings."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fl_research.data.client_data import ClientData
from fl_research.data.datasets import synthetic_survey
from fl_research.data.schema import encode
from fl_research.data.synthetic import survey
from fl_research.data.synthetic.survey import SurveyConfig
from fl_research.errors import InputError


def test_default_has_the_stated_size_and_fits_its_schema() -> None:
    loaded = synthetic_survey.load(seed=3)
    assert loaded.schema is not None
    encoded = encode(loaded.records, loaded.schema)
    data = ClientData.from_rows({"inputs": encoded.inputs}, encoded.labels, encoded.client_ids)
    assert data.num_clients == 4000
    assert (data.rows_per_client.min(), data.rows_per_client.max()) == (1, 6)
    assert encoded.inputs.shape == (len(loaded.records), 12 + 4 + 5 * 6 + 2)
    assert encoded.cleaning["rows kept"] == encoded.cleaning["rows read"] == data.num_rows
    np.testing.assert_array_equal(encoded.labels + 1, loaded.records["satisfaction"])
    assert set(data.label_counts()) == {0, 1, 2, 3, 4}


def test_score_and_probabilities_by_hand() -> None:
    """Two answers; numbers worked out from the effects in the module."""
    records = pd.DataFrame(
        {
            "branch": ["branch_01", "branch_02"],
            "solution": [5, 1],
            "staff": [0, 2],
            "clarity": [4, 3],
            "price": [2, 5],
            "opening_hours": [1, 5],
            "wait_minutes": [10.0, 32.0],
            "contacts": [1, 3],
        }
    )
    score = survey.satisfaction_score(records, {"branch_01": 0.25, "branch_02": -0.5})
    first = 0.25 + 1.8 * 1.0 + 0 + 0.8 * 0.6 - 0.5 * 0.8
    second = -0.5 - 1.8 * 1.6 - 1.3 * 0.8 + 0 + 0.5 - 0.6 * np.log(33 / 11) - 0.4 * 2
    np.testing.assert_allclose(score, [first, second], atol=1e-12)
    probability = survey.level_probabilities(score)
    five = 1 / (1 + np.exp(1.2 - first))
    four_or_five = 1 / (1 + np.exp(-0.9 - first))
    np.testing.assert_allclose(probability[0, 3:], [four_or_five - five, five], atol=1e-12)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-12)


def test_levels_are_drawn_from_the_true_probabilities() -> None:
    """In 20 bins of the true probability of each level; false alarm probability 1e-6."""
    generated = survey.generate(SurveyConfig(num_customers=20_000), seed=1)
    level = generated.records["satisfaction"].to_numpy() - 1
    np.testing.assert_allclose(
        generated.level_probabilities,
        survey.level_probabilities(
            survey.satisfaction_score(generated.records, generated.branch_effects)
        ),
    )
    for of_level in range(5):
        truth = generated.level_probabilities[:, of_level]
        for rows in np.array_split(np.argsort(truth), 20):
            drawn = (level[rows] == of_level).sum()
            spread = np.sqrt(np.sum(truth[rows] * (1 - truth[rows])))
            assert abs(drawn - truth[rows].sum()) < 5.7 * spread + 1


def test_comments_have_the_tones_of_their_level_and_nothing_else() -> None:
    """Chi-squared by level against the stated shares; false alarm probability 5e-6."""
    generated = survey.generate(SurveyConfig(num_customers=5000), seed=2)
    level = generated.records["satisfaction"].to_numpy() - 1
    for of_level, shares in enumerate(survey.TONE_SHARES):
        counts = generated.tones[level == of_level].sum(axis=0)
        assert stats.chisquare(counts, counts.sum() * np.array(shares)).pvalue > 1e-6
    phrases = generated.records["comment"].str.rstrip(".").str.split(", ")
    np.testing.assert_array_equal(phrases.str.len(), generated.tones.sum(axis=1))
    good = "great|friendly|quick|clear|helpful|perfect|good|excellent"
    praised = generated.records["comment"].str.count(f"was ({good})")
    np.testing.assert_array_equal(praised, generated.tones[:, 2])
    negated = generated.records["comment"].str.count(f"was not ({good})").sum()
    assert negated / generated.tones[:, 0].sum() == pytest.approx(0.25, abs=0.03)


def test_level_given_a_comment_is_bayes_rule() -> None:
    """Against the shares among answers with the same tones, where there are many of them."""
    generated = survey.generate(SurveyConfig(num_customers=30_000), seed=4)
    level = generated.records["satisfaction"].to_numpy() - 1
    shares = np.bincount(level) / len(level)
    for tones in ([1, 0, 0], [0, 1, 1], [0, 0, 2]):
        same = (generated.tones == tones).all(axis=1)
        found = np.bincount(level[same], minlength=5) / same.sum()
        truth = survey.level_probabilities_of_tones(np.array([tones]), shares)[0]
        np.testing.assert_allclose(found, truth, atol=5 * np.sqrt(0.25 / same.sum()))


def test_branches_differ_only_where_they_shall() -> None:
    def p_value(spread: float) -> float:
        config = SurveyConfig(num_customers=8000, branch_spread=spread)
        records = survey.generate(config, seed=2).records.groupby("customer_id").first()
        table = pd.crosstab(records["branch"], records["satisfaction"])
        return float(stats.chi2_contingency(table)[1])

    assert p_value(0.0) > 1e-6
    assert p_value(1.0) < 1e-9


def test_generation_is_pure_in_its_seed() -> None:
    config = SurveyConfig(num_customers=50)
    first, again, other = (survey.generate(config, seed) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(first.records, again.records)
    assert not first.records.equals(other.records)
    assert first.schema == other.schema  # public: nothing in it comes from the records
    smallest = SurveyConfig(num_customers=1, min_answers=1, max_answers=1, num_branches=1)
    assert len(survey.generate(smallest, seed=0).records) == 1


@pytest.mark.parametrize(
    "setting",
    [
        {"num_customers": 0},
        {"min_answers": 0},
        {"min_answers": 7},
        {"max_answers": 61},
        {"num_branches": 0},
        {"num_branches": 100},
        {"branch_spread": -0.1},
        {"branch_spread": float("nan")},
    ],
)
def test_wrong_settings_are_refused(setting: dict) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(InputError, match=f"{name}={value}"):
        SurveyConfig(**setting)
