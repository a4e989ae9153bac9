"""Searches for good settings with privacy, and says what the search itself costs.

Every point of a grid is run once, and choosing the best costs as much as all of them:

    python -m experiments.search_hyperparameters --binary=churn_prevention --search=clip \\
        --grid="client_learning_rate=0.1,0.5;clip_norm=0.5,1" -- --noise_multiplier=4

or a secret random number of trials is drawn from the grid, which costs about twice one trial:

    ... --trials_mean=8 --trials_shape=1 -- --noise_multiplier=4

Flags of the runs stand after `--`, also --flagfile. The best run by its last validation metric is
chosen, and its report states epsilon of the selection, for the training clients. The same command
goes on with an interrupted search. After a random number of trials publish the chosen run only:
the log, the other runs and their number must stay secret.
"""

import contextlib
import functools
import sys

from absl import flags

from experiments import data_flags, experiment_flags
from experiments.command_line import run_binary
from fl_research.errors import InputError

FLAGS = flags.FLAGS

del data_flags, experiment_flags  # Imported for what they declare.
_ALSO_OURS = ("search", "output_dir")
for name in _ALSO_OURS:
    flags.declare_key_flag(name)
flags.DEFINE_string("binary", "churn_prevention", "The experiment binary that runs each trial.")
flags.DEFINE_string(
    "grid", None, "Flags and their values, such as client_learning_rate=0.1,0.5;clip_norm=0.5,1."
)
flags.DEFINE_float(
    "trials_mean", None, "Mean of a random number of trials (without it every point is run once)."
)
flags.DEFINE_float(
    "trials_shape",
    None,
    "Its distribution: 1 is geometric, 0 logarithmic, inf Poisson (default: 1).",
)
flags.DEFINE_bool(
    "skip_failed",
    False,
    "Count a trial that stopped with an error as failed, with all its rounds, and go on.",
)


def main(trial_arguments: list[str], argv: list[str]) -> None:
    """Runs the search that the flags describe, or goes on with it."""
    del argv
    _refuse_flags_of_trials()
    from experiments.search_run import Search, run_search  # Slow to import; --help needs none.

    run_search(
        Search.from_flags(
            binary=FLAGS.binary,
            name=FLAGS.search,
            grid=FLAGS.grid,
            trials_mean=FLAGS.trials_mean,
            trials_shape=FLAGS.trials_shape,
            output_dir=FLAGS.output_dir,
            arguments=trial_arguments,
        ),
        skip_failed=FLAGS.skip_failed,
    )


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Returns what is before and what is after the first `--`."""
    with contextlib.suppress(ValueError):
        end = arguments.index("--")
        return arguments[:end], arguments[end + 1 :]
    return arguments, []


def _refuse_flags_of_trials() -> None:
    """Raises if a flag of the runs was given where it would have no effect."""
    for module in ("experiments.experiment_flags", "experiments.data_flags"):
        for flag in FLAGS.get_key_flags_for_module(module):
            if flag.present and flag.name not in _ALSO_OURS:
                raise InputError(f"--{flag.name} is a flag of the trials; write it after --")


if __name__ == "__main__":
    sys.argv, after = split_arguments(sys.argv)
    run_binary(functools.partial(main, after))
