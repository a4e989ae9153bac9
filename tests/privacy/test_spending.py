"""From a real ledger to epsilon: what counts, what does not, and what is refused."""

import math
from pathlib import Path
from typing import Any

import dp_accounting
import pytest

from fl_research.data.client_sampling import (
    ClientSampling,
    FixedSizeSampling,
    PoissonSampling,
)
from fl_research.errors import InputError
from fl_research.privacy import accounting
from fl_research.privacy.events import event_to_json
from fl_research.privacy.ledger import Ledger, LedgerError, read_ledger
from fl_research.privacy.releases import Release
from fl_research.privacy.spending import (
    claim_of,
    epsilon_bound_of,
    releases_of,
    sampling_of,
    spending_of,
)

Gaussian = dp_accounting.GaussianDpEvent
POISSON = PoissonSampling(population=1000, sampling_rate=0.05)
DELTA = 1e-4


def plan(
    event: dp_accounting.DpEvent | None, sampler: ClientSampling = POISSON, **changes: Any
) -> dict[str, Any]:
    relation, _ = accounting.relation_for(sampler)
    return {
        "sampling": sampler.to_dict(),
        "accounting_rule": {"name": "independent", "noise": "gaussian"},
        "delta": DELTA,
        "neighboring_relation": accounting.relation_name(relation),
        "expected_release_event": None if event is None else event_to_json(event),
    } | changes


def ran(
    folder: Path,
    first: dict[str, Any],
    calls: list[tuple[int, int, dp_accounting.DpEvent | None]],
) -> list[Any]:
    """A ledger of calls: round, attempt, and the event, or None for a call without a release."""
    path = folder / "ledger.jsonl"
    with Ledger.open(path) as book:
        book.append("plan", first)
        for number, attempt, event in calls:
            book.append("round_started", {"round": number, "attempt": attempt})
            if event is not None:
                release = {"round": number, "attempt": attempt, "event": event_to_json(event)}
                book.append("release", release)
    return read_ledger(path)


@pytest.mark.parametrize("sampler", [POISSON, FixedSizeSampling(population=1000, cohort_size=50)])
@pytest.mark.parametrize("changes", [{}, {"early_finish": True, "rounds_planned": 30}])
def test_the_quick_bound_is_close_above_the_claim(
    tmp_path: Path, sampler: ClientSampling, changes: dict[str, Any]
) -> None:
    """For a look while a run lasts; and the claim alone is the claim of everything."""
    noise = Gaussian(1.5)
    calls = [(number, 1, noise) for number in range(1, 11)]
    entries = ran(tmp_path, plan(noise, sampler, **changes), calls)
    claim = spending_of(entries).claim
    assert claim_of(entries) == claim
    assert claim.epsilon <= epsilon_bound_of(entries) <= 1.01 * claim.epsilon


def test_without_a_guarantee_the_quick_bound_is_infinite_too(tmp_path: Path) -> None:
    nothing = dp_accounting.NonPrivateDpEvent()
    entries = ran(tmp_path, plan(None, delta=None), [(1, 1, nothing)])
    assert spending_of(entries).claim.epsilon == epsilon_bound_of(entries) == math.inf


def test_every_release_counts_and_a_failed_call_does_not(tmp_path: Path) -> None:
    noise = Gaussian(1.5)
    entries = ran(
        tmp_path,
        plan(noise),
        [(1, 1, noise), (2, 1, None), (2, 2, noise), (3, 1, noise), (3, 2, noise), (4, 1, None)],
    )
    spent = spending_of(entries)
    assert (spent.releases, spent.repeated, spent.failed) == (4, 1, 2)
    rounds = [Release(1, noise), Release(2, noise), Release(3, Gaussian(1.5 / 2**0.5))]
    event = accounting.compose(rounds, POISSON)  # round 3: two looks at one cohort
    relation, _ = accounting.relation_for(POISSON)
    by_accountant = accounting.epsilon_by_accountant(event, DELTA, relation)
    assert spent.epsilon_by_accountant == pytest.approx(by_accountant)
    assert spent.claim == accounting.claimed_epsilon(spent.epsilon_by_accountant)
    assert spent.private and spent.delta == DELTA
    assert (spent.relation, spent.sensitivity_in_clips) == ("add_or_remove_one", 1.0)
    assert spent.epsilon_without_amplification > spent.claim.epsilon
    assert sampling_of(entries) == POISSON
    assert releases_of(entries) == [Release(number, noise) for number in (1, 2, 3, 3)]


def test_what_was_emitted_counts_not_what_was_planned(tmp_path: Path) -> None:
    entries = ran(tmp_path, plan(Gaussian(1.5)), [(1, 1, Gaussian(1.5 * (1 - 9e-6)))])
    planned = accounting.repeated_event(Gaussian(1.5), 1, POISSON)
    relation, _ = accounting.relation_for(POISSON)
    by_plan = accounting.epsilon_by_accountant(planned, DELTA, relation)
    assert spending_of(entries).claim.epsilon > accounting.claimed_epsilon(by_plan).epsilon


def test_fixed_size_sampling_compares_replaced_units(tmp_path: Path) -> None:
    sampling = FixedSizeSampling(population=1000, cohort_size=50)
    noise = Gaussian(1.5)
    spent = spending_of(ran(tmp_path, plan(noise, sampling), [(1, 1, noise)]))
    assert (spent.relation, spent.sensitivity_in_clips) == ("replace_one", 2.0)
    assert spent.claim.accountant == "rdp" and spent.epsilon_by_accountant["pld"] is None


@pytest.mark.parametrize("delta", [None, DELTA])
@pytest.mark.parametrize("calls", [[], [(1, 1, dp_accounting.NonPrivateDpEvent())]])
def test_without_noise_there_is_no_guarantee(
    tmp_path: Path, delta: float | None, calls: list[Any]
) -> None:
    spent = spending_of(ran(tmp_path, plan(None, delta=delta), calls))
    assert not spent.private
    assert math.isinf(spent.claim.epsilon) or (not calls and delta)


def test_before_the_first_release_nothing_is_spent(tmp_path: Path) -> None:
    spent = spending_of(ran(tmp_path, plan(Gaussian(1.5)), [(1, 1, None)]))
    assert spent.private and spent.claim.epsilon == 0 and spent.failed == 1


@pytest.mark.parametrize(
    ("emitted", "says"),
    [
        (Gaussian(1.5001), "entry 2 (release): the round emitted"),
        (dp_accounting.NonPrivateDpEvent(), "NonPrivateDpEvent"),
        (dp_accounting.ComposedDpEvent([Gaussian(1.5)]), "ComposedDpEvent"),
    ],
)
def test_an_event_that_was_not_planned_is_refused(
    tmp_path: Path, emitted: dp_accounting.DpEvent, says: str
) -> None:
    with pytest.raises(LedgerError) as raised:
        spending_of(ran(tmp_path, plan(Gaussian(1.5)), [(1, 1, emitted)]))
    assert says in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"neighboring_relation": "replace_one"}, "does not go with poisson"),
        ({"sampling": None}, "names no sampler"),
        ({"sampling": {"name": "poisson", "population": 0, "sampling_rate": 0.1}}, "population=0"),
        ({"delta": None}, "delta is missing"),
        ({"delta": 2.0}, "delta=2.0"),
        ({"expected_release_event": {"type": "Nonsense"}}, "expected_release_event"),
    ],
)
def test_a_plan_that_can_not_be_is_refused(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    entries = ran(tmp_path, plan(Gaussian(1.5), **changes), [(1, 1, Gaussian(1.5))])
    with pytest.raises(InputError) as raised:
        spending_of(entries)
    assert says in str(raised.value) and "\n" not in str(raised.value)


def test_a_ledger_without_plan_or_event_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no plan"):
        spending_of([])
    with Ledger.open(tmp_path / "ledger.jsonl") as book:
        book.append("plan", plan(Gaussian(1.5)))
        book.append("release", {"round": 1})
        with pytest.raises(LedgerError, match="'event' is missing"):
            spending_of(book.entries)


def test_early_finish_counts_all_planned_rounds(tmp_path: Path) -> None:
    """When to stop depends on the released models: only the planned rounds give a guarantee."""
    noise = Gaussian(1.5)
    ran_all = ran(tmp_path, plan(noise), [(number, 1, noise) for number in range(1, 6)])
    (tmp_path / "early").mkdir()
    may_stop = plan(noise) | {"early_finish": True, "rounds_planned": 5}
    stopped = ran(tmp_path / "early", may_stop, [(1, 1, noise), (2, 1, noise)])
    early, whole = spending_of(stopped), spending_of(ran_all)
    assert early.claim.epsilon == pytest.approx(whole.claim.epsilon)
    assert early.releases == 2
