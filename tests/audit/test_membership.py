"""Membership inference: its figures against brute force and another library, and it bites."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from fl_research.audit.membership import (
    attack_members,
    auc_with_interval,
    client_features,
    roc_curve,
    row_losses,
)
from fl_research.data.client_data import ClientData
from fl_research.errors import InputError


def _features(random: np.random.Generator, clients: int, shift: float = 0.0) -> np.ndarray:
    """Features of clients whose losses are lower by `shift`."""
    mean = random.gamma(2.0, 0.3, clients) - shift
    rows = np.log(random.integers(1, 20, clients))
    return np.stack([mean, mean / 2, mean * 2, rows], axis=1)


def test_features_of_clients() -> None:
    """By hand; a client without a row is left out."""
    labels = np.array([1, 0, 1])
    probability = np.array([0.5, 0.2, 0.9])
    data = ClientData.from_rows(
        {"inputs": probability[:, np.newaxis].astype(np.float32)}, labels, ["a", "a", "b"]
    )
    found = client_features(data, lambda inputs: inputs[:, 0])
    one, two, three = -math.log(0.5), -math.log(0.8), -math.log(0.9)
    expected = [[(one + two) / 2, two, one, math.log(2)], [three, three, three, 0.0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_losses_are_finite() -> None:
    """Also where the model is sure and wrong."""
    assert np.isfinite(row_losses(np.array([0.0, 1.0]), np.array([1, 0]))).all()


def test_auc_and_curve_are_those_of_another_library() -> None:
    """With ties."""
    random = np.random.default_rng(0)
    members = random.integers(0, 30, 200).astype(float)
    others = random.integers(-5, 25, 150).astype(float)
    labels = np.repeat([1, 0], [200, 150])
    scores = np.concatenate([members, others])
    assert auc_with_interval(members, others, 0.95)[0] == pytest.approx(
        metrics.roc_auc_score(labels, scores)
    )
    false, true, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc_curve(members, others), (false, true))


def test_delong_interval_is_that_of_the_definition() -> None:
    """The variance from all pairs, one by one."""
    random = np.random.default_rng(1)
    members, others = random.normal(0.5, 1, 30), random.normal(0, 1, 20)
    wins = np.array([[(a > b) + (a == b) / 2 for b in others] for a in members])
    variance = np.var(wins.mean(axis=1), ddof=1) / 30 + np.var(wins.mean(axis=0), ddof=1) / 20
    auc, (low, high) = auc_with_interval(members, others, 0.9)
    assert auc == pytest.approx(wins.mean())
    half = stats.norm.ppf(0.95) * math.sqrt(variance)
    assert (low, high) == pytest.approx((auc - half, auc + half))


def test_chance_is_found_to_be_chance() -> None:
    """Equal laws: both AUC within 5.5 standard deviations of 0.5, a false alarm below 4e-8 each."""
    random = np.random.default_rng(2)
    attacks = attack_members(
        _features(random, 400), _features(random, 300), epsilon=2.0, delta=1e-5
    )
    assert [attack.name for attack in attacks] == ["threshold", "logistic regression"]
    for attack in attacks:
        assert abs(attack.auc - 0.5) < 5.5 * math.sqrt(701 / (12 * 400 * 300))
        assert attack.advantage_interval[0] <= attack.advantage_interval[1] < 0.4


def test_members_with_lower_losses_are_found() -> None:
    """Losses that are lower by their standard deviation; AUC of the threshold attack above 0.7."""
    random = np.random.default_rng(3)
    members, others = _features(random, 400, shift=0.42), _features(random, 2000)
    attacks = attack_members(members, others, epsilon=math.inf, delta=None, seed=4)
    again = attack_members(members, others, epsilon=math.inf, delta=None, seed=4)
    for attack, same in zip(attacks, again, strict=True):
        assert attack.to_json() == same.to_json()
        low, high = attack.auc_interval
        assert 0.7 < low < attack.auc < high < 1
        for rate in attack.rates:
            assert rate["largest_allowed"] == 1.0
            assert rate["interval"][0] <= rate["true_positive_rate"] <= rate["interval"][1]
            assert rate["true_positive_rate"] > rate["false_positive_rate"]


def test_too_few_clients_for_a_rate() -> None:
    """300 others cannot show a rate of 0.1 %; what is allowed is said all the same."""
    random = np.random.default_rng(5)
    attack = attack_members(
        _features(random, 100), _features(random, 300), epsilon=1.0, delta=1e-5
    )[0]
    by_rate = {rate["false_positive_rate"]: rate for rate in attack.rates}
    assert by_rate[0.001]["true_positive_rate"] is None
    assert by_rate[0.01]["true_positive_rate"] is not None
    assert by_rate[0.01]["largest_allowed"] == pytest.approx(math.e * 0.01 + 1e-5)


def test_refusals() -> None:
    """Too few clients, and a model that is broken."""
    random = np.random.default_rng(6)
    good = _features(random, 50)
    with pytest.raises(InputError, match="others has shape"):
        attack_members(good, good[:3], epsilon=1.0, delta=1e-5)
    broken = good.copy()
    broken[0, 0] = math.nan
    with pytest.raises(InputError, match="members has losses that are not finite"):
        attack_members(broken, good, epsilon=1.0, delta=1e-5)
