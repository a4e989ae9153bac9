"""Fixtures that several test modules use."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def tff_runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A real local TFF runtime, one for the whole session, stopped at its end."""
    from fl_research import runtime

    log_path = tmp_path_factory.mktemp("runtime") / "worker.log"
    # pytest captures standard error itself, and would undo the redirection.
    with runtime.local_runtime(log_path=log_path, redirect_stderr=False):
        yield
