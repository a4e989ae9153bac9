"""The budget gate against the accounting that the report uses."""

import dp_accounting
import pytest

from fl_research.data.client_sampling import PoissonSampling
from fl_research.errors import InputError
from fl_research.privacy import accountants, accounting
from fl_research.privacy.budget import BudgetGate
from fl_research.privacy.releases import Release

SAMPLING = PoissonSampling(population=1000, sampling_rate=0.05)
EVENT = dp_accounting.GaussianDpEvent(1.0)
DELTA = 1e-5


def _epsilon(rounds: list[int]) -> float:
    """What releases of these rounds cost."""
    event = accounting.compose([Release(round_number=r, event=EVENT) for r in rounds], SAMPLING)
    relation, _ = accounting.relation_for(SAMPLING)
    return accounting.claimed_epsilon(
        accounting.epsilon_by_accountant(event, DELTA, relation)
    ).epsilon


def _gate(target: float | None, planned_rounds: int = 0) -> BudgetGate:
    """The gate of a Gaussian with noise multiplier 1."""
    return BudgetGate(
        expected_release_event=EVENT,
        sampling=SAMPLING,
        target_epsilon=target,
        delta=DELTA,
        planned_rounds=planned_rounds,
    )


@pytest.mark.parametrize("planned_rounds", [0, 6, 7, 8, 30])
@pytest.mark.parametrize("asked", [range(1, 12), range(11, 0, -1)])
def test_gate_agrees_with_the_accounting_in_any_order_of_questions(
    asked: range, planned_rounds: int
) -> None:
    """The target is what seven rounds cost: up to seven fit, whatever was asked before."""
    gate = _gate(_epsilon(list(range(1, 8))), planned_rounds)
    assert [n for n in asked if gate.allows(range(1, n + 1))] == [n for n in asked if n <= 7]


def test_a_calibrated_plan_is_let_through_without_accounting_again() -> None:
    """No round waits for an accountant: what was asked when the noise was chosen is still known."""
    multiplier = accounting.calibrate_noise_multiplier(
        target_epsilon=3.0, delta=DELTA, sampling=SAMPLING, rounds=40
    )
    asked = accountants._epsilons.cache_info().misses
    gate = BudgetGate(
        expected_release_event=dp_accounting.GaussianDpEvent(multiplier),
        sampling=SAMPLING,
        target_epsilon=3.0,
        delta=DELTA,
        planned_rounds=40,
    )
    assert all(gate.allows(range(1, count + 1)) for count in range(1, 41))
    assert accountants._epsilons.cache_info().misses == asked


def test_repeated_round_costs_more_than_a_new_one() -> None:
    """The same cohort is drawn again: six rounds with one repeated do not fit where seven do."""
    seven, repeated = [1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 6]
    assert _epsilon(repeated) > _epsilon(seven)
    gate = _gate(_epsilon(seven))
    assert gate.allows(seven)
    assert not gate.allows(repeated)
    assert _gate(_epsilon(repeated)).allows(repeated)


def test_repeated_round_is_one_sampled_gaussian_with_less_noise() -> None:
    """k releases on one cohort are k looks at one sum: noise z / sqrt(k), sampled once."""
    event = accounting.compose([Release(round_number=4, event=EVENT)] * 4, SAMPLING)
    expected = accounting.compose(
        [Release(round_number=1, event=dp_accounting.GaussianDpEvent(0.5))], SAMPLING
    )
    relation, _ = accounting.relation_for(SAMPLING)
    assert accounting.epsilon_by_accountant(event, DELTA, relation) == pytest.approx(
        accounting.epsilon_by_accountant(expected, DELTA, relation)
    )


def test_without_a_target_everything_passes() -> None:
    """No budget, no gate."""
    assert _gate(None).allows(range(10_000))


def test_target_for_a_mechanism_without_guarantee_is_refused() -> None:
    """The message names the target and the way out."""
    with pytest.raises(InputError, match=r"target_epsilon=1\.0 needs a private mechanism"):
        BudgetGate(
            expected_release_event=None,
            sampling=SAMPLING,
            target_epsilon=1.0,
            delta=None,
        )
