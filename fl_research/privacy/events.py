"""Accounting events as plain JSON, and what they say.

An event is written as an object with its class under "type" and its fields beside it, which a
ledger can hold and a reader can check without any of our code. Reading accepts the event classes
of dp_accounting that a ledger can hold and nothing else.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import attr
import dp_accounting
from dp_accounting import dp_event

from fl_research.errors import InputError

_CLASSES: dict[str, type[dp_accounting.DpEvent]] = {
    kind.__name__: kind
    for kind in (
        dp_event.NoOpDpEvent,
        dp_event.NonPrivateDpEvent,
        dp_event.GaussianDpEvent,
        dp_event.LaplaceDpEvent,
        dp_event.SelfComposedDpEvent,
        dp_event.ComposedDpEvent,
        dp_event.PoissonSampledDpEvent,
        dp_event.SampledWithoutReplacementDpEvent,
    )
}


def event_to_json(event: dp_accounting.DpEvent) -> dict[str, Any]:
    """Returns the event as nested dictionaries, lists and numbers.

    Raises:
      InputError: If its class is not one that `event_from_json` reads, or a number in it is
        negative, infinite or not a number.
    """
    name = type(event).__name__
    if _CLASSES.get(name) is not type(event):
        raise InputError(f"event={event!r} is of no known class; choose one of {_known()}")
    fields = {field.name: getattr(event, field.name) for field in attr.fields(type(event))}
    return {"type": name, **{key: _value_to_json(value) for key, value in fields.items()}}


def event_from_json(values: Mapping[str, Any]) -> dp_accounting.DpEvent:
    """Returns the event that `event_to_json` wrote.

    Raises:
      InputError: If the class is unknown, a field is missing or unknown, or a number in it is
        negative, infinite or not a number.
    """
    if not isinstance(values, Mapping) or values.get("type") not in _CLASSES:
        raise InputError(f"event={values!r} has no known type; choose one of {_known()}")
    kind = _CLASSES[values["type"]]
    expected = {field.name for field in attr.fields(kind)}
    given = set(values) - {"type"}
    if given != expected:
        raise InputError(
            f"event={dict(values)!r} has the fields {sorted(given)}; "
            f"{kind.__name__} takes {sorted(expected)}"
        )
    return kind(**{key: _value_from_json(values[key]) for key in expected})


def effective_noise_multiplier(event: dp_accounting.DpEvent) -> float:
    """Returns the noise multiplier of the one Gaussian that is worth the whole unsampled event.

    Gaussians on the same cohort add up as a vector does, also when they are chosen adaptively:
    `(sum of multiplier^-2)^-1/2` (Andrew et al. 2021, "Differentially private learning with
    adaptive clipping", theorem 1). It is 0 for a non-private event and infinite for no release.

    Raises:
      InputError: If the event holds anything but Gaussians, which `is_gaussian` tells, or a
        multiplier below zero or NaN.
    """
    precision = _sum(event, dp_event.GaussianDpEvent, lambda multiplier: multiplier * multiplier)
    if precision == 0:
        return math.inf
    return 0.0 if math.isinf(precision) else precision**-0.5


def effective_laplace_multiplier(event: dp_accounting.DpEvent) -> float:
    """Returns the multiplier of the one Laplace event that bounds the whole unsampled event.

    Laplace noise on several vectors of the same cohort is Laplace noise on one longer vector, whose
    L1 sensitivity is the sum of theirs, relative to the noise: `1 / (sum of 1 / multiplier)`. It is
    0 for a non-private event and infinite for no release.

    Raises:
      InputError: If the event holds anything but Laplace events, which `is_laplace` tells, or a
        multiplier below zero or NaN.
    """
    epsilon = _sum(event, dp_event.LaplaceDpEvent, lambda multiplier: multiplier)
    return 1 / epsilon if epsilon else math.inf


def is_gaussian(event: dp_accounting.DpEvent) -> bool:
    """Whether nothing but unsampled Gaussians makes noise in the event.

    True also for one that releases nothing, or something without noise: all that
    `effective_noise_multiplier` takes.
    """
    return _holds_only(event, dp_event.GaussianDpEvent)


def is_laplace(event: dp_accounting.DpEvent) -> bool:
    """Whether nothing but unsampled Laplace events makes noise; as `is_gaussian` otherwise."""
    return _holds_only(event, dp_event.LaplaceDpEvent)


def events_agree(
    first: dp_accounting.DpEvent, second: dp_accounting.DpEvent, *, relative_tolerance: float
) -> bool:
    """Whether both have the same structure and numbers within the relative tolerance."""
    return _values_agree(event_to_json(first), event_to_json(second), relative_tolerance)


def _known() -> str:
    """The names of the classes that can be read."""
    return ", ".join(_CLASSES)


def _value_to_json(value: Any) -> Any:
    """One field's value; numbers become plain Python numbers."""
    if isinstance(value, dp_accounting.DpEvent):
        return event_to_json(value)
    if isinstance(value, list | tuple):
        return [_value_to_json(item) for item in value]
    return _checked_number(value.item() if hasattr(value, "item") else value)


def _value_from_json(value: Any) -> Any:
    """One field's value back."""
    if isinstance(value, Mapping):
        return event_from_json(value)
    if isinstance(value, list):
        return [_value_from_json(item) for item in value]
    return _checked_number(value)


def _checked_number(value: Any) -> float | int:
    """Refuses what no event can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"event holds {value!r}, which is no number; give a number of at least 0")
    if not math.isfinite(value) or value < 0:
        raise InputError(f"event holds the number {value}; give a finite one of at least 0")
    return value


def _holds_only(event: dp_accounting.DpEvent, noise: type[dp_accounting.DpEvent]) -> bool:
    """Whether all single releases are of this kind, or make no noise."""
    if isinstance(event, dp_event.SelfComposedDpEvent):
        return _holds_only(event.event, noise)
    if isinstance(event, dp_event.ComposedDpEvent):
        return all(_holds_only(part, noise) for part in event.events)
    return isinstance(event, noise | dp_event.NoOpDpEvent | dp_event.NonPrivateDpEvent)


def _sum(
    event: dp_accounting.DpEvent,
    noise: type[dp_accounting.DpEvent],
    variance: Callable[[float], float],
) -> float:
    """The sum of 1 / variance(multiplier); infinite where there is no noise."""
    if isinstance(event, dp_event.NoOpDpEvent):
        return 0.0
    if isinstance(event, dp_event.NonPrivateDpEvent):
        return math.inf
    if isinstance(event, noise):
        return _inverse(variance(_checked_multiplier(float(event.noise_multiplier))))
    if isinstance(event, dp_event.SelfComposedDpEvent):
        return event.count * _sum(event.event, noise, variance) if event.count else 0.0
    if isinstance(event, dp_event.ComposedDpEvent):
        return math.fsum(_sum(part, noise, variance) for part in event.events)
    raise InputError(
        f"event {type(event).__name__} has no noise multiplier of a {noise.__name__}; take events "
        "of that class and compositions of them"
    )


def _checked_multiplier(multiplier: float) -> float:
    """Refuses what is no amount of noise."""
    if math.isnan(multiplier) or multiplier < 0:
        raise InputError(f"noise_multiplier={multiplier} is no amount of noise; give >= 0")
    return multiplier


def _inverse(value: float) -> float:
    """1 / value, infinite for one so small that there is none."""
    return 1.0 / value if value > 0 and math.isfinite(1.0 / value) else math.inf


def _values_agree(first: Any, second: Any, relative_tolerance: float) -> bool:
    """Compares two events in their JSON form."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return set(first) == set(second) and all(
            _values_agree(first[key], second[key], relative_tolerance) for key in first
        )
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(
            _values_agree(one, other, relative_tolerance)
            for one, other in zip(first, second, strict=True)
        )
    if isinstance(first, int | float) and isinstance(second, int | float):
        return math.isclose(first, second, rel_tol=relative_tolerance)
    return bool(first == second)
