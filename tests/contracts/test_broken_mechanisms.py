"""Mechanisms that are broken on purpose, and which check of this suite catches which.

Each is what a slip in the code would make. Where it can, it lies: the event and the metrics are
those of the right mechanism. `CAUGHT_BY` lists all the checks that fail, and no other may.

| broken | caught by |
|---|---|
| noise scaled by the initial clip, the event tells | event, noise at the live clip |
| noise scaled by the initial clip, the event lies | noise at the live clip |
| noise not scaled by the clip | self-test, covariance, noise at the live clip |
| division by the cohort that came | sensitivity, neighbouring cohorts, noise at the live clip |
| noise of one tensor used for the next | tensors |
| noise of one release used for the next | covariance, tensors |
| no noise on the quantile, the event tells | event, count noise |
| no noise on the quantile, the event lies | count noise |
| tree that takes the old tree's noise back at a restart | self-test, covariance |
| tree with noise on its leaves only | self-test, covariance |
| tree whose noise is lost in TFF's graphs | self-test |
| banded noise that forgets its past | self-test, covariance, tensors |
| clip of each tensor instead of the update | sensitivity, noise at the live clip |
| client weighted by its rows | sensitivity, neighbouring cohorts |
| local noise that is the same for every client | covariance, tensors |

* self-test: `noise_self_test`, as a run does before its first round.
* covariance: of 8 releases of 20,000 values, against the declared one.
* tensors: correlations of tensors within and over releases.
* sensitivity: how far a giant with many rows moves the sum of others.
* neighbouring cohorts: the same through training and clipping, beside other clients and alone.
* event: what is emitted, at several live clip norms, against the plan.
* noise at the live clip: noise over what a giant moves, after the clip norm has moved.
* count noise: what the clip norm after a release of nobody says of the noise on the count.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from fl_research.privacy import noise_streams
from fl_research.privacy.keyed_noise import KeyedNoiseQuery
from fl_research.privacy.mechanisms import registry
from fl_research.privacy.noise_self_test import noise_self_test
from fl_research.privacy.plan import PrivacyPlan
from tests.contracts.broken_queries import (
    ClipsEachTensor,
    DividesByWhoCame,
    Forgetful,
    InitialClip,
    Lying,
    LyingInitialClip,
    NoClip,
    OneNoiseForClients,
    OneNoiseForReleases,
    OneNoiseForTensors,
    OnlyLeaves,
    TakesNoiseBack,
    WeighsByRows,
)
from tests.contracts.mechanism_cases import (
    EXPECTED_COHORT,
    KEY,
    ROUNDS,
    SAMPLINGS,
    UPDATE,
    client,
    covariance_of,
    excess_covariance,
    in_plain_numbers,
    make_plan,
    noise_of_releases,
    release,
    two_tensors,
    vector,
    whitened,
)
from tests.contracts.neighbouring_cohorts import CLIP, OTHERS, STRANGE, Aggregation, neighbours

VALUES = 20_000
BOUND = 6.2
FALSE_ALARM = 1e-7
Check = Callable[[PrivacyPlan], bool]


# ---------------------------------------------------------------------------------------- checks


def _passes_self_test(plan: PrivacyPlan) -> bool:
    found = noise_self_test(plan, noise_key=(5, 6))
    return found is not None and found["passed"]


def _has_the_covariance(plan: PrivacyPlan) -> bool:
    """False alarms below 2e-8."""
    noise = noise_of_releases(plan, (5, 6), ROUNDS, VALUES)
    return excess_covariance(noise, covariance_of(plan, ROUNDS)) < BOUND


def _has_independent_tensors(plan: PrivacyPlan) -> bool:
    """False alarms below 1e-7. Of different places too, so that reuse over releases shows."""
    noise = whitened(noise_of_releases(plan, (5, 6), 2, VALUES), covariance_of(plan, 2))
    correlations = np.corrcoef(np.concatenate(np.split(noise, 2, axis=1)))
    return bool(np.abs(correlations - np.eye(4)).max() < BOUND / np.sqrt(VALUES / 2))


def _giant() -> Any:
    """A client that moves as much as it can, and says that it has many rows."""
    giant = client(99, norm=1e6)
    giant["update"]["bias"] *= 2.0  # No tensor is small.
    return giant | {"weight": np.float32(30.0)}


def _moved(query: Any, state: Any) -> float:
    """How far the giant moves the noised sum of six others."""
    others = [client(seed) for seed in range(6)]
    results = [release(query, state, cohort)[0] for cohort in ([*others, _giant()], others)]
    moved = vector(results[0]).astype(np.float64) - vector(results[1])
    return float(np.linalg.norm(moved)) * EXPECTED_COHORT


def _keeps_the_sensitivity(plan: PrivacyPlan) -> bool:
    """Local noise is of the client who comes, and moves the sum: checked in other tests."""
    if plan.noise_at == "clients":
        return True
    query = plan.query(UPDATE)
    return _moved(query, query.initial_global_state()) <= plan.sensitivity * (1 + 1e-5)


def _keeps_neighbours_close(plan: PrivacyPlan) -> bool:
    """A client of many huge rows comes to nobody, and to three; the others' parts do not change."""
    small = right(plan.mechanism, clip_norm=CLIP)
    query_for = plan.query_for  # Broken, perhaps; it changes whatever query it is given.
    if isinstance(query_for, Changed):
        small = dataclasses.replace(small, query_for=Changed(small.query_for, query_for.change))
    run = Aggregation(small, weighting="examples")
    state = run.query.initial_global_state()
    one, neighbour = neighbours(small.neighboring_relation, np.repeat(STRANGE["huge"], 5, axis=0))
    moved = [
        run.sums(state, [*others, *one], 1)[0] - run.sums(state, [*others, *neighbour], 1)[0]
        for others in (OTHERS["nobody"], OTHERS["three"])
    ]
    close = all(np.linalg.norm(values) <= small.sensitivity * (1 + 1e-4) for values in moved)
    return close and bool(np.allclose(*moved, atol=1e-5))


def _emits_the_event(plan: PrivacyPlan) -> bool:
    query, events = plan.query(UPDATE), []
    state = query.initial_global_state()
    for _ in range(4):
        _, state, event = release(query, state, [_giant()] * EXPECTED_COHORT)
        events.append(in_plain_numbers(event))
    wanted = _multipliers(plan.expected_release_event)
    return all(np.allclose(_multipliers(event), wanted, rtol=1e-5) for event in events)


def _multipliers(event: Any) -> list[float]:
    return [part.noise_multiplier for part in getattr(event, "events", [event])]


def _has_the_noise_at_the_live_clip(plan: PrivacyPlan) -> bool:
    """Chi-square over 20,000 values; with noise of its own in each release, of one clip norm."""
    if plan.noise_at != "server" or plan.noise_covariance is not None:
        return True
    query, state = plan.query(UPDATE), plan.query(UPDATE).initial_global_state()
    for _ in range(5):
        _, state, _ = release(query, state, [_giant()] * EXPECTED_COHORT)
    probe = [client(99, norm=1e6)]
    results = [release(query, state, cohort)[0] for cohort in (probe, [])]
    clip = np.linalg.norm(vector(results[0]).astype(np.float64) - vector(results[1]))
    # The same clip norm and release, for a larger model.
    specs = two_tensors(VALUES)
    noise, _, _ = plan.query_for(KEY, specs).get_noised_result(
        _zero_sums(plan.query_for(KEY, specs), specs), state
    )
    wanted = _multipliers(plan.expected_release_event)[0]
    return _is_chi_square(vector(noise).astype(np.float64) / clip / wanted)


def _zero_sums(query: Any, specs: Any) -> Any:
    return query.initial_sample_state({"update": specs})


def _is_chi_square(values: np.ndarray) -> bool:
    low, high = stats.chi2.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], values.size)
    return bool(low < np.sum(values**2) < high)


def _has_noise_on_the_count(plan: PrivacyPlan) -> bool:
    """Chi-square over 60 keys; log(C' / C) is -0.2 times the noise over the expected cohort."""
    if plan.mechanism != "adaptive_gaussian":
        return True
    noises = []
    for key in range(60):
        query = plan.query_for((key, 1), UPDATE)
        before = query.initial_global_state()
        _, after, _ = release(query, before, [])
        clips = [float(query.derive_metrics(state)["clip_norm"]) for state in (before, after)]
        noises.append(-np.log(clips[1] / clips[0]) / 0.2 * EXPECTED_COHORT)
    return _is_chi_square(np.array(noises) / plan.details["parameters"]["clipped_count_stddev"])


CHECKS: dict[str, Check] = {
    "self-test": _passes_self_test,
    "covariance": _has_the_covariance,
    "tensors": _has_independent_tensors,
    "sensitivity": _keeps_the_sensitivity,
    "neighbouring cohorts": _keeps_neighbours_close,
    "event": _emits_the_event,
    "noise at the live clip": _has_the_noise_at_the_live_clip,
    "count noise": _has_noise_on_the_count,
}


# ---------------------------------------------------------------------------------- broken plans


@dataclasses.dataclass(frozen=True)
class Changed:
    """Builds another query: `change` gets the right one, and returns what replaces it."""

    build: Callable[[Any, Any], Any]
    change: Callable[[Any], Any]

    def __call__(self, noise_key: Any, specs: Any) -> Any:
        return self.change(self.build(noise_key, specs))


def changed(plan: PrivacyPlan, change: Callable[[Any], Any]) -> PrivacyPlan:
    """The plan with another query."""
    return dataclasses.replace(plan, query_for=Changed(plan.query_for, change))


def of_kind(kind: type, *, silent: bool = False) -> Callable[[Any], Any]:
    """Makes the query that adds noise one of another kind; `silent`: without quantile noise."""

    def change(query: Any) -> Any:
        noised = query._inner
        noised.__class__ = kind
        noised.declared = [part.noise_multiplier for part in noised._parts]
        if silent:
            update, count = noised._parts
            noised._parts = update, dataclasses.replace(count, noise_multiplier=0.0)
        return query

    return change


def outer(kind: type) -> Callable[[Any], Any]:
    """Makes the whole query one of another kind."""

    def change(query: Any) -> Any:
        query.__class__ = kind
        return query

    return change


def with_stream(kind: type) -> Callable[[Any], Any]:
    """Makes the stream of the noise one of another kind, with the same settings."""

    def change(query: Any) -> Any:
        (part,) = query._inner._parts
        stream = kind(**dataclasses.asdict(part.stream))
        query._inner._parts = (dataclasses.replace(part, stream=stream),)
        return query

    return change


SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gaussian": ("poisson", {}),
    "adaptive_gaussian": ("poisson", {}),
    "tree_aggregation": ("limited", {"restart_every": 3}),
    "banded_matrix_factorization": ("limited", {}),
    "local_gaussian": ("limited", {}),
}


def right(name: str, **settings: Any) -> PrivacyPlan:
    """The plan of the mechanism as it is."""
    sampler, own = SETTINGS[name]
    return make_plan(name, SAMPLINGS[sampler], **own, **settings)


BROKEN: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "noise scaled by the initial clip, the event tells": (
        "adaptive_gaussian",
        of_kind(InitialClip),
    ),
    "noise scaled by the initial clip, the event lies": (
        "adaptive_gaussian",
        of_kind(LyingInitialClip),
    ),
    "noise not scaled by the clip": ("gaussian", of_kind(NoClip)),
    "division by the cohort that came": ("gaussian", DividesByWhoCame),
    "noise of one tensor used for the next": ("gaussian", of_kind(OneNoiseForTensors)),
    "noise of one release used for the next": ("gaussian", of_kind(OneNoiseForReleases)),
    "no noise on the quantile, the event tells": (
        "adaptive_gaussian",
        of_kind(KeyedNoiseQuery, silent=True),
    ),
    "no noise on the quantile, the event lies": ("adaptive_gaussian", of_kind(Lying, silent=True)),
    "tree that takes the old tree's noise back at a restart": (
        "tree_aggregation",
        with_stream(TakesNoiseBack),
    ),
    "tree with noise on its leaves only": ("tree_aggregation", with_stream(OnlyLeaves)),
    "tree whose noise is lost in TFF's graphs": ("tree_aggregation", lambda query: query),
    "banded noise that forgets its past": ("banded_matrix_factorization", with_stream(Forgetful)),
    "clip of each tensor instead of the update": ("gaussian", outer(ClipsEachTensor)),
    "client weighted by its rows": ("gaussian", outer(WeighsByRows)),
    "local noise that is the same for every client": ("local_gaussian", outer(OneNoiseForClients)),
}


def caught_by() -> dict[str, set[str]]:
    """The table in this module's first lines."""
    rows = [line.split("|")[1:3] for line in (__doc__ or "").splitlines() if line[:2] == "| "]
    found = {broken.strip(): names.strip() for broken, names in rows[1:]}
    return {broken: set(names.split(", ")) for broken, names in found.items()}


CAUGHT_BY = caught_by()


def failing(plan: PrivacyPlan) -> set[str]:
    return {name for name, check in CHECKS.items() if not check(plan)}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_right_mechanism_passes_all_checks(name: str) -> None:
    assert name in registry.names()
    assert failing(right(name)) == set()


def broken_plan(broken: str, monkeypatch: pytest.MonkeyPatch) -> PrivacyPlan:
    name, change = BROKEN[broken]
    if broken.endswith("TFF's graphs"):
        monkeypatch.setattr(noise_streams, "tf", ComparesObjects())
    return changed(right(name), change)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_mechanism_is_caught(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each of the checks that the table says."""
    plan = broken_plan(broken, monkeypatch)
    assert CAUGHT_BY[broken]
    for name in CAUGHT_BY[broken]:
        assert not CHECKS[name](plan), name


@pytest.mark.slow
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_mechanism_is_caught_by_no_other_check(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the table says which check is needed."""
    assert failing(broken_plan(broken, monkeypatch)) == CAUGHT_BY[broken]


class ComparesObjects:
    """TensorFlow with `==` where a tensor's value should be compared."""

    def __getattr__(self, name: str) -> Any:
        return getattr(tf, name)

    def equal(self, one: Any, other: Any) -> Any:
        """What `one == other` is, in eager mode and in a graph as TFF builds them."""
        return one == other


def test_the_table_is_complete() -> None:
    """Each broken mechanism has its line, and each check catches something."""
    assert list(CAUGHT_BY) == list(BROKEN)
    assert set.union(*CAUGHT_BY.values()) == set(CHECKS)
