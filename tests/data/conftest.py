"""Fixtures of the data tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data import postgresql

_DEVELOPMENT_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    """A real PostgreSQL server; the tests that want it skip where none is installed."""
    programs = postgresql.find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server on this machine: apt-get install postgresql")
    with postgresql.running_server(programs) as server:
        yield server


@pytest.fixture(scope="session")
def development_data() -> Path:
    """The folder of real development data; the tests that want it skip where it is not."""
    if not _DEVELOPMENT_DATA.is_dir():
        pytest.skip(f"no development data beside the repository ({_DEVELOPMENT_DATA})")
    return _DEVELOPMENT_DATA
