"""The secret seed of cohorts: random, kept, private to its owner, and bound to the ledger."""

import stat
from pathlib import Path

import pytest

from fl_research.errors import InputError
from fl_research.run import cohort_seed


def test_seed_is_new_for_a_run_and_the_same_for_its_next_session(tmp_path: Path) -> None:
    """128 random bits: two are equal with probability 2**-128."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    seed = cohort_seed.secret_seed(tmp_path / "a", expected_sha256=None)
    digest = cohort_seed.sha256(seed)
    assert cohort_seed.secret_seed(tmp_path / "a", expected_sha256=digest) == seed
    assert cohort_seed.secret_seed(tmp_path / "b", expected_sha256=None) != seed
    mode = (tmp_path / "a" / cohort_seed.FILE_NAME).stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_lost_or_changed_seed_stops_a_run_that_has_begun(tmp_path: Path) -> None:
    """A half-written file before the ledger is begun is made anew; after that it is an error."""
    path = tmp_path / cohort_seed.FILE_NAME
    path.write_text("")
    digest = cohort_seed.sha256(cohort_seed.secret_seed(tmp_path, expected_sha256=None))
    path.write_text("00ff\n")
    with pytest.raises(InputError, match=r"cohort_seed\.secret is not the secret seed"):
        cohort_seed.secret_seed(tmp_path, expected_sha256=digest)
    path.unlink()
    with pytest.raises(InputError, match=r"restore the file, or start anew"):
        cohort_seed.secret_seed(tmp_path, expected_sha256=digest)
    assert cohort_seed.read_secret_seed(tmp_path) is None
