"""ε for a record, a client and a person, where a person may be in several clients.

Customers of several departments or branches are in several clients at once, and the guarantee of
one client is worth less to them. How many clients a person may be in is declared by the user, or
enforced over a column that names the person; where nothing is known, the report says so.
"""

import math
from typing import Any

import dp_accounting

from fl_research.privacy.composition import relation_name
from fl_research.privacy.group_privacy import (
    changed_client_epsilon,
    epsilon_by_steps,
    person_epsilon,
)
from fl_research.privacy.parts import releases_in
from fl_research.privacy.spending import Spending, relation_of, rule_of
from fl_research.reports import wording
from fl_research.reports.run_records import RunRecords

_DECLARED = "declared by the user; nothing in the data was checked against it"


def person(records: RunRecords, spent: Spending) -> dict[str, Any]:
    """Returns ε by who is protected: a record, a client, a person.

    Args:
      records: The run's records.
      spent: What the releases cost.

    Returns:
      `clients_per_person` (None where nothing is known), `known_from`, and `rows`: each of `unit`,
      `epsilon` (None where there is no bound) and `note`.
    """
    count = records.run.stated("data.clients_per_person")
    section: dict[str, Any] = {
        "clients_per_person": count,
        "known_from": records.run.stated("data.clients_per_person_known_from") or _DECLARED
        if count
        else None,
        "rows": [],
    }
    if not spent.private:
        return section
    record_is_unit = spent.unit == "record"
    own = spent.claim.epsilon
    section["rows"] = [
        _record_row(records, spent),
        {
            "unit": "one client",
            "epsilon": None if record_is_unit else own,
            "note": "not bounded: each of its records is protected, not all of them together"
            if record_is_unit
            else "the claim",
        },
        _person_row(records, spent, count, record_is_unit=record_is_unit),
    ]
    return section


def _record_row(records: RunRecords, spent: Spending) -> dict[str, Any]:
    """The row of one record, which may turn its client's update into any other.

    That is as far as one client in the place of another: covered by a claim that is about that, and
    else by taking the client out and putting another in.
    """
    row = {"unit": "one record of one client", "epsilon": spent.claim.epsilon}
    if spent.unit == "record":
        return row | {"note": "the claim"}
    relation, _ = relation_of(records.entries)
    if relation is dp_accounting.NeighboringRelation.REPLACE_ONE:
        return row | {"note": "at most that of its client"}
    epsilon = changed_client_epsilon(spent.event, records.plan.required("delta"), relation)
    note = "another record changes its client's update by up to twice the clip norm"
    return row | {"epsilon": epsilon if math.isfinite(epsilon) else None, "note": note}


def _person_row(
    records: RunRecords, spent: Spending, count: int | None, *, record_is_unit: bool
) -> dict[str, Any]:
    """The row of a person in several clients."""
    name = "one person" if count is None else f"one person in up to {count} clients"
    if record_is_unit:
        return {"unit": name, "epsilon": None, "note": "not bounded, as for a client"}
    if count is None:
        note = "not stated how many clients a person can be in; --clients_per_person says it"
        return {"unit": name, "epsilon": None, "note": note}
    relation, _ = relation_of(records.entries)
    delta = records.plan.required("delta")
    if spent.amplified and rule_of(records.entries).name == "correlated":
        # That a sampled group is at most one client of k times the shift is shown for noise that
        # is independent over rounds only.
        epsilon = epsilon_by_steps(releases_in(spent.event), delta, relation, int(count))
    else:
        epsilon = person_epsilon(spent.event, delta, relation, int(count))
    note = f"by group privacy, {relation_name(relation).replace('_', ' ')} of all its clients"
    finite = epsilon if math.isfinite(epsilon) else None
    return {"unit": name, "epsilon": finite, "note": note if finite else "no bound is known"}


def person_statement(records: RunRecords) -> str:
    """Returns what is known of persons in several clients, in a sentence or two.

    Args:
      records: The run's records.
    """
    count = records.run.stated("data.clients_per_person")
    if count is None:
        return (
            "Not stated whether a person's records can be in several clients. The guarantee is for "
            "one client; a person in several is protected less."
        )
    source = records.run.stated("data.clients_per_person_known_from") or _DECLARED
    if count == 1:
        return f"A person's records are all in one client ({source})."
    return (
        f"A person's records are in up to {wording.count(count, 'client')} ({source}). The "
        "guarantee is for one client; what it is worth to a person is under Accounting."
    )
