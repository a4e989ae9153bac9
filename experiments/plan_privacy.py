"""Plans the privacy of a run without training: epsilon, the noise for a target, the rounds left.

    python -m experiments.plan_privacy --population=10000 --clients_per_round=100 --rounds=1000 \\
        --noise_multiplier=1 --delta=1e-5                      what does this cost?
    ... --rounds=1000 --target_epsilon=2                       how much noise does this need?
    ... --noise_multiplier=1 --target_epsilon=2                how many rounds fit?
    ... --rounds=400 --noise_multiplier=1 --target_epsilon=2   how many are left after 400?
    python -m experiments.plan_privacy --published             does this give published values?

A noise multiplier is the standard deviation of the noise on the sum of the clients' updates
divided by the clip norm. The claim is the smaller of the bounds "pld" and "rdp".
"""

import json
import sys
from typing import TYPE_CHECKING

from absl import flags

from experiments import privacy_flags
from experiments.command_line import run_binary
from fl_research.errors import InputError

if TYPE_CHECKING:
    from fl_research.data.client_sampling import ClientSampling
    from fl_research.privacy.planning import Question

FLAGS = flags.FLAGS

flags.adopt_module_key_flags(privacy_flags)
flags.DEFINE_integer("population", None, "Clients that can be sampled.")
flags.DEFINE_enum("format", "table", ["table", "json"], "How to print the answer.")
flags.DEFINE_bool("published", False, "Compare with published values instead; exit code 1 if not.")


def main(argv: list[str]) -> int:
    """Answers what the flags ask; imports what is slow only now."""
    del argv
    if FLAGS.published:
        return _compare_published()
    from fl_research.privacy.planning import answer_to

    answer = answer_to(_question())
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


def _question() -> "Question":
    """Reads the flags; population, delta and rounds have no default."""
    from fl_research.privacy.accounting import large_delta_warning
    from fl_research.privacy.planning import Question

    if FLAGS.delta is None:
        raise InputError("delta is not given; add --delta, well below 1 / number of clients")
    question = Question(
        sampling=_sampling(),
        delta=FLAGS.delta,
        rounds=FLAGS.rounds,
        noise_multiplier=FLAGS.noise_multiplier,
        target_epsilon=FLAGS.target_epsilon,
    )
    if FLAGS.population and (warning := large_delta_warning(FLAGS.delta, FLAGS.population)):
        print(f"warning: {warning}", file=sys.stderr)
    return question


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
    )


if __name__ == "__main__":
    run_binary(main)
