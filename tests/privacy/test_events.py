"""Events keep their meaning on the way through JSON, and Gaussians add up as vectors do."""

import json
import math
from typing import Any

import dp_accounting
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_research.errors import InputError
from fl_research.privacy import events

Gaussian = dp_accounting.GaussianDpEvent
Laplace = dp_accounting.LaplaceDpEvent
Composed = dp_accounting.ComposedDpEvent
SelfComposed = dp_accounting.SelfComposedDpEvent

EVENTS = st.recursive(
    st.one_of(
        st.floats(0, 1e6).map(Gaussian),
        st.floats(0, 1e6).map(Laplace),
        st.just(dp_accounting.NonPrivateDpEvent()),
        st.just(dp_accounting.NoOpDpEvent()),
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(Composed),
        st.builds(SelfComposed, inner, st.integers(1, 9)),
        st.builds(dp_accounting.PoissonSampledDpEvent, st.floats(0, 1), inner),
        st.builds(
            dp_accounting.SampledWithoutReplacementDpEvent, st.just(10), st.integers(1, 10), inner
        ),
    ),
    max_leaves=5,
)


@given(EVENTS)
def test_events_survive_json(event: dp_accounting.DpEvent) -> None:
    text = json.dumps(events.event_to_json(event), allow_nan=False)
    assert events.event_from_json(json.loads(text)) == event


def test_numpy_numbers_become_plain_ones() -> None:
    event = Gaussian(np.float32(1.5))
    assert json.dumps(events.event_to_json(event)) == (
        '{"type": "GaussianDpEvent", "noise_multiplier": 1.5}'
    )


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"type": "RepeatAndSelectDpEvent"}, "RepeatAndSelectDpEvent"),
        ({"noise_multiplier": 1.0}, "no known type"),
        ({"type": "GaussianDpEvent"}, "takes ['noise_multiplier']"),
        ({"type": "GaussianDpEvent", "noise_multiplier": 1.0, "clip": 2}, "'clip'"),
        ({"type": "GaussianDpEvent", "noise_multiplier": -1.0}, "-1.0"),
        ({"type": "GaussianDpEvent", "noise_multiplier": math.nan}, "nan"),
        ({"type": "GaussianDpEvent", "noise_multiplier": math.inf}, "inf"),
        ({"type": "GaussianDpEvent", "noise_multiplier": "1"}, "'1'"),
        ([1], "no known type"),
    ],
)
def test_what_is_no_event_is_refused(values: Any, names: str) -> None:
    with pytest.raises(InputError) as raised:
        events.event_from_json(values)
    assert names in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("event", [Gaussian(-1.0), Gaussian(math.nan), dp_accounting.DpEvent()])
def test_what_is_no_event_is_not_written(event: dp_accounting.DpEvent) -> None:
    with pytest.raises(InputError):
        events.event_to_json(event)


@pytest.mark.parametrize(
    ("event", "multiplier"),
    [
        (Gaussian(2.0), 2.0),
        (Composed([Gaussian(3.0), Gaussian(4.0)]), 2.4),  # 1/9 + 1/16 = (5/12)^2
        (SelfComposed(Gaussian(6.0), 9), 2.0),
        (Composed([SelfComposed(Gaussian(3.0), 1), Composed([Gaussian(4.0)])]), 2.4),
        (Composed([Gaussian(2.0), dp_accounting.NoOpDpEvent()]), 2.0),
        (dp_accounting.NoOpDpEvent(), math.inf),
        (Gaussian(0.0), 0.0),
        (Gaussian(1e-300), 0.0),
        (Composed([Gaussian(2.0), dp_accounting.NonPrivateDpEvent()]), 0.0),
    ],
)
def test_effective_noise_multiplier(event: dp_accounting.DpEvent, multiplier: float) -> None:
    assert events.effective_noise_multiplier(event) == pytest.approx(multiplier, rel=1e-14)


@pytest.mark.parametrize(
    "event",
    [
        Gaussian(-1.0),
        Gaussian(math.nan),
        dp_accounting.UnsupportedDpEvent(),
        Laplace(1.0),
        Composed([Gaussian(1.0), Laplace(1.0)]),
        dp_accounting.PoissonSampledDpEvent(0.1, Gaussian(1.0)),
    ],
)
def test_events_without_a_noise_multiplier_are_refused(event: dp_accounting.DpEvent) -> None:
    with pytest.raises(InputError) as raised:
        events.effective_noise_multiplier(event)
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError):
        events.effective_laplace_multiplier(Composed([event, Laplace(-1.0)]))


@pytest.mark.parametrize(
    ("event", "multiplier"),
    [
        (Laplace(2.0), 2.0),
        (Composed([Laplace(2.0), Laplace(4.0), Laplace(4.0)]), 1.0),  # 1/2 + 1/4 + 1/4
        (SelfComposed(Laplace(6.0), 3), 2.0),
        (dp_accounting.NoOpDpEvent(), math.inf),
        (Laplace(0.0), 0.0),
        (Composed([Laplace(2.0), dp_accounting.NonPrivateDpEvent()]), 0.0),
    ],
)
def test_effective_laplace_multiplier(event: dp_accounting.DpEvent, multiplier: float) -> None:
    assert events.effective_laplace_multiplier(event) == pytest.approx(multiplier, rel=1e-14)


@pytest.mark.parametrize(
    ("event", "gaussian", "laplace"),
    [
        (Gaussian(1.0), True, False),
        (Laplace(1.0), False, True),
        (SelfComposed(Composed([Gaussian(1.0), dp_accounting.NoOpDpEvent()]), 3), True, False),
        (Composed([Gaussian(1.0), Laplace(1.0)]), False, False),
        (Composed([]), True, True),
        (dp_accounting.NonPrivateDpEvent(), True, True),
        (dp_accounting.PoissonSampledDpEvent(0.1, Gaussian(1.0)), False, False),
        (dp_accounting.UnsupportedDpEvent(), False, False),
    ],
)
def test_kinds_of_noise_are_told_apart(
    event: dp_accounting.DpEvent, gaussian: bool, laplace: bool
) -> None:
    assert (events.is_gaussian(event), events.is_laplace(event)) == (gaussian, laplace)


def test_agreement_is_by_structure_and_relative_size() -> None:
    event = Composed([Gaussian(1.0), Gaussian(100.0)])
    near = Composed([Gaussian(1.0 + 1e-6), Gaussian(100.0 - 1e-4)])
    assert events.events_agree(event, near, relative_tolerance=1e-5)
    assert not events.events_agree(event, near, relative_tolerance=1e-7)
    assert not events.events_agree(event, Composed([Gaussian(1.0)]), relative_tolerance=1.0)
    for other in (dp_accounting.NonPrivateDpEvent(), Laplace(1.0)):
        assert not events.events_agree(Gaussian(1.0), other, relative_tolerance=1.0)
