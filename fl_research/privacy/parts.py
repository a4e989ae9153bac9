"""An event taken apart into its single releases, which is what accountants add up."""

import dp_accounting
from dp_accounting import dp_event

from fl_research.errors import InputError
from fl_research.privacy.events import (
    effective_laplace_multiplier,
    effective_noise_multiplier,
    is_gaussian,
    is_laplace,
)

Parts = tuple[tuple[dp_accounting.DpEvent, int], ...]

_SMALLEST_MULTIPLIER = 1e-3  # Epsilon is above 500,000, or 999 of Laplace noise: counted as none.
_LARGEST_MULTIPLIER = 1e6


def releases_in(event: dp_accounting.DpEvent, times: int = 1) -> Parts:
    """Returns the event as (release, count) pairs.

    Each release is a Gaussian, Laplace noise, one of them sampled, or non-private; what releases
    nothing is left out. Several Laplace releases stay apart where nothing is sampled. Within one
    sample they become one whose inverse multiplier is the sum of theirs: side by side they are
    Laplace noise on a longer vector, whose L1 norms add up, and looking at one sample twice must
    not count as two samples. Multipliers are cut to a range that can be computed with, to the safe
    side.

    Args:
      event: Any composition of such releases.
      times: How often all of it is repeated.

    Raises:
      InputError: If the event holds anything else, or a sample with both kinds of noise on it.
    """
    if isinstance(event, dp_event.SelfComposedDpEvent):
        return releases_in(event.event, times * event.count)
    if isinstance(event, dp_event.ComposedDpEvent):
        return tuple(part for inner in event.events for part in releases_in(inner, times))
    if isinstance(event, dp_event.NoOpDpEvent) or times == 0:
        return ()
    if isinstance(event, dp_event.PoissonSampledDpEvent) and event.sampling_probability == 0:
        return ()
    return ((_leaf(event), times),)


def without_sampling(event: dp_accounting.DpEvent) -> dp_accounting.DpEvent:
    """Returns the same releases as if every unit took part in each of them."""
    return dp_accounting.ComposedDpEvent(
        [
            dp_accounting.SelfComposedDpEvent(getattr(leaf, "event", leaf), count)
            for leaf, count in releases_in(event)
        ]
    )


def _leaf(event: dp_accounting.DpEvent) -> dp_accounting.DpEvent:
    """One release with its noises collapsed into one, of a size that can be computed with."""
    if isinstance(event, dp_event.PoissonSampledDpEvent):
        noise = _noise(event.event)
        if isinstance(noise, dp_event.NonPrivateDpEvent):
            return noise
        return dp_accounting.PoissonSampledDpEvent(event.sampling_probability, noise)
    if isinstance(event, dp_event.SampledWithoutReplacementDpEvent):
        noise = _noise(event.event)
        if isinstance(noise, dp_event.NonPrivateDpEvent):
            return noise
        return dp_accounting.SampledWithoutReplacementDpEvent(
            event.source_dataset_size, event.sample_size, noise
        )
    return _noise(event)


def _noise(event: dp_accounting.DpEvent) -> dp_accounting.DpEvent:
    """The one Gaussian or Laplace event that bounds an unsampled one."""
    gaussian = is_gaussian(event)
    if not gaussian and not is_laplace(event):
        raise InputError(
            f"event {event!r} of one release cannot be accounted; take Gaussian events and "
            "compositions of them, or Laplace events and compositions of them"
        )
    multiplier = (effective_noise_multiplier if gaussian else effective_laplace_multiplier)(event)
    if multiplier < _SMALLEST_MULTIPLIER:
        return dp_accounting.NonPrivateDpEvent()
    kind = dp_accounting.GaussianDpEvent if gaussian else dp_accounting.LaplaceDpEvent
    return kind(min(multiplier, _LARGEST_MULTIPLIER))
