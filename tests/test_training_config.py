"""When rounds are evaluated: what the user said, else as often as a tenth of the time allows."""

from typing import Any

import pytest

from fl_research.training_config import EVALUATION_SECONDS, TrainingConfig

ROUNDS = 1000


def _config(**changed: Any) -> TrainingConfig:
    settings = {
        "rounds": ROUNDS,
        "seed": 0,
        "num_blocks": 1,
        "evaluate_every": None,
        "early_finish_patience": 0,
    }
    return TrainingConfig(**(settings | changed))


def _run(
    config: TrainingConfig,
    *,
    round_seconds: float,
    evaluation_seconds: float,
    first_evaluation: float | None = None,
) -> list[dict[str, Any]]:
    """The rows of a run in which rounds and evaluations take so long."""
    rows: list[dict[str, Any]] = []
    evaluations = 0
    for number in range(1, config.rounds + 1):
        row: dict[str, Any] = {"round": number, "seconds": round_seconds}
        if config.is_evaluation_due(row, rows):
            first = evaluations == 0 and first_evaluation is not None
            row[EVALUATION_SECONDS] = first_evaluation if first else evaluation_seconds
            evaluations += 1
        else:
            row[EVALUATION_SECONDS] = None  # A blank cell, as it is read back.
        rows.append(row)
    return rows


def _evaluated(rows: list[dict[str, Any]]) -> list[int]:
    return [row["round"] for row in rows if row[EVALUATION_SECONDS]]


def _share(rows: list[dict[str, Any]]) -> float:
    """Evaluation seconds over training seconds."""
    spent = sum(row[EVALUATION_SECONDS] or 0 for row in rows)
    return spent / sum(row["seconds"] for row in rows)


def test_cheap_evaluations_come_every_tenth_round() -> None:
    rows = _run(_config(), round_seconds=1.0, evaluation_seconds=0.3)
    assert _evaluated(rows) == list(range(10, 1001, 10))


@pytest.mark.parametrize("evaluation_seconds", [1.0, 1.5, 5.0, 30.0])
@pytest.mark.parametrize("first_evaluation", [None, 20.0])
def test_no_more_than_a_tenth_of_the_training_time(
    evaluation_seconds: float, first_evaluation: float | None
) -> None:
    """The last round's included; and no less than half of what would be allowed."""
    rows = _run(
        _config(),
        round_seconds=1.0,
        evaluation_seconds=evaluation_seconds,
        first_evaluation=first_evaluation,
    )
    assert _evaluated(rows)[0] == 10 and _evaluated(rows)[-1] == ROUNDS
    assert 0.05 < _share(rows) <= 0.1
    assert all(number % 10 == 0 for number in _evaluated(rows))


def test_an_evaluation_that_never_pays_comes_first_and_last_only() -> None:
    """Its cost must be measured once, and the last round is always evaluated."""
    assert _evaluated(_run(_config(), round_seconds=0.1, evaluation_seconds=60.0)) == [10, ROUNDS]
    short = _run(_config(rounds=7), round_seconds=0.1, evaluation_seconds=60.0)
    assert _evaluated(short) == [7]


def test_a_resumed_run_goes_on_as_the_uninterrupted_one() -> None:
    """The decision follows from the rows alone."""
    rows = _run(_config(), round_seconds=1.0, evaluation_seconds=3.0)
    config = _config()
    for number in (9, 10, 420, 999, 1000):
        row = {name: rows[number - 1][name] for name in ("round", "seconds")}
        due = config.is_evaluation_due(row, rows[: number - 1])
        assert due == bool(rows[number - 1][EVALUATION_SECONDS])


@pytest.mark.parametrize(
    ("settings", "expected", "words"),
    [
        ({"evaluate_every": 300}, [300, 600, 900, 1000], "every 300 rounds"),
        ({"evaluate_every": 1, "rounds": 3}, [1, 2, 3], "every 1 rounds"),
        (
            {"early_finish_patience": 2, "rounds": 35},
            [10, 20, 30, 35],
            "every 10 rounds",
        ),
    ],
)
def test_what_the_user_decides_is_kept_whatever_it_takes(
    settings: dict[str, int], expected: list[int], words: str
) -> None:
    """Where evaluations decide when training ends, their rounds must not depend on a clock."""
    rows = _run(_config(**settings), round_seconds=0.01, evaluation_seconds=60.0)
    assert _evaluated(rows) == expected
    assert _config(**settings).evaluation_schedule == words


def test_the_schedule_in_words_names_the_limit() -> None:
    words = _config().evaluation_schedule
    assert words.startswith("every 10 rounds, less often where") and "a tenth" in words
