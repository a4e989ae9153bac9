"""Published epsilons come out within the tolerance of each row."""

import csv
import dataclasses
import math
from pathlib import Path

import pytest

from fl_research.errors import InputError
from fl_research.privacy import accounting, published
from fl_research.privacy.published import PublishedCheck, check_published


@pytest.fixture(scope="module")
def checks() -> dict[str, PublishedCheck]:
    """Every row of the table, computed once."""
    return {check.id: check for check in check_published()}


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, str]]:
    """The table itself."""
    with published.PATH.open(encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_every_published_value_comes_out(
    checks: dict[str, PublishedCheck], rows: dict[str, dict[str, str]]
) -> None:
    assert list(checks) == list(rows) and len(checks) == 20
    assert [check.id for check in checks.values() if not check.passed] == []
    assert {check.status for check in checks.values()} == {"ok"}
    assert all(math.isfinite(check.ours) and check.ours > 0 for check in checks.values())


def test_the_tutorials_cohort_is_the_smallest(
    checks: dict[str, PublishedCheck], rows: dict[str, dict[str, str]]
) -> None:
    """Every smaller cohort from 20 on is above the target, not only the one before."""
    assert checks["tff_tutorial"].ours == 120
    for cohort in (20, 50, 100, 110, 118, 119):
        assert published.epsilon_of_cohort(rows["tff_tutorial"], cohort) > 2


@pytest.mark.parametrize(
    ("row", "squared", "rho", "digits"),
    [
        ("dpftrl_stackoverflow", 11, 11 / (2 * 1.13**2), 1e-12),
        ("gboard_tree_eses", 79, 0.81, 0.005 / 0.81),  # Published with two digits.
        ("gboard_mf_eses", 0.6, 0.1506840301548885, 1e-12),
    ],
)
def test_correlated_noise_has_the_published_sensitivity_and_zcdp(
    rows: dict[str, dict[str, str]], row: str, squared: float, rho: float, digits: float
) -> None:
    assert published.squared_sensitivity_of(rows[row]) == squared
    assert accounting.zcdp_rho(published.event_of(rows[row])) == pytest.approx(rho, rel=digits)


def test_only_the_deployed_matrix_brings_its_sensitivity(rows: dict[str, dict[str, str]]) -> None:
    assert [id for id, row in rows.items() if row["squared_sensitivity"]] == ["gboard_mf_eses"]
    correlated = [id for id, row in rows.items() if row["max_participations"]]
    assert correlated == ["dpftrl_stackoverflow", "gboard_tree_eses", "gboard_mf_eses"]
    assert {rows[id]["relation"] for id in correlated} == {"zero_out"}


def test_a_wrong_value_does_not_pass(checks: dict[str, PublishedCheck]) -> None:
    check = checks["tfp_test0"]
    wrong = dataclasses.replace(check, published=check.published * (1 + 1.1 * 0.002))
    assert check.passed and not wrong.passed and wrong.status == "OUT OF TOLERANCE"
    assert not dataclasses.replace(checks["tff_tutorial"], ours=119.0).passed


def test_an_accountant_that_does_not_apply_is_named(
    rows: dict[str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses of a sampled release with an epsilon above 500 are not computed."""
    row = rows["tfp_example_sampled"] | {"noise_multiplier": "0.01"}
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)
    monkeypatch.setattr(published, "PATH", tmp_path / "rows.csv")
    with pytest.raises(InputError, match="accountant='pld' of the published row tfp_example_sam"):
        check_published()
