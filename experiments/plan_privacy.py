"""Plans the privacy of a run without training: epsilon, the noise for a target, the rounds left.

    python -m experiments.plan_privacy --population=10000 --clients_per_round=100 --rounds=1000 \\
        --noise_multiplier=1 --delta=1e-5                      what does this cost?
    ... --rounds=1000 --target_epsilon=2                       how much noise does this need?
    ... --noise_multiplier=1 --target_epsilon=2                how many rounds fit?
    ... --rounds=400 --noise_multiplier=1 --target_epsilon=2   how many are left after 400?
    ... --mechanism=tree_aggregation --sampling=min_separation --min_separation=100
    ... --plot=plan.png                                        how do the mechanisms compare?
    python -m experiments.plan_privacy --published             does this give published values?

A noise multiplier is the standard deviation of the noise on the sum of the clients' updates
divided by the clip norm (laplace: scale and L1 norm; local_gaussian: on each update; client_dpsgd:
on each step's sum of gradients). The claim is the smallest of the bounds that hold. Noise that is
correlated over rounds (tree_aggregation, banded_matrix_factorization, buffered_toeplitz) is made
for a number of rounds: --rounds is needed, and of these it is counted how many fit.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import experiment_flags, privacy_flags
from experiments.command_line import run_binary
from experiments.component_flags import selected_flags
from fl_research.errors import InputError

if TYPE_CHECKING:
    from fl_research.data.client_sampling import ClientSampling
    from fl_research.learning.client_update_config import ClientUpdateConfig
    from fl_research.privacy.planning import Question

FLAGS = flags.FLAGS

_LOCAL_TRAINING = ("local_epochs", "local_steps", "batch_size")
_FROM_EXPERIMENTS = (*_LOCAL_TRAINING, "adaptive_gaussian_clipped_count_stddev")

flags.adopt_module_key_flags(privacy_flags)
for _name in _FROM_EXPERIMENTS:
    flags.declare_key_flag(_name)
flags.DEFINE_integer("population", None, "Clients that can be sampled.")
flags.DEFINE_list(
    "rows_per_client",
    None,
    "Rows of a client, for client_dpsgd; of several sizes, such as 20,100, the worst counts.",
)
flags.DEFINE_enum("format", "table", ["table", "json"], "How to print the answer.")
flags.DEFINE_string(
    "plot",
    None,
    "File for a figure (.png, .pdf or .svg): epsilon over rounds, noise over epsilon, and the "
    "error of each mechanism at equal epsilon.",
)
flags.DEFINE_bool("published", False, "Compare with published values instead; exit code 1 if not.")


def main(argv: list[str]) -> int:
    """Answers what the flags ask; imports what is slow only now."""
    del argv
    if FLAGS.published:
        return _compare_published()
    _refuse_foreign_flags()
    answer = _answer(_question())
    if FLAGS.format == "json":
        print(json.dumps(answer, indent=2, allow_nan=False))
        return 0
    from experiments.privacy_tables import print_answer

    print_answer(answer)
    return 0


def _compare_published() -> int:
    """Prints the table of published values; 1 if one is out of tolerance."""
    from experiments.privacy_tables import print_published
    from fl_research.privacy.published import check_published

    checks = check_published()
    print_published(checks)
    return 0 if all(check.passed for check in checks) else 1


def _answer(question: "Question") -> dict[str, Any]:
    """The answer; with --plot also its curves, which are drawn."""
    from experiments.privacy_tables import slow_steps
    from fl_research.privacy.planning import answer_to

    if FLAGS.plot is None:
        with slow_steps(1) as step:
            step("accounting")
            return answer_to(question)
    from fl_research.privacy.planning_curves import curves_of, steps_of
    from fl_research.reports.planning_plots import check_plot_file, draw_plan

    path = Path(FLAGS.plot)
    check_plot_file(path)
    with slow_steps(2 + steps_of(question)) as step:
        step("accounting")
        answer = answer_to(question)
        curves = curves_of(question, answer, step=step)
        step("drawing")
        draw_plan(path, answer, curves)
    return {**answer, "plot": str(path), "curves": curves}


def _question() -> "Question":
    """Reads the flags; population, delta and rounds have no default."""
    from fl_research.privacy.accounting import large_delta_warning
    from fl_research.privacy.planning import Question

    if FLAGS.delta is None:
        raise InputError("delta is not given; add --delta, well below 1 / number of clients")
    rows, client_update = _local_training()
    question = Question(
        sampling=_sampling(),
        delta=FLAGS.delta,
        rounds=FLAGS.rounds,
        noise_multiplier=FLAGS.noise_multiplier,
        target_epsilon=FLAGS.target_epsilon,
        mechanism=FLAGS.mechanism,
        parameters=selected_flags("mechanism"),
        client_update=client_update,
        client_rows=rows,
        cohort_known=FLAGS.population is not None,
    )
    if FLAGS.population and (warning := large_delta_warning(FLAGS.delta, FLAGS.population)):
        print(f"warning: {warning}", file=sys.stderr)
    return question


def _refuse_foreign_flags() -> None:
    """Raises InputError for a flag of a run that the plan does not depend on."""
    for flag in FLAGS.get_flags_for_module(experiment_flags):
        if flag.name not in _FROM_EXPERIMENTS and not flag.using_default_value:
            raise InputError(
                f"--{flag.name}={experiment_flags.as_typed(flag.value)} changes nothing in a "
                "plan; leave it out"
            )


def _local_training() -> "tuple[list[int], ClientUpdateConfig | None]":
    """The clients' rows and training, which only client_dpsgd asks for."""
    if FLAGS.mechanism != "client_dpsgd":
        for name in ("rows_per_client", *_LOCAL_TRAINING):
            if not FLAGS[name].using_default_value and FLAGS[name].value is not None:
                raise InputError(
                    f"--{name}={experiment_flags.as_typed(FLAGS[name].value)} belongs to "
                    f"--mechanism=client_dpsgd, but --mechanism={FLAGS.mechanism} is selected; "
                    "leave the flag out or select that mechanism"
                )
        return [], None
    from fl_research.learning.client_update_config import ClientUpdateConfig

    typed = FLAGS.rows_per_client or []
    if not typed or not all(size.strip().isdigit() and int(size) > 0 for size in typed):
        raise InputError(
            f"--rows_per_client={','.join(typed)} says no number of rows, which "
            "--mechanism=client_dpsgd is accounted from; give one, or several such as 20,100"
        )
    client_update = ClientUpdateConfig(
        local_epochs=FLAGS.local_epochs,
        local_steps=FLAGS.local_steps,
        batch_size=FLAGS.batch_size,
    )
    return [int(size) for size in typed], client_update


def _sampling() -> "ClientSampling":
    """The sampler; where only rates count, a population of 1 stands for any."""
    from fl_research.data.client_sampling import build_client_sampling

    population = FLAGS.population
    if population is None:
        by_rate = FLAGS.sampling == "poisson" and FLAGS.sampling_rate is not None
        if not by_rate and FLAGS.sampling != "full":
            raise InputError(
                f"population is not given, which --sampling={FLAGS.sampling} needs; add "
                "--population" + (" or --sampling_rate" if FLAGS.sampling == "poisson" else "")
            )
        population = 1
    return build_client_sampling(
        FLAGS.sampling,
        population=population,
        clients_per_round=FLAGS.clients_per_round,
        sampling_rate=FLAGS.sampling_rate,
        min_separation=FLAGS.min_separation,
        max_participations=FLAGS.max_participations,
    )


if __name__ == "__main__":
    run_binary(main)
