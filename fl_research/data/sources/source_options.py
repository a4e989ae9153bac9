"""What a user says of a source: its options, and its address as it may be printed or recorded."""

import codecs
import dataclasses
import re
from urllib.parse import unquote

from fl_research.argument_checks import require_at_least
from fl_research.errors import InputError

_HTTP_SCHEMES = ("http", "https")
_SECRET_PARAMETER = re.compile(
    r"(?i)([?&;][^=&;#]*(?:pass|pwd|key|token|secret|signature|sig|credential|auth)[^=&;#]*=)[^&;#]*"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How the records at an address are read; an option that does not apply there is refused.

    Attributes:
      delimiter: Separator of the cells of delimited text, one ASCII character (a backslash and a
        t count as a tab); None: by the file's name (.csv a comma, .tsv a tab).
      header: Whether the first row of delimited text holds the column names. Without it they are
        `columns`, or column_0, column_1, ...
      encoding: Text encoding of delimited text and JSON.
      columns: With a header (and for all other formats): the columns to keep, in this order.
        Without: the names of all columns.
      query: The SQL query whose result is read (SQL addresses only; needed there).
      bearer_token_env: NAME of the environment variable that holds the bearer token of an HTTP
        API. The token itself is never printed nor kept.
      json_path: Dotted path to the list of records inside a JSON document, such as `data.items`.
      skip_rows: Lines of delimited text to leave out before the header, or before the first
        record where there is no header.

    Raises:
      InputError: A value is not possible.
    """

    delimiter: str | None = None
    header: bool = True
    encoding: str = "utf-8"
    columns: tuple[str, ...] | None = None
    query: str | None = None
    bearer_token_env: str | None = None
    json_path: str | None = None
    skip_rows: int = 0

    def __post_init__(self) -> None:
        """Checks each option by itself."""
        if self.delimiter is not None:
            delimiter = "\t" if self.delimiter == "\\t" else self.delimiter
            if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
                raise InputError(
                    f"delimiter={self.delimiter!r} cannot separate cells; give one ASCII character "
                    "that is neither a quote nor a line end, such as --delimiter=';'"
                )
            object.__setattr__(self, "delimiter", delimiter)
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise InputError(
                f"encoding={self.encoding!r} is not known to Python; give one such as "
                "--encoding=utf-8, latin-1 or cp1252"
            ) from None
        if self.columns is not None:
            if isinstance(self.columns, str):
                raise InputError(f"columns={self.columns!r} is one text; give a list of names")
            object.__setattr__(self, "columns", tuple(self.columns))
            twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
            if not self.columns or twice:
                raise InputError(
                    f"columns={self.columns!r} is empty or repeats a name; give each name once"
                )
        require_at_least("skip_rows", self.skip_rows, 0)

    def refuse_unless_applicable(self, applicable: set[str], where: str) -> None:
        """Refuses options that were set but mean nothing at this kind of source.

        Args:
          applicable: Names of the options that mean something there.
          where: The kind of source in words, for the message.

        Raises:
          InputError: An option outside `applicable` differs from its default.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in applicable and value != field.default:
                raise InputError(
                    f"{field.name}={value!r} does not apply to {where}; leave it out "
                    f"(there are: {', '.join(sorted(applicable))})"
                )


def redact(address: str) -> str:
    """The address with every password, key and token in it replaced by ***; safe to record.

    Covers the login before an @ and query parameters whose name speaks of a secret. In a database
    address the user's name stays, and all between its colon and the last @ counts as password, so
    that a password with unescaped characters is covered too.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    login = _login(scheme, rest)
    if scheme.lower() in _HTTP_SCHEMES and login:
        rest = "***" + rest[len(login) :]
    elif ":" in login:
        rest = login.partition(":")[0] + ":***" + rest[len(login) :]
    return scheme + separator + _SECRET_PARAMETER.sub("\\1***", rest)


def secrets_of(address: str) -> list[str]:
    """The secret parts that `redact` hides, longest first, to clean a driver's message of them."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return []
    found = {match.group(0).partition("=")[2] for match in _SECRET_PARAMETER.finditer(rest)}
    login = _login(scheme, rest)
    found.add(login if scheme.lower() in _HTTP_SCHEMES else login.partition(":")[2])
    found |= {unquote(secret) for secret in found}
    return sorted(filter(None, found), key=len, reverse=True)


def _login(scheme: str, rest: str) -> str:
    """What stands before the @ that ends the login, "" where there is none."""
    if scheme.lower() in _HTTP_SCHEMES:  # An @ in the path belongs to no login.
        rest = re.split("[/?#]", rest, maxsplit=1)[0]
    return rest.rpartition("@")[0]
