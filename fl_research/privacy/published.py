"""Published epsilons, and whether this accounting gives them.

`published_epsilons.csv` holds the settings of papers, libraries and deployed systems with the
epsilon that each of them printed. A row names the accountant and the Rényi orders behind its
number: before 2021 nearly all rest on the classic conversion. Rows of mechanisms that are not
accounted here yet say what they need.
"""

import csv
import dataclasses
import functools
from pathlib import Path

import dp_accounting

from fl_research.data.client_sampling import ClientSampling, FullParticipation, PoissonSampling
from fl_research.privacy import accountants, accounting

PATH = Path(__file__).with_name("published_epsilons.csv")

_LATER = "later: "


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedCheck:
    """One published value beside ours.

    Attributes:
      id: Short name of the row.
      source: Where it was published, and its setting in words.
      quantity: "epsilon", or "smallest cohort" of a published calibration.
      accountant: Behind the published value.
      published: The published value.
      ours: The same by this accounting; None where it cannot be had yet.
      relative_tolerance: How far ours may be from it.
      needs: What is missing to account it; None where nothing is.
    """

    id: str
    source: str
    quantity: str
    accountant: str
    published: float
    ours: float | None
    relative_tolerance: float
    needs: str | None

    @property
    def passed(self) -> bool:
        """Whether ours is within the tolerance, or nothing was to be computed."""
        if self.ours is None:
            return self.needs is not None
        return abs(self.ours - self.published) <= self.relative_tolerance * self.published

    @property
    def status(self) -> str:
        """One or a few words for a table."""
        if self.ours is None:
            return f"needs {self.needs} (later)"
        return "ok" if self.passed else "OUT OF TOLERANCE"


def check_published() -> list[PublishedCheck]:
    """Computes every published value that can be computed; takes some seconds."""
    with PATH.open(encoding="utf-8", newline="") as file:
        return [_check(row) for row in csv.DictReader(file)]


def _check(row: dict[str, str]) -> PublishedCheck:
    """One row of the table."""
    check = PublishedCheck(
        id=row["id"],
        source=row["source"] + (f" ({row['note']})" if row["note"] else ""),
        quantity="epsilon",
        accountant=row["accountant"],
        published=float(row["published_epsilon"] or row["cohort_or_batch"]),
        ours=None,
        relative_tolerance=float(row["rtol"] or 0),
        needs=None,
    )
    if row["kind"].startswith(_LATER):
        return dataclasses.replace(check, needs=row["kind"].removeprefix(_LATER))
    if row["kind"] == "smallest_cohort":
        return dataclasses.replace(check, quantity="smallest cohort", ours=_smallest_cohort(row))
    multiplier = float(row["noise_multiplier"])
    return dataclasses.replace(check, ours=_epsilon(row, _sampling(row), multiplier))


def _sampling(row: dict[str, str]) -> ClientSampling:
    """The sampler; where only the rate is published, the population does not matter."""
    population = int(row["population"] or 1)
    if row["sampling"] == "none":
        return FullParticipation(population=population)
    rate = row["sampling_rate"] or float(row["cohort_or_batch"]) / population
    return PoissonSampling(population=population, sampling_rate=float(rate))


def _epsilon(row: dict[str, str], sampling: ClientSampling, multiplier: float) -> float | None:
    """Epsilon by the row's accountant and orders."""
    event = accounting.repeated_event(
        dp_accounting.GaussianDpEvent(multiplier), int(row["releases"]), sampling
    )
    delta = float(row["delta"])
    relation, _ = accounting.relation_for(sampling)
    if row["accountant"] == "pld":
        return accounting.epsilon_by_accountant(event, delta, relation)["pld"]
    return accountants.rdp_epsilon(
        event,
        delta,
        relation,
        orders=accountants.INTEGER_ORDERS
        if row["orders"] == "integer"
        else accountants.DEFAULT_ORDERS,
        classic=row["accountant"] == "rdp_classic",
    )


def _smallest_cohort(row: dict[str, str]) -> float:
    """The smallest cohort within epsilon 2, with noise 0.01 for each client of the cohort.

    Epsilon falls with the cohort: the noise grows as fast as the sampling rate and counts for more.
    """
    population = int(row["population"])

    @functools.cache
    def within(cohort: int) -> bool:
        """Whether a cohort of this size stays within the target."""
        sampling = PoissonSampling(population=population, sampling_rate=cohort / population)
        epsilon = _epsilon(row, sampling, 0.01 * cohort)
        return epsilon is not None and epsilon <= 2

    low, high = 1, population
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if within(middle) else (middle, high)
    return float(high)
