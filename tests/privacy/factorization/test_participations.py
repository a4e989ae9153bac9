"""The number of participations against all patterns."""

import itertools

import pytest

from fl_research.errors import InputError
from fl_research.privacy.factorization.participations import most_participations
from tests.privacy.factorization.participation_patterns import patterns


def test_the_number_is_that_of_the_fullest_pattern() -> None:
    for rounds, separation, limit in itertools.product(range(1, 10), range(1, 11), range(1, 5)):
        fullest = max(pattern.sum() for pattern in patterns(rounds, limit, separation))
        found = most_participations(
            rounds=rounds, min_separation=separation, max_participations=limit
        )
        assert found == fullest


def test_without_a_limit_the_separation_decides() -> None:
    assert most_participations(rounds=2000, min_separation=313) == 7
    assert most_participations(rounds=2000, min_separation=1) == 2000


@pytest.mark.parametrize("name", ["rounds", "min_separation", "max_participations"])
def test_numbers_below_one_are_refused(name: str) -> None:
    numbers = {"rounds": 5, "min_separation": 2, "max_participations": 2}
    with pytest.raises(InputError, match=f"{name}=0 "):
        most_participations(**{**numbers, name: 0})
