"""Persons in several clients: counted and bounded, against counting by hand."""

import numpy as np
import pandas as pd
import pytest

from fl_research.data.person_overlap import most_clients_per_person, rows_within_bound
from fl_research.errors import InputError

PERSONS = pd.Series(["ann", "ann", "ann", "bob", "bob", "cid", "ann"], name="person")
CLIENTS = pd.Series(["x", "y", "y", "x", "x", "z", "z"], name="client")


def test_the_most_clients_of_a_person_are_counted() -> None:
    assert most_clients_per_person(PERSONS, CLIENTS) == 3
    assert most_clients_per_person(PERSONS[3:5], CLIENTS[3:5]) == 1


@pytest.mark.parametrize("bound", [1, 2, 3, 9])
def test_nobody_is_in_more_clients_than_the_bound(bound: int) -> None:
    kept = rows_within_bound(PERSONS, CLIENTS, clients_per_person=bound, seed=4)
    assert most_clients_per_person(PERSONS[kept], CLIENTS[kept]) == min(bound, 3)
    assert kept[3:6].all()  # Who is in one client keeps every row.
    whole = [kept[(PERSONS == "ann") & (c == CLIENTS)] for c in "xyz"]
    assert all(rows.all() or not rows.any() for rows in whole)  # A client's rows go together.


def test_the_choice_follows_the_seed_and_not_the_order_of_rows() -> None:
    order = np.random.default_rng(0).permutation(len(PERSONS))
    kept = rows_within_bound(PERSONS, CLIENTS, clients_per_person=1, seed=4)
    shuffled = rows_within_bound(PERSONS[order], CLIENTS[order], clients_per_person=1, seed=4)
    np.testing.assert_array_equal(kept[order], shuffled)
    choices = {
        tuple(rows_within_bound(PERSONS, CLIENTS, clients_per_person=1, seed=seed))
        for seed in range(30)
    }
    assert len(choices) == 3  # One for each client of ann: by chance fewer with probability 2e-5.


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match="person_column=person is empty in 1 rows"):
        most_clients_per_person(PERSONS.mask(PERSONS == "cid"), CLIENTS)
    with pytest.raises(InputError, match="clients_per_person=0"):
        rows_within_bound(PERSONS, CLIENTS, clients_per_person=0, seed=0)
