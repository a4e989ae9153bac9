"""Published epsilons come out within the tolerance of each row."""

import csv
import dataclasses

import pytest

from fl_research.data.client_sampling import PoissonSampling
from fl_research.privacy import published
from fl_research.privacy.published import PublishedCheck, check_published


@pytest.fixture(scope="module")
def checks() -> dict[str, PublishedCheck]:
    """Every row of the table, computed once."""
    return {check.id: check for check in check_published()}


def test_every_row_is_computed_or_says_what_it_needs(checks: dict[str, PublishedCheck]) -> None:
    with published.PATH.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(checks) == [row["id"] for row in rows] and len(checks) == 20
    assert [check.id for check in checks.values() if check.ours is None] == [
        "dpftrl_stackoverflow",
        "gboard_tree_eses",
        "gboard_mf_eses",
    ]
    assert checks["gboard_mf_eses"].status == "needs matrix mechanism (later)"


def test_published_values_come_out(checks: dict[str, PublishedCheck]) -> None:
    computed = [check for check in checks.values() if check.ours is not None]
    assert len(computed) == 17
    assert [check.id for check in computed if not check.passed] == []
    assert {check.status for check in computed} == {"ok"}


def test_the_tutorials_cohort_is_the_smallest(checks: dict[str, PublishedCheck]) -> None:
    """Every smaller cohort from 20 on is above the target, not only the one before."""
    assert checks["tff_tutorial"].ours == 120
    with published.PATH.open(encoding="utf-8", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["id"] == "tff_tutorial")
    for cohort in (20, 50, 100, 110, 118, 119):
        sampling = PoissonSampling(population=3383, sampling_rate=cohort / 3383)
        epsilon = published._epsilon(row, sampling, 0.01 * cohort)
        assert epsilon is not None and epsilon > 2


def test_a_wrong_value_does_not_pass(checks: dict[str, PublishedCheck]) -> None:
    check = checks["tfp_test0"]
    wrong = dataclasses.replace(check, published=check.published * (1 + 1.1 * 0.002))
    assert check.passed and not wrong.passed and wrong.status == "OUT OF TOLERANCE"
    assert not dataclasses.replace(checks["tff_tutorial"], ours=119.0).passed
