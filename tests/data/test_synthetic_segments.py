"""The generator of customers in segments: its stated law, its truth, its schema, wrong settings."""

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from fl_research.data.datasets import registry as datasets
from fl_research.data.schema import encode
from fl_research.data.synthetic import segments
from fl_research.data.synthetic.segments import SegmentsConfig
from fl_research.errors import InputError


def test_default_has_the_stated_size_and_fits_its_schema() -> None:
    loaded = datasets.load("synthetic_segments", seed=3)
    encoded = encode(loaded.records, loaded.schema)
    assert encoded.inputs.shape == (6000, 16)
    assert set(encoded.cleaning) == {"rows kept", "rows read"}  # no rule had to act
    assert set(encoded.client_ids) == set(segments.department_names(SegmentsConfig()))
    assert not any("segment" in name for name in encoded.feature_names)
    assert 0.27 < encoded.labels.mean() < 0.33


def test_same_seed_same_customers() -> None:
    config = SegmentsConfig(num_customers=50)
    one, again = (segments.generate(config, seed=1).records for _ in range(2))
    pd.testing.assert_frame_equal(one, again)
    assert not one.equals(segments.generate(config, seed=2).records)


def test_own_scale_is_that_of_the_schema() -> None:
    """The generator's own encoding of its numbers is what `encode` makes of them."""
    made = segments.generate(SegmentsConfig(num_customers=300), seed=0)
    np.testing.assert_allclose(
        segments.encoded(made.records), encode(made.records, made.schema).inputs[:, :6], atol=1e-6
    )


def test_truth_is_in_the_column_and_k_means_finds_it() -> None:
    """Well separated: an independent k-means on the encoded records finds the segments."""
    made = segments.generate(SegmentsConfig(num_customers=3000, spread=0.15), seed=5)
    names = np.char.mod("segment_%02d", made.segment + 1)
    np.testing.assert_array_equal(made.records[segments.SEGMENT_COLUMN], names)
    inputs = encode(made.records, made.schema).inputs
    found = KMeans(5, n_init=10, random_state=0).fit(inputs).labels_
    assert adjusted_rand_score(made.segment, found) > 0.95
    # Numbers scatter around their segment's profile: mean of 300 or more, deviation 0.15.
    for segment in range(5):
        own = segments.encoded(made.records)[made.segment == segment]
        np.testing.assert_allclose(own.mean(axis=0), made.profiles[segment], atol=0.05)


def test_departments_have_the_stated_mixes() -> None:
    made = segments.generate(SegmentsConfig(num_customers=40_000, num_departments=3), seed=2)
    for number, name in enumerate(("department_01", "department_02", "department_03")):
        of_it = made.segment[(made.records["department"] == name).to_numpy()]
        shares = np.bincount(of_it, minlength=5) / len(of_it)
        np.testing.assert_allclose(shares, made.mixes[number], atol=0.02)


def test_high_value_is_drawn_from_the_true_probability() -> None:
    """In ten bins of true probability; six standard deviations."""
    made = segments.generate(SegmentsConfig(num_customers=20_000), seed=4)
    truth = made.high_value_probability
    assert truth.mean() == pytest.approx(0.3, abs=1e-9)
    department = made.records["department"]
    log_odds = segments.high_value_log_odds(
        segments.encoded(made.records),
        segment_effect=made.segment_effect[made.segment],
        department_effect=department.map(made.department_effect).to_numpy(),
        months_effect=department.map(made.months_effect).to_numpy(),
    )
    np.testing.assert_allclose(1 / (1 + np.exp(-log_odds - made.intercept)), truth, atol=1e-9)
    drawn = (made.records["high_value"] == "yes").to_numpy()
    edges = np.quantile(truth, np.linspace(0, 1, 11))[1:-1]
    bins = np.searchsorted(edges, truth)
    for number in range(10):
        of_it = bins == number
        deviation = np.sqrt((truth[of_it] * (1 - truth[of_it])).sum()) / of_it.sum()
        assert drawn[of_it].mean() == pytest.approx(truth[of_it].mean(), abs=6 * deviation)


def test_log_odds_by_hand() -> None:
    """One customer: 0.4 + 0.3 + 2 * 0.2 + 0.7 * -0.5."""
    numbers = np.array([[0.0, -0.5, 0.0, 0.2, 0.0, 0.0]])
    found = segments.high_value_log_odds(
        numbers,
        segment_effect=np.array([0.4]),
        department_effect=np.array([0.3]),
        months_effect=np.array([0.7]),
    )
    np.testing.assert_allclose(found, [0.75], atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_customers": 0}, "num_customers=0"),
        ({"num_segments": 1}, "num_segments=1 is out of range; give 2 to 12"),
        ({"num_segments": 13}, "num_segments=13"),
        ({"num_departments": 0}, "num_departments=0"),
        ({"spread": 0.0}, "spread=0.0"),
        ({"mix": -1.0}, "mix=-1.0"),
        ({"department_spread": 4}, "department_spread=4"),
        ({"high_value_rate": 1.0}, "high_value_rate=1.0"),
        ({"high_value_rate": float("nan")}, "high_value_rate=nan"),
    ],
)
def test_wrong_settings(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SegmentsConfig(**settings)
