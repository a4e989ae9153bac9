"""The part of a report about the hyperparameter search that a run belongs to, if any.

Epsilon of a run is that of the run alone. If it was picked because it did best, what may be stated
is epsilon of the selection: it is recomputed here from search.jsonl in the run's folder, which is
tied to the run by hashes in both directions. See `privacy.search_spending` for how, and
`run.search_log` for what the search's log vouches for.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fl_research.privacy.ledger import Entry, LedgerError, payloads, read_ledger
from fl_research.privacy.rounding import rounded_up
from fl_research.privacy.search_spending import (
    SearchSpending,
    search_spending,
    the_one,
    trial_events,
)
from fl_research.privacy.selection import FixedTrials, RandomTrials
from fl_research.privacy.spending import claim_of, plan_of
from fl_research.reports import wording
from fl_research.run.run_directory import LEDGER
from fl_research.run.search_log import SEARCH, is_counted, last_metric, search_sha256

_DISTRIBUTIONS = {0.0: "logarithmic", 1.0: "geometric", math.inf: "Poisson"}
_CONDITIONS = (
    "The validation clients score the trials: the guarantee is for the training clients, and what "
    "the choice tells about a validation client is not covered.",
    "Nothing was changed between trials by looking at them: all were planned before the first.",
)
_SECRECY = (
    "Only this run is published: neither the search's log, nor the other runs, nor how many there "
    "were, nor how long the search took.",
)


def section(folder: Path) -> dict[str, Any] | None:
    """Returns what a report says of the search; None where the run belongs to none.

    Args:
      folder: The run's folder.

    Returns:
      Plain values: `name`, `chosen` (whether the search chose this run) and `statement`, and where
      it was chosen also `kind` ("grid" or "random"), `grid`, `settings`, `trials` (None where it
      is secret), `mean`, `shape` (None for Poisson), `distribution`, `metric`, `metric_value`,
      `epsilon`, `epsilon_of_run`, `epsilon_of_costliest_trial` (each None where infinite), `delta`,
      `relation`, `accounting` and `conditions`.

    Raises:
      LedgerError: If search.jsonl is broken, or is not about this run.
    """
    ledger = read_ledger(folder / LEDGER)
    membership = plan_of(ledger).get("search")
    path = folder / SEARCH
    if membership is None:
        if path.exists():
            raise LedgerError(f"{path}: the run belongs to no search; take the file away")
        return None
    if not path.exists():
        return {
            "name": membership["name"],
            "chosen": False,
            "statement": f"This run is a trial of the search {membership['name']}, which has not "
            "chosen it: its epsilon is that of this run alone, and does not hold for a run that "
            "was picked because it did best.",
        }
    entries = read_ledger(path)
    _require_about(folder, entries, ledger)
    return _chosen(entries, search_spending(entries), claim_of(ledger).epsilon)


def _require_about(folder: Path, entries: Sequence[Entry], ledger: Sequence[Entry]) -> None:
    """Raises unless the search's record says of the run what the run's own records say."""
    search, chosen = the_one(entries, "search"), the_one(entries, "chosen")
    plan = plan_of(ledger)
    member = plan["search"]
    ours = {
        "entry": member["log_head"],
        "point": member["point"],
        "delta": plan.get("delta"),
        "metric": last_metric(folder, search["metric"]),
    }
    started = {e.payload["run"]: e.hash for e in entries if e.kind == "trial_started"}
    if (
        search_sha256(search) != member["search_sha256"]
        or any(chosen.get(name) != value for name, value in ours.items())
        or not is_counted(ledger, chosen.get("ledger_head"))
        or chosen.get("costs", [])[:1] != [trial_events(ledger)]
        or (search["kind"] == "grid" and started.get(chosen.get("run")) != member["log_head"])
    ):
        raise LedgerError(f"{folder / SEARCH} is not about this run; restore both from a copy")


def _chosen(entries: Sequence[Entry], spent: SearchSpending, own: float) -> dict[str, Any]:
    """What is said of the run that was chosen."""
    search, chosen = the_one(entries, "search"), the_one(entries, "chosen")
    trials = spent.trials
    shape = trials.shape if isinstance(trials, RandomTrials) else None
    secret = isinstance(trials, RandomTrials)
    finite = {
        "epsilon": spent.epsilon,
        "epsilon_of_run": own,
        "epsilon_of_costliest_trial": spent.costliest_epsilon,
    }
    return {
        "name": search["name"],
        "chosen": True,
        "kind": search["kind"],
        "grid": search["grid"],
        "settings": search["points"][chosen["point"]]["settings"],
        "trials": trials.count if isinstance(trials, FixedTrials) else None,
        "failed_trials": None
        if secret
        else sum(t["status"] != "completed" for t in payloads(entries, "trial_finished")),
        "mean": trials.mean if isinstance(trials, RandomTrials) else None,
        "shape": shape if shape is not None and math.isfinite(shape) else None,
        "distribution": None if shape is None else _distribution(shape),
        "metric": search["metric"],
        "metric_value": chosen["metric"],
        **{name: value if math.isfinite(value) else None for name, value in finite.items()},
        "delta": spent.delta,
        "relation": spent.relation,
        "statement": _statement(spent, own),
        "accounting": _accounting(spent),
        "conditions": [*_CONDITIONS, *(_SECRECY if secret else ())],
    }


def _distribution(shape: float) -> str:
    """The distribution of the number of trials in words."""
    return _DISTRIBUTIONS.get(shape, f"truncated negative binomial of shape {shape:g}")


def _statement(spent: SearchSpending, own: float) -> str:
    """The sentence that has to stand beside the run's own epsilon."""
    if isinstance(spent.trials, FixedTrials):
        which = f"{spent.trials.count} trials"
    else:
        which = f"a secret random number of trials, {spent.trials.mean:g} on average"
    if spent.delta is None or not math.isfinite(spent.epsilon):
        return f"This run is the best of {which}; the selection as a whole has no guarantee."
    return (
        f"This run is the best of {which}. The selection as a whole satisfies "
        f"(ε = {rounded_up(spent.epsilon)}, δ = {wording.probability(spent.delta)}) differential "
        f"privacy under {wording.relation(spent.relation)}; this run alone would satisfy "
        f"ε = {rounded_up(own)}, which is not what may be stated of a run that was picked."
    )


def _accounting(spent: SearchSpending) -> str:
    """How epsilon of the selection comes about."""
    if isinstance(spent.trials, FixedTrials):
        return (
            "composition of all trials of the grid, a failed one with all the rounds that it was "
            "planned to have"
        )
    return (
        f"{_distribution(spent.trials.shape)} number of trials (Papernot and Steinke 2022, "
        "theorems 2 and 6), by Rényi divergences: at each order those of the costliest point of "
        f"the grid; the costliest trial alone has ε = {rounded_up(spent.costliest_epsilon)}"
    )
