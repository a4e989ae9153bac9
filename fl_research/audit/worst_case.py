"""Many runs of a plan's own query on its two most distinguishable neighbouring cohorts.

1. One client is all there is: whatever others send is a known shift of a sum. It hands in an update
   of exactly the clip norm, in every round that the sampler takes it to.
2. The neighbour is without that client (add or remove, or zero in its place), or has the opposite
   update in its place (replace one).
3. All rounds are released by the query of the plan, as in a run, but for one number instead of a
   model. Each run has noise of its own.
4. The statistic of a run is the sum of its releases, each in units of the clip norm that was in
   force, with the weights that part two shifted normal distributions best: the expected difference
   over the rounds, whitened by the covariance of the noise. Where participation is drawn, the best
   test is not linear, and the bound comes out somewhat lower than could be.

Jagielski, Ullman, Oprea 2020, Auditing Differentially Private Machine Learning (arXiv:2006.07709);
Nasr, Hayes, Steinke et al. 2023, Tight Auditing of Differentially Private Machine Learning.
"""

import collections
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import dp_accounting
import numpy as np

from fl_research import randomness
from fl_research.argument_checks import require_at_least
from fl_research.audit.repeated_runs import (
    RepeatedRunsAudit,
    audit_repeated_runs,
    detectable_epsilon,
)
from fl_research.data.client_sampling import ClientSampling, MinSeparationSampling
from fl_research.errors import InputError
from fl_research.privacy.composition import relation_name
from fl_research.privacy.plan import PrivacyPlan
from fl_research.privacy.worst_case import worst_case

_PURPOSE = "worst_case_audit"
# Far above any clip, so that it is clipped to exactly the clip norm in force.
_LENGTH_ABOVE_CLIPS = 1e12
_RUNS_AT_ONCE = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorstCaseAudit:
    """What repeated runs on the worst case say of a plan.

    Attributes:
      audit: The lower bound of epsilon.
      claimed_epsilon: By the accounting of the planned rounds; infinite without a guarantee.
      detectable: The largest epsilon that so many runs could ever show.
      relation: The neighbouring relation, such as "add_or_remove_one".
      in_statistics: float64[runs] with the client.
      out_statistics: float64[runs] of the neighbour.
    """

    audit: RepeatedRunsAudit
    claimed_epsilon: float
    detectable: float
    relation: str
    in_statistics: np.ndarray = dataclasses.field(repr=False)
    out_statistics: np.ndarray = dataclasses.field(repr=False)

    @property
    def exceeds_claim(self) -> bool:
        """Whether the runs refute the claim."""
        return self.audit.epsilon_lower > self.claimed_epsilon


def audit_worst_case(
    plan: PrivacyPlan,
    *,
    rounds: int,
    runs: int,
    delta: float,
    confidence: float = 0.95,
    seed: int = 0,
    advance: Callable[[int], None] = lambda runs: None,
) -> WorstCaseAudit:
    """Runs the plan's query `runs` times on each of two neighbouring cohorts.

    Args:
      plan: The plan to audit; its noise key is not used.
      rounds: Releases of one run, 1 or more.
      runs: With the client, and as many on the neighbour; 4 or more.
      delta: In (0, 1).
      confidence: Of the bound, in (0, 1).
      seed: Of the noise key and of who takes part when.
      advance: Told how many more runs are done.

    Raises:
      InputError: An argument is out of its range, or the plan protects records.
    """
    require_at_least("rounds", rounds, 1)
    require_at_least("runs", runs, 4)
    if plan.rule.unit == "record":
        raise InputError(
            f"mechanism={plan.mechanism!r} cannot be audited by updates of clients: its epsilon is "
            "for one record, and its noise is in the clients' training; audit another mechanism"
        )
    opposite = plan.neighboring_relation is dp_accounting.NeighboringRelation.REPLACE_ONE
    random = randomness.generator(seed, _PURPOSE)
    present = [participations(plan.sampling, rounds, runs, random) for _ in range(2)]
    with_client = present[0].astype(np.float32)
    neighbour = -present[1].astype(np.float32) if opposite else np.zeros_like(with_client)
    words = randomness.key(seed, _PURPOSE)
    releases = _releases(
        plan, (int(words[0]), int(words[1])), np.concatenate([with_client, neighbour]), advance
    )
    statistics = releases @ statistic_weights(plan, present[0].mean(axis=0))
    audit = audit_repeated_runs(
        statistics[:runs], statistics[runs:], delta=delta, confidence=confidence
    )
    return WorstCaseAudit(
        audit=audit,
        claimed_epsilon=claimed_epsilon(plan, rounds=rounds, delta=delta),
        detectable=detectable_epsilon(runs, confidence, delta),
        relation=relation_name(plan.neighboring_relation),
        in_statistics=statistics[:runs],
        out_statistics=statistics[runs:],
    )


def claimed_epsilon(plan: PrivacyPlan, *, rounds: int, delta: float) -> float:
    """Returns what the accounting says of so many rounds; infinite without a guarantee."""
    event = plan.expected_release_event
    if event is None:
        return math.inf
    events = plan.rule.planned_events(event, rounds, plan.sampling)
    return float(worst_case(events, delta, plan.neighboring_relation).claim.epsilon)


def participations(
    sampling: ClientSampling, rounds: int, runs: int, random: np.random.Generator
) -> np.ndarray:
    """Draws when one client takes part.

    Where participations keep a distance, the client is of the first group, which has most turns.

    Args:
      sampling: The sampler.
      rounds: Of one run.
      runs: How many.
      random: Where the numbers come from.

    Returns:
      bool[runs, rounds].
    """
    if isinstance(sampling, MinSeparationSampling):
        drawn = random.random((runs, rounds)) < sampling.turn_rate
        drawn[:, np.arange(rounds) % sampling.min_separation != 0] = False
        if sampling.max_participations is not None:
            drawn &= drawn.cumsum(axis=1) <= sampling.max_participations
        return drawn
    rate = sampling.expected_cohort_size / sampling.population
    return random.random((runs, rounds)) < rate


def statistic_weights(plan: PrivacyPlan, difference: np.ndarray) -> np.ndarray:
    """Returns the weights of the best linear statistic, float64[rounds].

    Args:
      plan: Whose noise is correlated over releases, or not.
      difference: float[rounds], the expected difference of each release, in any unit.
    """
    if plan.noise_covariance is None:
        return np.asarray(difference, np.float64)
    return np.linalg.solve(plan.noise_covariance(len(difference)), difference)


def _releases(
    plan: PrivacyPlan,
    key: tuple[int, int],
    updates: np.ndarray,
    advance: Callable[[int], None],
) -> np.ndarray:
    """What is released of each run, in clip norms: float64[runs, rounds].

    Args:
      plan: Whose query it is.
      key: Of the noise.
      updates: float32[runs, rounds]: 1 and -1 are the client's update, 0 is its absence.
      advance: Told how many more runs are done.
    """
    import tensorflow as tf

    run_batch = _batch_function(plan, key, updates.shape[1])
    done = []
    for start in range(0, len(updates), _RUNS_AT_ONCE):
        batch = updates[start : start + _RUNS_AT_ONCE]
        numbers = np.arange(start, start + len(batch), dtype=np.int64)
        done.append(run_batch(tf.constant(numbers), tf.constant(batch)).numpy())
        advance(len(batch))
    return np.concatenate(done).astype(np.float64)


def _batch_function(plan: PrivacyPlan, key: tuple[int, int], rounds: int) -> Callable[..., Any]:
    """A graph of some runs: (int64[runs], float32[runs, rounds]) -> float32[runs, rounds]."""
    import tensorflow as tf

    specs = [tf.TensorSpec([1], tf.float32)]
    query = plan.query_for(key, specs)
    clips = plan.details["clip_norm"] is not None
    cohort = plan.sampling.expected_cohort_size if clips else 1.0
    template = _record(tf.zeros([1]), tf.zeros([2], tf.int64))

    def one_release(state: Any, sent: Any, seed: Any) -> tuple[Any, Any]:
        """State and sent update of a round -> the next state, and what was released."""
        length = _LENGTH_ABOVE_CLIPS if clips else 1.0
        record = _record(tf.reshape(sent * length, [1]), seed)
        params = query.derive_sample_params(state)
        empty = tf.nest.map_structure(tf.convert_to_tensor, query.initial_sample_state(template))
        full = query.accumulate_preprocessed_record(empty, query.preprocess_record(params, record))
        total = tf.nest.map_structure(lambda a, b: tf.where(tf.equal(sent, 0.0), a, b), empty, full)
        clip_norm = query.derive_metrics(state)["clip_norm"] if clips else tf.constant(1.0)
        result, state, _ = query.get_noised_result(total, state)
        return state, result[0][0] * cohort / clip_norm

    def one_run(arguments: Any) -> Any:
        """All releases of one run."""
        number, updates = arguments
        start = tf.nest.map_structure(tf.convert_to_tensor, query.initial_global_state())

        def step(place: Any, state: Any, releases: Any) -> tuple[Any, Any, Any]:
            """One round more."""
            seed = tf.stack([number, tf.cast(place, tf.int64)])
            state, released = one_release(state, updates[place], seed)
            return place + 1, state, releases.write(place, released)

        *_, releases = tf.while_loop(
            lambda place, *_: place < rounds,
            step,
            (
                tf.constant(0),
                _from_release(start, number * rounds),
                tf.TensorArray(tf.float32, rounds, element_shape=[]),
            ),
        )
        return releases.stack()

    @tf.function(autograph=False, reduce_retracing=True)
    def batch(numbers: Any, updates: Any) -> Any:
        """Some runs."""
        return tf.map_fn(
            one_run,
            (numbers, updates),
            fn_output_signature=tf.TensorSpec([rounds], tf.float32),
            parallel_iterations=16,
        )

    return batch


def _record(update: Any, seed: Any) -> collections.OrderedDict:
    """What a client of one number hands in."""
    import tensorflow as tf

    weight = tf.constant(1.0, tf.float32)
    return collections.OrderedDict(update=[update], weight=weight, seed=seed)


def _from_release(state: Any, release_index: Any) -> Any:
    """The state before the first release, with noise that no other run draws.

    The noise is a function of (key, release, tensor): runs that count their releases from different
    numbers have noise as independent as runs with different keys, and one graph serves them all.
    """
    from fl_research.privacy.keyed_noise import KeyedNoiseState

    if isinstance(state, KeyedNoiseState):
        return state._replace(release_index=release_index)
    return state
