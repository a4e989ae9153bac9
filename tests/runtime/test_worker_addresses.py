"""Addresses of workers as they are typed."""

import math

import pytest

from fl_research.errors import InputError
from fl_research.runtime import worker_addresses


@pytest.mark.parametrize(
    "typed",
    ["192.0.2.7:8470", "host:1,host:65535", " a.example:8470 ,b-2:8470", "[2001:db8::7]:80"],
)
def test_good_addresses_stay_in_order(typed: str) -> None:
    expected = tuple(address.strip() for address in typed.split(","))
    assert worker_addresses.checked_addresses(typed.split(",")) == expected


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("host", "'host' is no address"),
        ("host:", "'host:' is no address"),
        (":8470", "':8470' is no address"),
        ("host:0", "'host:0' is no address"),
        ("host:65536", "'host:65536' is no address"),
        ("host:-1", "'host:-1' is no address"),
        ("host:٣", "is no address"),
        ("http://host:80", "'http://host:80' is no address"),
        ("2001:db8::7:80", "is no address"),
        ("a:1,,b:2", "'' is no address"),
        ("a:1,b:2,a:1", "a:1 is there twice"),
        ("", "names no worker"),
    ],
)
def test_bad_addresses_are_one_line_with_flag_value_and_way_out(typed: str, named: str) -> None:
    with pytest.raises(InputError) as caught:
        worker_addresses.checked_addresses(typed.split(",") if typed else [])
    message = str(caught.value)
    assert message.startswith(f"--workers={typed}") and named in message
    assert "\n" not in message


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_a_timeout_is_a_number_above_0(seconds: float) -> None:
    with pytest.raises(InputError, match="--worker_timeout_seconds="):
        worker_addresses.checked_timeout(seconds)
    assert worker_addresses.checked_timeout(0.5) == 0.5
