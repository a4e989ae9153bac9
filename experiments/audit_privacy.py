"""Audits privacy by attack: what can be shown of epsilon, beside what is claimed.

    python -m experiments.audit_privacy --mechanism=gaussian --noise_multiplier=1 --rounds=3 \\
        --sampling=full --runs=10000        many runs of the mechanism on its worst case
    python -m experiments.audit_privacy --run=runs/churn_prevention-0123456789
                                            membership inference on the model of a finished run

The first runs the mechanism's own query with and without one client whose update is as large as the
clip allows, and bounds epsilon from below by how well the two can be told apart; the exit code is 1
if that is more than the claim. The second attacks a model by the losses of its clients, and writes
audit/ in the run's folder. (--audit_canaries of a training run audits that run itself.)

No attack shows that a mechanism is private: a lower bound of 0 only says that this one failed.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import data_flags, experiment_flags, privacy_flags, run_flags
from experiments.command_line import run_binary

if TYPE_CHECKING:
    from fl_research.audit.worst_case import WorstCaseAudit
    from fl_research.privacy.plan import PrivacyPlan

FLAGS = flags.FLAGS

flags.adopt_module_key_flags(privacy_flags)
# The other flags of training runs are there for a run's flags.txt, and are not shown by --help.
_FLAGS_OF_RUNS = (experiment_flags, data_flags)
flags.declare_key_flag("clip_norm")
flags.declare_key_flag("seed")
flags.adopt_module_key_flags(run_flags)  # A finished run to attack, instead of a mechanism.
flags.DEFINE_integer("population", None, "Clients that can be sampled (1000).")
flags.DEFINE_enum("format", "table", ["table", "json"], "How to print the answer.")
flags.DEFINE_integer("runs", 10_000, "Runs with the client, and as many without.")
flags.DEFINE_float("confidence", 0.95, "Least probability that a bound or an interval holds.")
flags.DEFINE_string("plot", None, "PNG file for the histogram of the runs' statistics.")

_DEFAULT_POPULATION = 1000
_DEFAULT_ROUNDS = 1
_DEFAULT_DELTA = 1e-5
_DEFAULT_CLIP_NORM = 1.0


def main(argv: list[str]) -> int:
    """Audits what the flags say; imports what is slow only now."""
    del argv
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Before TensorFlow is imported.
    if FLAGS.run:
        from experiments.audit_run import audit_run

        return audit_run(Path(FLAGS.run), seed=FLAGS.seed, confidence=FLAGS.confidence)
    return _audit_mechanism()


def _audit_mechanism() -> int:
    """Prints the audit of the mechanism; 1 if it refutes the claim."""
    from fl_research.audit.worst_case import audit_worst_case

    if FLAGS.rounds is None:
        FLAGS.rounds = _DEFAULT_ROUNDS
    plan = _plan()
    delta = _DEFAULT_DELTA if FLAGS.delta is None else FLAGS.delta
    with _progress() as bar:
        task = bar.add_task("runs", total=2 * FLAGS.runs)
        found = audit_worst_case(
            plan,
            rounds=FLAGS.rounds,
            runs=FLAGS.runs,
            delta=delta,
            confidence=FLAGS.confidence,
            seed=FLAGS.seed,
            advance=lambda runs: bar.update(task, advance=runs),
        )
    answer = _answer(plan, found)
    if FLAGS.format == "json":
        print(json.dumps(answer, indent=2, allow_nan=False))
    else:
        _print(answer)
    if FLAGS.plot:
        from experiments.audit_plots import save_statistics

        save_statistics(Path(FLAGS.plot), found)
    if found.exceeds_claim:
        print(
            f"error: the runs show an epsilon of at least {found.audit.epsilon_lower:.4g}, but "
            f"{found.claimed_epsilon:.4g} is claimed: the noise or the accounting is broken",
            file=sys.stderr,
        )
        return 1
    return 0


def _plan() -> "PrivacyPlan":
    """The plan that a training run with these flags would have."""
    import dataclasses

    from experiments.config_from_flags import config_from_flags
    from fl_research.experiment_config import resolve_privacy
    from fl_research.privacy.mechanisms import registry
    from fl_research.privacy.plan import PlanSetting

    config = config_from_flags(default_delta=_DEFAULT_DELTA, default_clip_norm=_DEFAULT_CLIP_NORM)
    population = _DEFAULT_POPULATION if FLAGS.population is None else FLAGS.population
    privacy = resolve_privacy(config, {1: population})
    fields = dataclasses.fields(privacy.setting)
    setting = PlanSetting(
        **{field.name: getattr(privacy.setting, field.name) for field in fields},
        noise_key=(0, 0),  # The audit draws a key of its own.
    )
    return registry.load(config.mechanism).make_plan(privacy.mechanism_config, setting)


def _answer(plan: "PrivacyPlan", found: "WorstCaseAudit") -> dict[str, Any]:
    """The audit as plain JSON; null for an infinite claim."""
    from fl_research.run.record_files import plain_json

    audit = found.audit
    return plain_json(
        {
            "mechanism": plan.mechanism,
            "noise_multiplier": plan.details["noise_multiplier"],
            "clip_norm": plan.details["clip_norm"],
            "sampling": plan.sampling.to_dict(),
            "neighboring_relation": found.relation,
            "rounds": FLAGS.rounds,
            "runs": FLAGS.runs,
            "delta": audit.delta,
            "claimed_epsilon": found.claimed_epsilon,
            "epsilon_lower": audit.epsilon_lower,
            "confidence": audit.confidence,
            "detectable_epsilon": found.detectable,
            "threshold": audit.threshold,
            "above": audit.above,
            "true_positives": audit.true_positives,
            "counted_in": audit.counted_in,
            "false_positives": audit.false_positives,
            "counted_out": audit.counted_out,
            "exceeds_claim": found.exceeds_claim,
        }
    )


def _print(answer: dict[str, Any]) -> None:
    """Prints the answer as a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    claim = answer["claimed_epsilon"]
    rows = [
        ("mechanism", answer["mechanism"]),
        ("noise multiplier", f"{answer['noise_multiplier']:.6g}"),
        ("sampling", answer["sampling"]["name"]),
        ("neighbouring relation", answer["neighboring_relation"]),
        ("rounds of a run", f"{answer['rounds']:,}"),
        ("runs with, and without", f"{answer['runs']:,}"),
        ("delta", f"{answer['delta']:g}"),
        ("epsilon, claimed", "infinite: no guarantee" if claim is None else f"{claim:.4f}"),
        (
            f"epsilon, at least (confidence {answer['confidence']:.3g})",
            f"{answer['epsilon_lower']:.4f}",
        ),
        ("epsilon that so many runs can show", f"{answer['detectable_epsilon']:.4f}"),
        ("told apart with", f"{answer['true_positives']} of {answer['counted_in']}"),
        ("told apart without", f"{answer['false_positives']} of {answer['counted_out']}"),
    ]
    table = Table(box=box.SIMPLE, show_header=False, title="Audit of the mechanism's worst case")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, width=None if sys.stdout.isatty() else 100).print(table)


def _progress() -> Any:
    """A progress bar on stderr, silent without a terminal."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    return progress.Progress(console=console, disable=not console.is_terminal, transient=True)


if __name__ == "__main__":
    run_binary(main)
