"""Platt scaling by sums over clients: against scikit-learn, and for every cut into clients."""

import numpy as np
import pytest
from sklearn.calibration import _SigmoidCalibration
from sklearn.linear_model import LogisticRegression

from fl_research.errors import InputError
from fl_research.learning import platt_scaling
from fl_research.learning.platt_scaling import PlattScaling


def example(rows: int, seed: int, slope: float = 0.6, intercept: float = -0.8):
    """Scores, and labels whose log-odds are slope * score + intercept."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 2, rows)
    truth = 1 / (1 + np.exp(-(slope * scores + intercept)))
    return scores, (generator.random(rows) < truth).astype(np.int32)


def whole(rows: int) -> np.ndarray:
    """The row splits of one client with all rows."""
    return np.array([0, rows], np.int64)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_scikit_learn_finds(seed: int):
    scores, labels = example(300, seed)
    ours = platt_scaling.fit(scores, labels, whole(300))
    theirs = _SigmoidCalibration().fit(scores, labels)
    assert ours.slope == pytest.approx(-theirs.a_, rel=1e-3)
    assert ours.intercept == pytest.approx(-theirs.b_, rel=1e-3)
    np.testing.assert_allclose(
        ours.probabilities(scores), theirs.predict(scores), rtol=0, atol=2e-4
    )


def test_many_rows_give_the_maximum_likelihood_and_the_truth():
    scores, labels = example(100_000, 7)
    ours = platt_scaling.fit(scores, labels, whole(len(scores)))
    free = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(scores[:, None], labels)
    assert ours.slope == pytest.approx(free.coef_[0, 0], rel=1e-3)
    assert ours.intercept == pytest.approx(free.intercept_[0], rel=1e-3)
    assert ours.slope == pytest.approx(0.6, abs=0.02)
    assert ours.intercept == pytest.approx(-0.8, abs=0.03)


def test_how_rows_are_dealt_to_clients_changes_nothing():
    scores, labels = example(90, 3)
    one = platt_scaling.fit(scores, labels, whole(90))
    for splits in (np.arange(91), np.array([0, 0, 40, 40, 90, 90])):
        cut = platt_scaling.fit(scores, labels, splits.astype(np.int64))
        assert cut.slope == pytest.approx(one.slope, rel=1e-9)
        assert cut.intercept == pytest.approx(one.intercept, rel=1e-9)


def test_what_a_client_says_by_finite_differences():
    scores, labels = example(6, 1)
    splits = np.array([0, 2, 2, 6], np.int64)
    at = np.array([0.3, -0.2])
    sums = platt_scaling.client_sums(scores, labels, splits, at)
    assert sums.shape == (3, 6) and not sums[1].any()
    np.testing.assert_allclose(
        sums[0], platt_scaling.client_sums(scores[:2], labels[:2], whole(2), at)[0]
    )
    step = 1e-5
    for index in range(2):
        moved = step * np.eye(2)[index]
        after = platt_scaling.client_sums(scores, labels, splits, at + moved)
        before = platt_scaling.client_sums(scores, labels, splits, at - moved)
        slopes = (after - before) / (2 * step)
        np.testing.assert_allclose(slopes[:, 0], sums[:, 1 + index], atol=1e-8)
        np.testing.assert_allclose(slopes[:, 1], sums[:, 3 + index], atol=1e-8)
        np.testing.assert_allclose(slopes[:, 2], sums[:, 4 + index], atol=1e-8)


def test_separable_scores_have_a_finite_slope():
    scores, labels = np.array([-3.0, -2.0, 2.0, 3.0]), np.array([0, 0, 1, 1])
    ours = platt_scaling.fit(scores, labels, whole(4))
    theirs = _SigmoidCalibration().fit(scores, labels)
    assert np.isfinite(ours.slope) and ours.slope == pytest.approx(-theirs.a_, rel=1e-3)


def test_scores_that_mislead_get_a_negative_slope():
    scores, labels = example(500, 5, slope=-1.0)
    assert platt_scaling.fit(scores, labels, whole(500)).slope < -0.5


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, 0.2], [1, 1], r"needs both labels; of 2 rows 2 are 1"),
        ([0.1, 0.2], [0, 0], r"needs both labels; of 2 rows 0 are 1"),
        ([0.3, 0.3], [0, 1], r"needs scores that differ; all 2 are the same"),
    ],
)
def test_what_cannot_be_fitted_is_told(scores, labels, message):
    with pytest.raises(InputError, match=message):
        platt_scaling.fit(np.array(scores), np.array(labels), whole(2))


def test_scores_of_probabilities_are_finite_and_come_back():
    scores = platt_scaling.scores_of(np.array([0, 0.2, 0.5, 1], np.float32))
    assert np.isfinite(scores).all() and scores[2] == 0
    same = PlattScaling(slope=1.0, intercept=0.0).probabilities(scores)
    np.testing.assert_allclose(same, [0, 0.2, 0.5, 1], atol=1e-6)
    assert PlattScaling(slope=1.0, intercept=0.0).probabilities(np.array([-1e4]))[0] == 0
