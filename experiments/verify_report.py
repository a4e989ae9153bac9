"""Checks a run's report against its ledger and records, without TensorFlow.

    python -m experiments.verify_report --run=runs/churn_prevention

Recomputes ε from the ledger alone, builds report.json and report.md again and compares. Exit code 0
if everything agrees, 1 if anything does not (one line each), 2 if the folder or a file is missing.
"""

from pathlib import Path

from absl import flags

from experiments import run_flags
from experiments.command_line import run_binary
from fl_research.errors import InputError

FLAGS = flags.FLAGS

flags.adopt_module_key_flags(run_flags)


def main(argv: list[str]) -> int:
    """Prints a line for each check; returns the exit code."""
    del argv
    if not FLAGS.run:
        raise InputError("--run is not given; name the run's folder, as --run=FOLDER")
    # After the flags are read, so that --help answers at once.
    from fl_research.reports import verification, wording

    checks = verification.verify(Path(FLAGS.run))
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{'✗' if check.mismatches else '✓'} {check.name:<{width}}  {check.finding}")
    mismatches = [mismatch for check in checks for mismatch in check.mismatches]
    for mismatch in mismatches:
        print(mismatch)
    if mismatches:
        if all(check.name.startswith("report") for check in checks if check.mismatches):
            print("(a report of another version of this program may only be worded differently)")
        found = wording.count(len(mismatches), "mismatch", "mismatches")
        print(f"{FLAGS.run}: {found}; do not rely on this report")
        return 1
    print(f"{FLAGS.run}: the report agrees with the ledger and the records")
    return 0


if __name__ == "__main__":
    run_binary(main)
