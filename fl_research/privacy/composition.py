"""Fresh noise in every release: sampling, the neighbouring relation, and how releases add up.

A release emits a Gaussian event (or a Laplace one) relative to the clip norm. How the cohort was
drawn decides what that is worth and which data sets are compared:

* Poisson sampling and full participation: a client is added or removed, which moves the sum by at
  most one clip norm.
* Fixed-size sampling: the number of clients in a cohort never changes, so a client is replaced by
  another, which moves the sum by at most two clip norms. The accountants take noise relative to
  the sensitivity, so that they get half of the noise multiplier.
* A minimum separation: a client's place in the schedule stays and its data is taken out, which
  moves the sum by at most one clip norm. Only the rounds of its own group concern a client, and in
  these it is sampled at the rate of its group's turn; who has a limited number of turns is counted
  as present in all of them.

Noise that is correlated over rounds is accounted in `accounting_rules.correlated`.

Mironov, Talwar, Zhang 2019, "Rényi differential privacy of the sampled Gaussian mechanism"; Wang,
Balle, Kasiviswanathan 2019, "Subsampled Rényi differential privacy and analytical moments
accountant".
"""

import collections
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import dp_accounting

from fl_research.data.client_sampling import (
    ClientSampling,
    FixedSizeSampling,
    FullParticipation,
    MinSeparationSampling,
    PoissonSampling,
)
from fl_research.errors import InputError
from fl_research.privacy.events import effective_noise_multiplier
from fl_research.privacy.releases import Release

JITTER = 1e-6
"""Noise multipliers within this relative distance are the same number in float32 arithmetic."""

_RELATION_NAMES = {dp_accounting.NeighboringRelation.REPLACE_SPECIAL: "zero_out"}

_Events = list[dp_accounting.DpEvent]


def relation_for(
    sampling: ClientSampling,
) -> tuple[dp_accounting.NeighboringRelation, float]:
    """Returns the neighbouring relation of a sampler and the sum's L2 sensitivity in clip norms.

    Raises:
      InputError: If the sampler is of a kind that cannot be accounted.
    """
    if isinstance(sampling, FixedSizeSampling):
        return dp_accounting.NeighboringRelation.REPLACE_ONE, 2.0
    if isinstance(sampling, PoissonSampling | FullParticipation):
        return dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, 1.0
    if isinstance(sampling, MinSeparationSampling):
        return dp_accounting.NeighboringRelation.REPLACE_SPECIAL, 1.0
    raise InputError(
        f"sampling={sampling!r} cannot be accounted; use poisson, fixed_size, full or "
        "min_separation"
    )


def relation_name(relation: dp_accounting.NeighboringRelation) -> str:
    """Returns the relation as records and reports write it, such as "add_or_remove_one"."""
    return _RELATION_NAMES.get(relation, relation.name.lower())


def turn_rate(sampling: ClientSampling) -> float:
    """Returns a unit's probability to be in a cohort in which it can be at all, as accounted."""
    if isinstance(sampling, PoissonSampling):
        return sampling.sampling_rate
    if isinstance(sampling, MinSeparationSampling) and sampling.max_participations is None:
        return sampling.turn_rate
    return 1.0


def sampled_event(event: dp_accounting.DpEvent, sampling: ClientSampling) -> dp_accounting.DpEvent:
    """Returns the event of one release whose cohort was drawn by `sampling`.

    Args:
      event: As emitted, relative to the clip norm; several Gaussians become the one that is worth
        as much.
      sampling: The sampler that drew the cohort.

    Raises:
      InputError: If the event holds anything but Gaussians, and is no Laplace event either, or the
        sampler cannot be accounted.
    """
    _, sensitivity_in_clips = relation_for(sampling)
    noise: dp_accounting.DpEvent
    if isinstance(event, dp_accounting.LaplaceDpEvent):
        # No accountant knows Laplace noise under fixed-size sampling: counted without sampling.
        noise = dp_accounting.LaplaceDpEvent(event.noise_multiplier / sensitivity_in_clips)
        if event.noise_multiplier == 0:
            return dp_accounting.NonPrivateDpEvent()
        rate = turn_rate(sampling)
        return noise if rate == 1 else dp_accounting.PoissonSampledDpEvent(rate, noise)
    multiplier = effective_noise_multiplier(event)
    if multiplier == 0:
        return dp_accounting.NonPrivateDpEvent()
    if math.isinf(multiplier):
        return dp_accounting.NoOpDpEvent()
    noise = dp_accounting.GaussianDpEvent(multiplier / sensitivity_in_clips)
    if isinstance(sampling, FixedSizeSampling):
        return dp_accounting.SampledWithoutReplacementDpEvent(
            source_dataset_size=sampling.population,
            sample_size=sampling.cohort_size,
            event=noise,
        )
    rate = turn_rate(sampling)
    return noise if rate == 1 else dp_accounting.PoissonSampledDpEvent(rate, noise)


def repeated_event(
    event: dp_accounting.DpEvent, releases: int, sampling: ClientSampling
) -> dp_accounting.DpEvent:
    """Returns the event of the rounds 1 to `releases`, of which each emits `event`.

    Args:
      event: As emitted by each, relative to the clip norm.
      releases: How many, at least 0.
      sampling: The sampler of all cohorts.

    Raises:
      InputError: As `sampled_event`, or for a negative count.
    """
    if releases < 0:
        raise InputError(f"releases={releases} is no count; give 0 or more")
    return _self_composed(sampled_event(event, sampling), sampling.most_participations(releases))


def compose(releases: Sequence[Release], sampling: ClientSampling) -> dp_accounting.DpEvent:
    """Returns the event of all releases together, for the unit that they concern most.

    A repeated round draws the same cohort again, so its releases share one chance of being in it:
    they count as one sampled release with the noise that they have together, z / sqrt(k) for k of
    them. Rounds whose noise multipliers are equal up to the jitter of float32 are counted as
    repeats of the one with the least noise, which can only raise epsilon.

    Args:
      releases: In any order; a repeated round is there once for each release.
      sampling: The sampler of all cohorts.

    Raises:
      InputError: As `sampled_event`.
    """
    rounds: dict[int, _Events] = collections.defaultdict(list)
    for release in releases:
        rounds[release.round_number].append(release.event)
    if any(isinstance(r.event, dp_accounting.LaplaceDpEvent) for r in releases):
        return _composed_laplace(rounds, sampling)
    multipliers = collections.Counter(multipliers_of_one_unit(rounds, sampling))
    groups: list[tuple[float, int]] = []
    for multiplier in sorted(multipliers):
        if groups and multiplier <= groups[-1][0] * (1 + JITTER):
            groups[-1] = (groups[-1][0], groups[-1][1] + multipliers[multiplier])
        else:
            groups.append((multiplier, multipliers[multiplier]))
    parts = [
        _self_composed(sampled_event(dp_accounting.GaussianDpEvent(multiplier), sampling), count)
        for multiplier, count in groups
    ]
    return composed(parts)


def composed(parts: _Events) -> dp_accounting.DpEvent:
    """Returns several events as one."""
    if len(parts) == 1:
        return parts[0]
    return dp_accounting.ComposedDpEvent(parts) if parts else dp_accounting.NoOpDpEvent()


def rounds_by_group(
    rounds: Mapping[int, _Events], sampling: ClientSampling
) -> list[dict[int, _Events]]:
    """Returns the rounds that can concern one unit: all of them, or those of each group."""
    if not isinstance(sampling, MinSeparationSampling):
        return [dict(rounds)]
    groups: dict[int, dict[int, _Events]] = collections.defaultdict(dict)
    for number, events in rounds.items():
        groups[sampling.group(number)][number] = events
    return list(groups.values())


def multipliers_of_one_unit(rounds: Mapping[int, _Events], sampling: ClientSampling) -> list[float]:
    """Returns the noise multiplier of each round of the unit that meets least noise, sorted.

    Of a round that was released several times, that of all its releases together. With a limited
    number of turns, those with the least noise are taken.

    Args:
      rounds: The Gaussian events of each round's releases, by round.
      sampling: The sampler of all cohorts.
    """
    limit = getattr(sampling, "max_participations", None)
    return _least_in_order(
        sorted(
            effective_noise_multiplier(dp_accounting.ComposedDpEvent(events))
            for events in group.values()
        )[:limit]
        for group in rounds_by_group(rounds, sampling)
    )


def _composed_laplace(
    rounds: Mapping[int, _Events], sampling: ClientSampling
) -> dp_accounting.DpEvent:
    """Laplace releases of the unit that meets least noise; without sampling if a round repeats.

    Two looks at one sampled cohort have no bound here that counts the sampling.
    """
    limit = getattr(sampling, "max_participations", None)
    groups = []
    for group in rounds_by_group(rounds, sampling):
        by_round = [sorted(float(e.noise_multiplier) for e in events) for events in group.values()]
        costliest = sorted(by_round, key=lambda zs: sum(1 / max(z, 1e-300) for z in zs))[::-1]
        groups.append(sorted(itertools.chain.from_iterable(costliest[:limit])))
    multipliers = collections.Counter(_least_in_order(groups))
    events = {z: sampled_event(dp_accounting.LaplaceDpEvent(z), sampling) for z in multipliers}
    if any(len(events) > 1 for events in rounds.values()):
        events = {z: getattr(event, "event", event) for z, event in events.items()}
    return composed([_self_composed(events[z], count) for z, count in multipliers.items()])


def _least_in_order(groups: Iterable[list[float]]) -> list[float]:
    """The least of each place of several sorted lists: no list holds less, place by place."""
    least: list[float] = []
    for group in groups:
        shared = [min(pair) for pair in zip(least, group, strict=False)]
        least = shared + least[len(shared) :] + group[len(shared) :]
    return least


def _self_composed(event: dp_accounting.DpEvent, count: int) -> dp_accounting.DpEvent:
    """An event so many times."""
    if count == 0:
        return dp_accounting.NoOpDpEvent()
    return dp_accounting.SelfComposedDpEvent(event, count)
