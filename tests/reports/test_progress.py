"""What is shown while rounds run, where there is no terminal."""

import io

from rich.console import Console

from fl_research.reports.progress import TerminalProgress


def test_evaluated_rounds_are_lines_and_epsilon_is_never_rounded_down() -> None:
    output = io.StringIO()
    with TerminalProgress(20, "auc", Console(file=output)) as progress:
        progress.round_done({"round": 9, "train_loss": 0.5})
        progress.round_done({"round": 10, "validation_auc": 0.81, "epsilon": 1.00004})
        assert list(progress.steps("baseline", 3)) == [1, 2, 3]
        progress.note("a [line]")
    assert output.getvalue().splitlines() == [
        "round 10/20  loss 0.5000  auc 0.8100  epsilon 1.001",
        "a [line]",
    ]
