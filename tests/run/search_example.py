"""A search for tests: its log, and runs whose ledgers were written as a run writes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dp_accounting

from fl_research.data.client_sampling import FullParticipation
from fl_research.privacy.events import event_to_json
from fl_research.privacy.ledger import Ledger, payloads
from fl_research.privacy.search_spending import planned_events
from fl_research.run import search_log
from fl_research.run.record_files import append_metrics

NAME = "lr"
METRIC = "validation_auc"
ROUNDS = 4
DELTA = 1e-5


def plan(noise_multiplier: float = 3.0, *, rounds: int = ROUNDS) -> dict[str, Any]:
    """What a run's ledger opens with, as far as a search looks at it."""
    return {
        "sampling": FullParticipation(population=50).to_dict(),
        "delta": DELTA,
        "neighboring_relation": "add_or_remove_one",
        "expected_release_event": release(noise_multiplier),
        "accounting_rule": {"name": "independent", "noise": "gaussian"},
        "unit": "one customer",
        "rounds_planned": rounds,
        "seeds": {"noise": "fresh entropy"},
    }


def release(noise_multiplier: float) -> dict[str, Any]:
    """What one round emits."""
    return event_to_json(dp_accounting.GaussianDpEvent(noise_multiplier))


def search(
    noise_multipliers: Sequence[float], *, mean: float | None = None, shape: float | str = 1.0
) -> dict[str, Any]:
    """A "search" entry with a point for each noise multiplier."""
    return {
        "name": NAME,
        "kind": "grid" if mean is None else "random",
        "grid": {"noise_multiplier": [str(noise) for noise in noise_multipliers]},
        "mean": mean,
        "shape": None if mean is None else shape,
        "metric": METRIC,
        "relation": "add_or_remove_one",
        "points": [
            {
                "settings": {"noise_multiplier": str(noise)},
                "events": planned_events(plan(noise)),
                **{key: plan()[key] for key in ("delta", "neighboring_relation", "unit")},
            }
            for noise in noise_multipliers
        ],
    }


def begin(
    output_dir: Path, entry: dict[str, Any], points: Sequence[int] | None = None
) -> list[str]:
    """Begins a search whose trials have these points, by default each once; returns their names."""
    points = range(len(entry["points"])) if points is None else points
    trials = [{"run": f"{NAME}-{i}", "point": point} for i, point in enumerate(points)]
    search_log.begin(output_dir, entry, trials)
    return [str(trial["run"]) for trial in trials]


def start(
    folder: Path, noise_multiplier: float = 3.0, *, rounds: Sequence[int] = range(1, ROUNDS + 1)
) -> None:
    """Registers a run, or takes it up, and lets it release some rounds."""
    folder.mkdir(exist_ok=True)
    with Ledger.open(folder / "ledger.jsonl") as ledger:
        opening = plan(noise_multiplier)
        member = search_log.register(NAME, folder, ledger.entries, opening)
        if not payloads(ledger.entries, "plan"):
            ledger.append("plan", {**opening, "search": member})
        for number in rounds:
            ledger.append("release", {"round": number, "event": release(noise_multiplier)})


def end(folder: Path, metric: float | None, status: str = search_log.COMPLETED) -> None:
    """Writes a run's last metric and counts the run."""
    if metric is not None:
        (folder / "metrics.csv").unlink(missing_ok=True)
        append_metrics(folder / "metrics.csv", {"round": ROUNDS, METRIC: metric})
    search_log.finish(folder.parent, NAME, folder.name, status=status)


def whole(
    output_dir: Path, metrics: Sequence[float], *, mean: float | None = None, noise: float = 3.0
) -> list[Path]:
    """A search that has run and chosen; returns its runs' folders."""
    output_dir.mkdir(exist_ok=True)
    points = 2 if mean is not None else len(metrics)
    entry = search([noise] * points, mean=mean)
    names = begin(output_dir, entry, [i % points for i in range(len(metrics))])
    for name, metric in zip(names, metrics, strict=True):
        start(output_dir / name, noise)
        end(output_dir / name, metric)
    search_log.choose(output_dir, NAME)
    return [output_dir / name for name in names]
