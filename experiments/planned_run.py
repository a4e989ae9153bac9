"""What the planned rounds of a run would cost, without any of them: `--plan_only`, and searches."""

import contextlib
import importlib
import importlib.util
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from fl_research.errors import InputError
from fl_research.experiment_config import ExperimentConfig, ResolvedPrivacy
from fl_research.privacy.events import event_from_json
from fl_research.privacy.search_spending import planned_events
from fl_research.privacy.worst_case import worst_case
from fl_research.runtime.in_process import in_process_runtime
from fl_research.task import FederatedTask

FLAGS = flags.FLAGS


def print_plan(task: FederatedTask, config: ExperimentConfig, privacy: ResolvedPrivacy) -> None:
    """Prints what the run would cost, as one JSON object.

    Args:
      task: Client data and metric.
      config: The run's settings.
      privacy: Sampler and mechanism settings.

    Raises:
      InputError: A setting is wrong.
    """
    with in_process_runtime():
        from fl_research import run_facts  # These bring TensorFlow in.
        from fl_research.experiment_parts import build_parts

        parts = build_parts(task, config, privacy)
        plan = run_facts.ledger_plan(task, config, parts)
    delta, relation = plan["delta"], parts.plan.neighboring_relation
    costs = planned_events(plan)
    epsilon = math.inf
    if delta is not None:
        events = [event_from_json(event) for event in costs]
        epsilon = worst_case(events, delta, relation).claim.epsilon
    facts = {
        "epsilon": epsilon if math.isfinite(epsilon) else None,
        **{name: plan[name] for name in ("delta", "neighboring_relation", "unit", "mechanism")},
        "noise_multiplier": plan["details"].get("noise_multiplier"),
        "rounds": plan["rounds_planned"],
        "training_clients": task.train.num_clients,
        "validation_clients": task.validation.num_clients,
        "primary_metric": task.primary_metric,
        "events": costs,
    }
    print(json.dumps(facts, indent=2, allow_nan=False))


def plans_of(binary: str, arguments: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Returns what `--plan_only` prints for several sets of flags; for a process of its own.

    Args:
      binary: Name of an experiment binary, such as "churn_prevention".
      arguments: The flags of each run.

    Raises:
      InputError: There is no such binary, or a set of flags is wrong.
    """
    module = importlib.import_module(f"experiments.{binary}")
    module.USE_CASE.set_defaults()
    plans = []
    for given in arguments:
        FLAGS.unparse_flags()
        try:
            rest = FLAGS([binary, *given, "--plan_only"])
        except flags.Error as error:
            raise InputError(" ".join(str(error).split())) from None
        if len(rest) > 1:
            raise InputError(f"{rest[1]!r} is no flag of {binary}; write --name=value")
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                module.main([binary])
        except InputError as error:
            raise InputError(f"{error} (of the run {' '.join(given)})") from error
        plans.append(json.loads(printed.getvalue()))
    return plans


def is_binary(name: str) -> bool:
    """Whether an experiment binary, which is a module with a `USE_CASE`, has this name."""
    spec = importlib.util.find_spec(f"experiments.{name}") if name.isidentifier() else None
    if spec is None or spec.origin is None:
        return False
    return "\nUSE_CASE = " in Path(spec.origin).read_text(encoding="utf-8")
