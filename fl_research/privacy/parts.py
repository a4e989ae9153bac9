"""An event taken apart into its single releases, which is what accountants add up."""

import dp_accounting
from dp_accounting import dp_event

from fl_research.privacy.events import effective_noise_multiplier

Parts = tuple[tuple[dp_accounting.DpEvent, int], ...]

_SMALLEST_MULTIPLIER = 1e-3  # Epsilon is above 500,000: counted as no noise at all.
_LARGEST_MULTIPLIER = 1e6


def releases_in(event: dp_accounting.DpEvent, times: int = 1) -> Parts:
    """Returns the event as (release, count) pairs.

    Each release is a Gaussian, a sampled Gaussian or non-private; what releases nothing is left
    out. Multipliers are cut to a range that can be computed with, to the safe side.

    Args:
      event: Any composition of such releases.
      times: How often all of it is repeated.

    Raises:
      InputError: If the event holds anything else.
    """
    if isinstance(event, dp_event.SelfComposedDpEvent):
        return releases_in(event.event, times * event.count)
    if isinstance(event, dp_event.ComposedDpEvent):
        return tuple(part for inner in event.events for part in releases_in(inner, times))
    if isinstance(event, dp_event.NoOpDpEvent) or times == 0:
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
    """One release with its Gaussians collapsed into one, of a size that can be computed with."""
    inner = event
    if isinstance(
        event, dp_event.PoissonSampledDpEvent | dp_event.SampledWithoutReplacementDpEvent
    ):
        inner = event.event
    multiplier = effective_noise_multiplier(inner)
    if multiplier < _SMALLEST_MULTIPLIER:
        return dp_accounting.NonPrivateDpEvent()
    gaussian = dp_accounting.GaussianDpEvent(min(multiplier, _LARGEST_MULTIPLIER))
    if isinstance(event, dp_event.PoissonSampledDpEvent):
        return dp_accounting.PoissonSampledDpEvent(event.sampling_probability, gaussian)
    if isinstance(event, dp_event.SampledWithoutReplacementDpEvent):
        return dp_accounting.SampledWithoutReplacementDpEvent(
            event.source_dataset_size, event.sample_size, gaussian
        )
    return gaussian
