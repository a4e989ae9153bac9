"""A real PostgreSQL server for tests: a new one in a temporary folder, on a free loopback port."""

import contextlib
import dataclasses
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

# A password with every character that an address must escape.
USER, PASSWORD = "tester", "s3cr/t@:x#y"
_START_SECONDS = 30


@dataclasses.dataclass(frozen=True)
class Server:
    """A running server."""

    port: int

    def address(self, *, password: str = PASSWORD, database: str = "postgres") -> str:
        """Its address, the password escaped."""
        return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"


def find_programs() -> Path | None:
    """The folder with initdb and postgres: on the path, or where Debian keeps them."""
    on_path = shutil.which("initdb")
    folders = [os.path.dirname(os.path.realpath(on_path))] if on_path else []
    folders += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    for folder in map(Path, folders):
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    return None


@contextlib.contextmanager
def running_server(programs: Path) -> Iterator[Server]:
    """Makes a database cluster, starts its server, and stops and removes both at the end."""
    folder = Path(tempfile.mkdtemp(prefix="fl_research_postgresql_", dir="/tmp"))
    run_as = _other_user() if os.geteuid() == 0 else {}  # A server refuses to run as root.
    process = None
    try:
        password_file = folder / "password"
        password_file.write_text(PASSWORD + "\n")
        if run_as:
            for path in (folder, password_file):
                shutil.chown(path, run_as["user"], run_as["group"])
        data = folder / "data"
        subprocess.run(
            [
                *(programs / "initdb", "-D", data, "-U", USER, "-E", "UTF8", "--locale=C"),
                *("--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            **run_as,
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(programs / "postgres", "-D", data, "-F", "-p", str(port), "-k", folder),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "max_connections=10"),
                ],
                stdout=log,
                stderr=log,
                cwd=folder,
                **run_as,
            )
        _wait_until_ready(process, port, folder / "log")
        yield Server(port)
    finally:
        if process is not None:
            process.send_signal(2)  # SIGINT: close connections and stop.
            try:
                process.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _other_user() -> dict:
    """Arguments of subprocess that give up root: the package's user, else nobody."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("as root, a PostgreSQL server needs a user postgres or nobody")


def _wait_until_ready(process: subprocess.Popen, port: int, log: Path) -> None:
    """Returns when the server lets one log in."""
    from adbc_driver_manager import Error
    from adbc_driver_postgresql import dbapi

    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            dbapi.connect(Server(port).address()).close()
            return
        except Error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from None
            time.sleep(0.05)
