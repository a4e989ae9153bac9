"""What a report says of a search, and what it does not believe."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dp_accounting
import pytest
from dp_accounting import dp_event, rdp

from fl_research.privacy.ledger import Ledger, LedgerError, canonical_json
from fl_research.privacy.rounding import rounded_up
from fl_research.reports import selection
from tests.run import search_example
from tests.run.search_example import DELTA, ROUNDS

TRIAL = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(3.0), ROUNDS)

Records = list[dict[str, Any]]


def section_of(folder: Path) -> dict[str, Any]:
    found = selection.section(folder)
    assert found is not None
    return found


def exact_epsilon(event: dp_accounting.DpEvent) -> float:
    accountant = dp_accounting.pld.PLDAccountant()
    return float(accountant.compose(event).get_epsilon(DELTA))


def rewrite(folder: Path, change: Callable[[Records], None]) -> None:
    """Changes search.jsonl and puts all hashes right, as somebody who knows how would."""
    path = folder / "search.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    change(records)
    previous, lines = "0" * 64, []
    for index, record in enumerate(records):
        body = {**record, "index": index, "previous": previous}
        del body["hash"]
        previous = hashlib.sha256(canonical_json(body)).hexdigest()
        lines.append(canonical_json({**body, "hash": previous}).decode() + "\n")
    path.write_text("".join(lines))


def payload(records: Records, kind: str, position: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = [r["payload"] for r in records if r["kind"] == kind][position]
    return found


def test_the_winner_of_a_grid_states_the_cost_of_all_trials(tmp_path: Path) -> None:
    folder = search_example.whole(tmp_path, [0.6, 0.8, 0.7])[1]
    found = section_of(folder)
    assert found["chosen"] and found["kind"] == "grid" and found["trials"] == 3
    assert (found["mean"], found["shape"], found["distribution"]) == (None, None, None)
    assert found["metric_value"] == 0.8
    all_trials = dp_accounting.SelfComposedDpEvent(TRIAL, 3)
    assert found["epsilon"] == pytest.approx(exact_epsilon(all_trials), rel=1e-3)
    assert found["epsilon_of_run"] == pytest.approx(exact_epsilon(TRIAL), rel=1e-3)
    assert found["epsilon_of_costliest_trial"] == pytest.approx(found["epsilon_of_run"])
    assert (found["delta"], found["relation"]) == (DELTA, "add_or_remove_one")
    for number in (found["epsilon"], found["epsilon_of_run"]):
        assert f"ε = {rounded_up(number)}" in found["statement"]
    assert "best of 3 trials" in found["statement"]
    json.dumps(found, allow_nan=False)


def test_the_winner_of_a_random_search_keeps_the_number_secret(tmp_path: Path) -> None:
    folder = search_example.whole(tmp_path, [0.5, 0.5, 0.9, 0.5], mean=3.0)[2]
    found = section_of(folder)
    accountant = rdp.RdpAccountant()
    accountant.compose(dp_event.RepeatAndSelectDpEvent(TRIAL, 3.0, 1.0))
    assert found["epsilon"] == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-6)
    assert (found["kind"], found["trials"], found["failed_trials"]) == ("random", None, None)
    assert (found["mean"], found["shape"], found["distribution"]) == (3.0, 1.0, "geometric")
    assert any("Only this run is published" in text for text in found["conditions"])


def test_how_many_trials_a_random_search_had_changes_nothing(tmp_path: Path) -> None:
    sections = [
        section_of(search_example.whole(tmp_path / name, [*others, 0.9], mean=3.0)[-1])
        for name, others in (("few", [0.5, 0.6]), ("many", [0.5, 0.6] * 3))
    ]
    assert sections[0] == sections[1]


def test_other_trials_say_that_they_were_not_chosen(tmp_path: Path) -> None:
    folder = search_example.whole(tmp_path, [0.6, 0.8])[0]
    found = section_of(folder)
    assert set(found) == {"name", "chosen", "statement"}
    assert not found["chosen"] and found["name"] == search_example.NAME
    assert "has not chosen it" in found["statement"]


def test_a_run_of_no_search_has_no_section(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.jsonl") as ledger:
        ledger.append("plan", search_example.plan())
    assert selection.section(tmp_path) is None
    (tmp_path / "search.jsonl").touch()
    with pytest.raises(LedgerError, match="belongs to no search"):
        selection.section(tmp_path)


def test_a_search_without_noise_says_that_there_is_no_guarantee(tmp_path: Path) -> None:
    folder = search_example.whole(tmp_path, [0.6, 0.8], noise=1e-9)[1]
    found = section_of(folder)
    assert found["epsilon"] is None
    assert "no guarantee" in found["statement"]


def test_the_record_of_another_run_is_not_believed(tmp_path: Path) -> None:
    other, winner = search_example.whole(tmp_path, [0.6, 0.8])
    shutil.copy(winner / "search.jsonl", other)
    with pytest.raises(LedgerError, match="is not about this run"):
        selection.section(other)


def drop_a_trial(records: Records) -> None:
    """The third of three: from the plan of the search, its trials and its results."""
    payload(records, "search")["points"].pop()
    payload(records, "trials")["trials"].pop()
    records[:] = [r for r in records if r["payload"].get("run") != f"{search_example.NAME}-2"]


def drop_a_result(records: Records) -> None:
    records[:] = [
        r
        for r in records
        if r["kind"] != "trial_finished" or r["payload"]["run"] != f"{search_example.NAME}-2"
    ]


def make_a_trial_cheap(records: Records) -> None:
    payload(records, "trial_finished", 2)["events"][0]["event"]["noise_multiplier"] = 30.0


def name_one_trial_twice(records: Records) -> None:
    payload(records, "trials")["trials"][2] = payload(records, "trials")["trials"][1]


def take_another_delta(records: Records) -> None:
    payload(records, "chosen")["delta"] = 0.5


def take_a_better_metric(records: Records) -> None:
    payload(records, "chosen")["metric"] = 0.99


def take_other_settings(records: Records) -> None:
    payload(records, "chosen")["point"] = 0


@pytest.mark.parametrize(
    "change",
    [
        drop_a_trial,
        drop_a_result,
        make_a_trial_cheap,
        name_one_trial_twice,
        take_another_delta,
        take_a_better_metric,
        take_other_settings,
    ],
)
def test_a_grid_rewritten_with_right_hashes_is_noticed(
    tmp_path: Path, change: Callable[[Records], None]
) -> None:
    folder = search_example.whole(tmp_path, [0.6, 0.8, 0.7])[1]
    before = section_of(folder)
    rewrite(folder, lambda records: None)
    assert section_of(folder) == before
    rewrite(folder, change)
    with pytest.raises(LedgerError):
        selection.section(folder)


@pytest.mark.parametrize("field", ["mean", "shape", "points"])
def test_a_random_search_rewritten_with_right_hashes_is_noticed(tmp_path: Path, field: str) -> None:
    folder = search_example.whole(tmp_path, [0.5, 0.9], mean=3.0)[1]
    rewrite(folder, lambda records: None)
    assert math.isfinite(section_of(folder)["epsilon"])

    def change(records: Records) -> None:
        search = payload(records, "search")
        if field == "points":
            search["points"][0]["events"][0]["event"]["noise_multiplier"] = 30.0
        else:
            search[field] = {"mean": 1.0, "shape": 0.0}[field]

    rewrite(folder, change)
    with pytest.raises(LedgerError, match="is not about this run"):
        selection.section(folder)
