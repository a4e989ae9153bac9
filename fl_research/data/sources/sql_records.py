"""The result of an SQL query on SQLite or PostgreSQL as a pandas.DataFrame.

Both are only read: SQLite is opened read-only, and nothing that a query does in PostgreSQL is
committed. PostgreSQL answers over Arrow (ADBC), so a million records come without a Python object
for each. The drivers are used without pandas.read_sql between them and the table: it turns whole
numbers next to a null into floats, which changes large client ids.
"""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd

from fl_research.data.column_names import check_distinct
from fl_research.data.sources import column_types
from fl_research.data.sources.source_options import redact, secrets_of
from fl_research.errors import InputError

_CONNECT_SECONDS = 10


def read_sqlite(address: str, query: str) -> pd.DataFrame:
    """Runs a query on an SQLite file.

    Args:
      address: `sqlite:///relative/path.db` or `sqlite:////absolute/path.db`.
      query: One SELECT statement.

    Raises:
      InputError: No such file, not a database, or the query fails or gives no columns.
    """
    path = Path(address.removeprefix("sqlite:///")).expanduser()
    if not address.startswith("sqlite:///") or not path.is_file():
        raise InputError(
            f"address={address} is no SQLite file; give sqlite:///relative/path.db or "
            "sqlite:////absolute/path.db"
        )
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as connection:
            cursor = connection.execute(query)
            names = [column[0] for column in cursor.description or ()]
            _check_columns(names, address)
            return column_types.from_python(cursor.fetchall(), names)
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _query_failed(address, str(error)) from None


def read_postgresql(address: str, query: str) -> pd.DataFrame:
    """Runs a query on a PostgreSQL server.

    The address goes to libpq, so its parameters (`?sslmode=require`), PGPASSWORD and ~/.pgpass
    work. NUMERIC becomes numbers; MONEY comes in its smallest unit (cast it in the query).

    Args:
      address: `postgresql://user:password@host:port/database`.
      query: One SELECT statement.

    Raises:
      InputError: Not reachable, login refused, or the query fails or gives no columns. No message
        holds the password.
    """
    import adbc_driver_manager
    from adbc_driver_postgresql import dbapi

    try:
        with dbapi.connect(_checked_postgresql_address(address)) as connection:
            with connection.cursor() as cursor:
                cursor.execute(query)
                table = cursor.fetch_arrow_table()
    except adbc_driver_manager.Error as error:
        raise _query_failed(address, str(error)) from None
    _check_columns(table.column_names, address)
    return column_types.from_arrow(table)


READERS: dict[str, Callable[[str, str], pd.DataFrame]] = {
    "sqlite": read_sqlite,
    "postgresql": read_postgresql,
    "postgres": read_postgresql,
}


def _checked_postgresql_address(address: str) -> str:
    """The address with a limit on connecting; refuses what libpq would quote parts of.

    An unescaped / or @ or : in the password makes libpq complain of a port that is the rest of the
    password.
    """
    try:
        parts = urlsplit(address)
        well_formed = parts.port != 0 and parts.netloc.count("@") <= 1
    except ValueError:  # The port is not a number.
        well_formed = False
    if not well_formed or "#" in address or "@" in parts.path + parts.query:
        raise InputError(
            f"address={redact(address)} is not a PostgreSQL address; give "
            "postgresql://user:password@host:port/database, in the password %40 for @, %2F for /, "
            "%3A for :, %23 for # (or leave it out and set PGPASSWORD)"
        )
    if "connect_timeout=" in parts.query:
        return address
    return f"{address}{'&' if parts.query else '?'}connect_timeout={_CONNECT_SECONDS}"


def _check_columns(names: list[str], address: str) -> None:
    """Refuses a result without columns, or with two of one name."""
    if not names:
        raise InputError(f"query on {redact(address)} gives no records; give a SELECT statement")
    check_distinct(names, f"the result of the query on {redact(address)}")


def _query_failed(address: str, message: str) -> InputError:
    """The driver's message on one line, without any secret of the address."""
    for secret in secrets_of(address):
        message = message.replace(secret, "***")
    message = " ".join(message.partition("Query was:")[0].split())
    return InputError(f"reading {redact(address)} failed ({message}); fix the address or the query")
