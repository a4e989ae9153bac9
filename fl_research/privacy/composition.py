"""From releases to one event: sampling, the neighbouring relation, and composition.

A release emits a Gaussian event relative to the clip norm. How the cohort was drawn decides what
that is worth and which data sets are compared:

* Poisson sampling and full participation: a client is added or removed, which moves the sum by at
  most one clip norm.
* Fixed-size sampling: the number of clients in a cohort never changes, so a client is replaced by
  another, which moves the sum by at most two clip norms. The accountants take noise relative to
  the sensitivity, so that they get half of the noise multiplier.

Mironov, Talwar, Zhang 2019, "Rényi differential privacy of the sampled Gaussian mechanism"; Wang,
Balle, Kasiviswanathan 2019, "Subsampled Rényi differential privacy and analytical moments
accountant".
"""

import collections
import math
from collections.abc import Sequence

import dp_accounting

from fl_research.data.client_sampling import (
    ClientSampling,
    FixedSizeSampling,
    FullParticipation,
    PoissonSampling,
)
from fl_research.errors import InputError
from fl_research.privacy.events import effective_noise_multiplier
from fl_research.privacy.releases import Release

JITTER = 1e-6
"""Noise multipliers within this relative distance are the same number in float32 arithmetic."""


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
    raise InputError(f"sampling={sampling!r} cannot be accounted; use poisson, fixed_size or full")


def relation_name(relation: dp_accounting.NeighboringRelation) -> str:
    """Returns the relation as records and reports write it, such as "add_or_remove_one"."""
    return relation.name.lower()


def sampled_event(event: dp_accounting.DpEvent, sampling: ClientSampling) -> dp_accounting.DpEvent:
    """Returns the event of one release whose cohort was drawn by `sampling`.

    Args:
      event: As emitted, relative to the clip norm; several Gaussians become the one that is worth
        as much.
      sampling: The sampler that drew the cohort.

    Raises:
      InputError: If the event holds anything but Gaussians or the sampler cannot be accounted.
    """
    _, sensitivity_in_clips = relation_for(sampling)
    multiplier = effective_noise_multiplier(event)
    if multiplier == 0:
        return dp_accounting.NonPrivateDpEvent()
    if math.isinf(multiplier):
        return dp_accounting.NoOpDpEvent()
    gaussian = dp_accounting.GaussianDpEvent(multiplier / sensitivity_in_clips)
    if isinstance(sampling, FixedSizeSampling):
        return dp_accounting.SampledWithoutReplacementDpEvent(
            source_dataset_size=sampling.population,
            sample_size=sampling.cohort_size,
            event=gaussian,
        )
    if isinstance(sampling, PoissonSampling) and sampling.sampling_rate < 1:
        return dp_accounting.PoissonSampledDpEvent(sampling.sampling_rate, gaussian)
    return gaussian


def repeated_event(
    event: dp_accounting.DpEvent, releases: int, sampling: ClientSampling
) -> dp_accounting.DpEvent:
    """Returns the event of `releases` releases that each emit `event`.

    Args:
      event: As emitted by each, relative to the clip norm.
      releases: How many, at least 0.
      sampling: The sampler of all cohorts.

    Raises:
      InputError: As `sampled_event`, or for a negative count.
    """
    if releases < 0:
        raise InputError(f"releases={releases} is no count; give 0 or more")
    if releases == 0:
        return dp_accounting.NoOpDpEvent()
    return dp_accounting.SelfComposedDpEvent(sampled_event(event, sampling), releases)


def compose(releases: Sequence[Release], sampling: ClientSampling) -> dp_accounting.DpEvent:
    """Returns the event of all releases together.

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
    rounds: dict[int, list[dp_accounting.DpEvent]] = collections.defaultdict(list)
    for release in releases:
        rounds[release.round_number].append(release.event)
    multipliers = collections.Counter(
        effective_noise_multiplier(dp_accounting.ComposedDpEvent(events))
        for events in rounds.values()
    )
    groups: list[tuple[float, int]] = []
    for multiplier in sorted(multipliers):
        if groups and multiplier <= groups[-1][0] * (1 + JITTER):
            groups[-1] = (groups[-1][0], groups[-1][1] + multipliers[multiplier])
        else:
            groups.append((multiplier, multipliers[multiplier]))
    parts = [
        repeated_event(dp_accounting.GaussianDpEvent(multiplier), count, sampling)
        for multiplier, count in groups
    ]
    if len(parts) == 1:
        return parts[0]
    return dp_accounting.ComposedDpEvent(parts) if parts else dp_accounting.NoOpDpEvent()
