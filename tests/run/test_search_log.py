"""The log of a search against runs that are dropped, edited, lost, failed, or not planned."""

import json
import shutil
from pathlib import Path

import dp_accounting
import pytest

from fl_research.errors import InputError
from fl_research.privacy.ledger import Ledger, LedgerError, payloads, read_ledger
from fl_research.privacy.search_spending import search_spending
from fl_research.run import search_log
from tests.run import search_example
from tests.run.search_example import NAME, ROUNDS


def log_of(output_dir: Path) -> Path:
    return search_log.log_path(output_dir, NAME)


def gaussian_epsilon(noise_multiplier: float, times: int) -> float:
    """By the library, of the equivalent one Gaussian: the exact trade-off."""
    accountant = dp_accounting.pld.PLDAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(noise_multiplier / times**0.5))
    return float(accountant.get_epsilon(search_example.DELTA))


def test_the_best_trial_is_chosen_and_the_cost_is_that_of_all(tmp_path: Path) -> None:
    folders = search_example.whole(tmp_path, [0.6, 0.8, 0.7])
    assert search_log.choose(tmp_path, NAME) == folders[1].name
    assert [(folder / "search.jsonl").exists() for folder in folders] == [False, True, False]
    assert (folders[1] / "search.jsonl").read_bytes() == log_of(tmp_path).read_bytes()
    spent = search_spending(read_ledger(folders[1] / "search.jsonl"))
    assert spent.epsilon == pytest.approx(gaussian_epsilon(3.0, 3 * ROUNDS), rel=1e-3)
    assert spent.costliest_epsilon == pytest.approx(gaussian_epsilon(3.0, ROUNDS), rel=1e-3)


def test_log_and_ledger_name_each_other(tmp_path: Path) -> None:
    """Each run's plan holds the hash of its entry; only its owner can read the log."""
    folders = search_example.whole(tmp_path, [0.6, 0.8])
    started = {
        e.payload["run"]: e.hash
        for e in read_ledger(log_of(tmp_path))
        if "run" in e.payload and e.kind == "trial_started"
    }
    for folder in folders:
        plan = payloads(read_ledger(folder / "ledger.jsonl"), "plan")[0]
        assert plan["search"]["log_head"] == started[folder.name]
    assert log_of(tmp_path).stat().st_mode & 0o077 == 0


def test_a_resumed_run_keeps_its_entry(tmp_path: Path) -> None:
    (name,) = search_example.begin(tmp_path, search_example.search([3.0]))
    search_example.start(tmp_path / name, rounds=[1, 2])
    before = log_of(tmp_path).read_bytes()
    search_example.start(tmp_path / name, rounds=[3, 4])
    assert log_of(tmp_path).read_bytes() == before
    search_example.end(tmp_path / name, 0.7)
    assert search_log.choose(tmp_path, NAME) == name


def test_nothing_is_chosen_while_a_trial_is_not_counted(tmp_path: Path) -> None:
    """Neither one that released something nor one that was never started may be left out."""
    first, second = search_example.begin(tmp_path, search_example.search([3.0, 3.0]))
    search_example.start(tmp_path / first)
    search_example.end(tmp_path / first, 0.7)
    with pytest.raises(InputError, match=f"trial {second} is not counted yet"):
        search_log.choose(tmp_path, NAME)
    search_example.start(tmp_path / second, rounds=[1])
    with pytest.raises(InputError, match=f"trial {second} is not counted yet"):
        search_log.choose(tmp_path, NAME)


@pytest.mark.parametrize("status", [search_log.FAILED, search_log.LOST])
def test_failed_and_deleted_trials_count_with_all_planned_rounds(
    tmp_path: Path, status: str
) -> None:
    first, second = search_example.begin(tmp_path, search_example.search([3.0, 3.0]))
    search_example.start(tmp_path / first)
    search_example.end(tmp_path / first, 0.7)
    search_example.start(tmp_path / second, rounds=[1])
    if status == search_log.LOST:
        shutil.rmtree(tmp_path / second)
    search_log.finish(tmp_path, NAME, second, status=status)
    assert search_log.choose(tmp_path, NAME) == first
    spent = search_spending(read_ledger(tmp_path / first / "search.jsonl"))
    assert spent.epsilon == pytest.approx(gaussian_epsilon(3.0, 2 * ROUNDS), rel=1e-3)


def test_a_round_that_was_released_twice_counts_twice(tmp_path: Path) -> None:
    first, second = search_example.begin(tmp_path, search_example.search([3.0, 3.0]))
    for name, rounds in ((first, [1, 2, 3, 4]), (second, [1, 2, 2, 3, 4])):
        search_example.start(tmp_path / name, rounds=rounds)
        search_example.end(tmp_path / name, 0.7)
    search_log.choose(tmp_path, NAME)
    spent = search_spending(read_ledger(tmp_path / first / "search.jsonl"))
    assert spent.epsilon == pytest.approx(gaussian_epsilon(3.0, 2 * ROUNDS + 1), rel=1e-3)


def test_without_any_metric_nothing_is_chosen(tmp_path: Path) -> None:
    (name,) = search_example.begin(tmp_path, search_example.search([3.0]))
    search_example.start(tmp_path / name)
    search_example.end(tmp_path / name, None)
    assert search_log.choose(tmp_path, NAME) is None


@pytest.mark.parametrize("line", range(6))
@pytest.mark.parametrize("change", ["drop", "edit", "swap"])
def test_a_changed_log_is_noticed(tmp_path: Path, change: str, line: int) -> None:
    """Two trials: search, trials, then started and finished of each, chosen."""
    search_example.whole(tmp_path, [0.6, 0.8])
    path = log_of(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 7
    if change == "drop":
        del lines[line]
    elif change == "edit":
        lines[line] = lines[line].replace(b'"run"', b'"ran"').replace(b'"grid"', b'"GRID"')
    else:
        lines[line], lines[line + 1] = lines[line + 1], lines[line]
    path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerError):
        search_log.choose(tmp_path, NAME)


@pytest.mark.parametrize("kept", [2, 3, 4, 5])
def test_a_log_that_was_cut_off_is_noticed(tmp_path: Path, kept: int) -> None:
    """Its runs' folders name entries that are gone, or a planned trial is no longer counted."""
    search_example.whole(tmp_path, [0.6, 0.8])
    path = log_of(tmp_path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:kept]))
    error, message = (LedgerError, "lacks the run") if kept < 5 else (InputError, "not counted")
    with pytest.raises(error, match=message):
        search_log.choose(tmp_path, NAME)


def test_a_log_of_another_beginning_is_noticed(tmp_path: Path) -> None:
    """The log is made anew with fewer trials, and one of the old folders is kept."""
    search_example.whole(tmp_path, [0.6, 0.8])
    log_of(tmp_path).unlink()
    with pytest.raises(LedgerError, match="lacks the run|no entry"):
        search_example.begin(tmp_path, search_example.search([3.0]))
        search_example.start(tmp_path / f"{NAME}-0", rounds=[])
    with pytest.raises(LedgerError, match="lacks the run"):
        search_log.choose(tmp_path, NAME)


def test_a_ledger_that_released_more_after_it_was_counted_is_noticed(tmp_path: Path) -> None:
    folder = search_example.whole(tmp_path, [0.6, 0.8])[0]
    with Ledger.open(folder / "ledger.jsonl") as ledger:
        ledger.append("note", {"later": "releases nothing"})
    assert search_log.choose(tmp_path, NAME)
    with Ledger.open(folder / "ledger.jsonl") as ledger:
        ledger.append("release", {"round": 5, "event": search_example.release(3.0)})
    with pytest.raises(LedgerError, match="is not the ledger that"):
        search_log.choose(tmp_path, NAME)


def test_runs_that_the_search_does_not_know_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / f"{NAME}-0"
    with pytest.raises(InputError, match="there is no .*lr.search.jsonl"):
        search_example.start(folder)
    search_example.begin(tmp_path, search_example.search([3.0]))
    with pytest.raises(InputError, match="plans no run other"):
        search_example.start(tmp_path / "other")
    with pytest.raises(InputError, match="another cost than the search planned"):
        search_example.start(folder, 2.9)
    with pytest.raises(InputError, match="leave --noise_seed out"):
        seeded = search_example.plan() | {"seeds": {"noise": "from --noise_seed"}}
        search_log.register(NAME, folder, (), seeded)
    with pytest.raises(InputError, match="another delta than"):
        search_log.register(NAME, folder, (), search_example.plan() | {"delta": 1e-3})
    assert not payloads(read_ledger(log_of(tmp_path)), "trial_started")


def test_a_started_run_without_its_ledger_is_refused(tmp_path: Path) -> None:
    """It may have released something: a second start would hide that."""
    (name,) = search_example.begin(tmp_path, search_example.search([3.0]))
    search_example.start(tmp_path / name, rounds=[1])
    (tmp_path / name / "ledger.jsonl").unlink()
    with pytest.raises(InputError, match="was started before, but its ledger.jsonl is gone"):
        search_example.start(tmp_path / name)


def test_a_counted_run_cannot_go_on(tmp_path: Path) -> None:
    (name,) = search_example.begin(tmp_path, search_example.search([3.0]))
    search_example.start(tmp_path / name, rounds=[1])
    search_example.end(tmp_path / name, None, search_log.FAILED)
    with pytest.raises(InputError, match="cannot go on"):
        search_example.start(tmp_path / name, rounds=[2])


def test_another_search_of_the_same_name_is_refused(tmp_path: Path) -> None:
    search_example.begin(tmp_path, search_example.search([3.0]))
    with pytest.raises(InputError, match="was begun with kind=grid, now it is random"):
        search_example.begin(tmp_path, search_example.search([3.0], mean=4.0))


def test_the_excerpt_tells_nothing_of_how_many_trials_there_were(tmp_path: Path) -> None:
    """Of one trial and of five, the chosen folder's record says the same but for the winner."""
    excerpts = []
    for count in (1, 5):
        folders = search_example.whole(tmp_path / str(count), [0.5] * (count - 1) + [0.9], mean=3.0)
        text = (folders[-1] / "search.jsonl").read_text()
        assert not any(folder.name in text for folder in folders[:-1])
        first, second = map(json.loads, text.splitlines())
        chosen = second["payload"]
        for hidden in ("entry", "ledger_head"):
            assert len(chosen.pop(hidden)) == 64
        chosen.pop("run")
        chosen.pop("point")
        excerpts.append((first, chosen, first["time"], second["time"]))
    assert excerpts[0] == excerpts[1]
    assert excerpts[0][2:] == ("withheld", "withheld")


def test_hashes_of_a_random_search_cannot_be_guessed(tmp_path: Path) -> None:
    """Every entry that is never shown holds 128 random bits, so that its hash tells nothing."""
    search_example.whole(tmp_path, [0.5, 0.9], mean=3.0)
    hidden = [e for e in read_ledger(log_of(tmp_path)) if e.kind not in ("search", "chosen")]
    assert len({entry.payload["random"] for entry in hidden}) == len(hidden) == 5
    assert all(len(entry.payload["random"]) == 32 for entry in hidden)
