"""Published epsilons, and whether this accounting gives them.

`published_epsilons.csv` holds the settings of papers, libraries and deployed systems with the
epsilon that each of them printed. A row names the accountant and the Rényi orders behind its
number: before 2021 nearly all rest on the classic conversion. A row with a number of participations
has noise that is correlated over all rounds, which is one Gaussian: its squared sensitivity is in
the row where the mechanism's matrix was not published, and computed as that of one tree otherwise.
"""

import csv
import dataclasses
import functools
from pathlib import Path

import dp_accounting

from fl_research.errors import InputError
from fl_research.privacy import accountants
from fl_research.privacy.factorization.tree import squared_tree_sensitivity

PATH = Path(__file__).with_name("published_epsilons.csv")

_RELATIONS = {
    "add_or_remove_one": dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    "zero_out": dp_accounting.NeighboringRelation.REPLACE_SPECIAL,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedCheck:
    """One published value beside ours.

    Attributes:
      id: Short name of the row.
      source: Where it was published, and its setting in words.
      quantity: "epsilon", or "smallest cohort" of a published calibration.
      accountant: Behind the published value.
      published: The published value.
      ours: The same by this accounting.
      relative_tolerance: How far ours may be from it.
    """

    id: str
    source: str
    quantity: str
    accountant: str
    published: float
    ours: float
    relative_tolerance: float

    @property
    def passed(self) -> bool:
        """Whether ours is within the tolerance."""
        return abs(self.ours - self.published) <= self.relative_tolerance * self.published

    @property
    def status(self) -> str:
        """A few words for a table."""
        return "ok" if self.passed else "OUT OF TOLERANCE"


def check_published() -> list[PublishedCheck]:
    """Computes every published value; takes some seconds.

    Raises:
      InputError: If a row names an accountant that does not apply to its releases.
    """
    with PATH.open(encoding="utf-8", newline="") as file:
        return [_check(row) for row in csv.DictReader(file)]


def _check(row: dict[str, str]) -> PublishedCheck:
    """One row of the table."""
    smallest_cohort = row["kind"] == "smallest_cohort"
    return PublishedCheck(
        id=row["id"],
        source=row["source"] + (f" ({row['note']})" if row["note"] else ""),
        quantity="smallest cohort" if smallest_cohort else "epsilon",
        accountant=row["accountant"],
        published=float(row["cohort_or_batch"] if smallest_cohort else row["published_epsilon"]),
        ours=_smallest_cohort(row) if smallest_cohort else _epsilon(row, event_of(row)),
        relative_tolerance=float(row["rtol"] or 0),
    )


def event_of(row: dict[str, str]) -> dp_accounting.DpEvent:
    """Returns the accounting event of all releases of a row.

    Args:
      row: Of the table, by column.
    """
    multiplier = float(row["noise_multiplier"])
    if row["max_participations"]:
        return dp_accounting.GaussianDpEvent(multiplier / squared_sensitivity_of(row) ** 0.5)
    if row["sampling"] == "none":
        return _repeated(row, multiplier, rate=1.0)
    rate = row["sampling_rate"] or float(row["cohort_or_batch"]) / float(row["population"])
    return _repeated(row, multiplier, rate=float(rate))


def squared_sensitivity_of(row: dict[str, str]) -> float:
    """Returns how far one unit moves all releases of correlated noise, squared, in clip norms.

    Args:
      row: Of the table, by column, with a number of participations.
    """
    if row["squared_sensitivity"]:
        return float(row["squared_sensitivity"])
    return squared_tree_sensitivity(
        rounds=int(row["releases"]),
        restart_every=None,
        max_participations=int(row["max_participations"]),
        min_separation=int(row["min_separation"] or 1),
    ).squared


def _repeated(row: dict[str, str], multiplier: float, *, rate: float) -> dp_accounting.DpEvent:
    """All releases with fresh noise, sampled at a rate."""
    event: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(multiplier)
    if rate < 1:
        event = dp_accounting.PoissonSampledDpEvent(rate, event)
    return dp_accounting.SelfComposedDpEvent(event, int(row["releases"]))


def _epsilon(row: dict[str, str], event: dp_accounting.DpEvent) -> float:
    """Epsilon by the row's accountant and orders."""
    delta, relation = float(row["delta"]), _RELATIONS[row["relation"]]
    if row["accountant"] == "pld":
        epsilon = accountants.epsilon_by_accountant(event, delta, relation)["pld"]
    else:
        integer = row["orders"] == "integer"
        epsilon = accountants.rdp_epsilon(
            event,
            delta,
            relation,
            orders=accountants.INTEGER_ORDERS if integer else accountants.DEFAULT_ORDERS,
            classic=row["accountant"] == "rdp_classic",
        )
    if epsilon is None:
        raise InputError(
            f"accountant={row['accountant']!r} of the published row {row['id']} does not apply to "
            "its releases; take another one"
        )
    return epsilon


def epsilon_of_cohort(row: dict[str, str], cohort: int) -> float:
    """Returns epsilon with a cohort of this size and noise 0.01 for each client of it.

    Args:
      row: Of the table, by column, of the kind "smallest_cohort".
      cohort: Clients expected in a cohort, at least 1.
    """
    event = _repeated(row, 0.01 * cohort, rate=cohort / int(row["population"]))
    return _epsilon(row, event)


def _smallest_cohort(row: dict[str, str]) -> float:
    """The smallest cohort within epsilon 2.

    Epsilon falls with the cohort: the noise grows as fast as the sampling rate and counts for more.
    """

    @functools.cache
    def within(cohort: int) -> bool:
        """Whether a cohort of this size stays within the target."""
        return epsilon_of_cohort(row, cohort) <= 2

    low, high = 1, int(row["population"])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if within(middle) else (middle, high)
    return float(high)
