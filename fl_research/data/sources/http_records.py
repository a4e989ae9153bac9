"""Records behind an HTTP(S) address: the same formats as files, and JSON from an API with a token.

The token comes from an environment variable and is never printed. It goes to the address's own host
only: on a redirect to another one it is left out.
"""

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pandas as pd

from fl_research.data.sources import record_formats
from fl_research.data.sources.source_options import SourceOptions, redact
from fl_research.errors import InputError

if TYPE_CHECKING:
    import requests

# Seconds to connect, and between two pieces of the answer.
_TIMEOUTS = (10.0, 60.0)


def read_http(address: str, options: SourceOptions) -> pd.DataFrame:
    """Fetches and reads one document; its format by the path's suffix, else by the content type.

    Raises:
      InputError: Not reachable, refused, not found, or not in a known format.
    """
    import requests

    where = redact(address)
    authorization = _BearerToken(options.bearer_token_env) if options.bearer_token_env else None
    try:
        response = requests.get(address, auth=authorization, timeout=_TIMEOUTS)
    except requests.Timeout:
        raise InputError(f"{where} did not answer in {_TIMEOUTS[1]:g} s; try again later") from None
    except requests.ConnectionError as error:
        raise InputError(
            f"{where} cannot be reached ({_cause(error)}); check the host, the port and the network"
        ) from None
    except requests.RequestException as error:
        raise InputError(
            f"{where} cannot be fetched ({type(error).__name__}); check the address"
        ) from None
    _refuse_status(response.status_code, where, options)
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    record_format = _format(urlsplit(address).path, content_type, where, options)
    options.refuse_unless_applicable(
        record_formats.OPTIONS_OF_FORMAT[record_format] | {"bearer_token_env"},
        f"{where}, which is {record_format}",
    )
    return record_formats.parse(response.content, record_format, where, options)


class _BearerToken:
    """Puts the token into a request; given as `auth`, so that no .netrc entry replaces it."""

    def __init__(self, variable: str) -> None:
        """Reads the token from the environment variable."""
        self._token = os.environ.get(variable, "").strip()
        if not self._token:
            raise InputError(
                f"bearer_token_env={variable!r} is no environment variable, or a blank one; "
                f"set it to the token (export {variable}=...)"
            )
        if not self._token.isascii() or not self._token.isprintable() or " " in self._token:
            raise InputError(
                f"bearer_token_env={variable!r} holds blanks or other characters that no token "
                "has; set it to the token alone"
            )

    def __call__(self, request: "requests.PreparedRequest") -> "requests.PreparedRequest":
        """Adds the header."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _refuse_status(status: int, where: str, options: SourceOptions) -> None:
    """An error for every answer that is not a success."""
    if status < 300:
        return
    if status in (401, 403):
        token = options.bearer_token_env
        way_out = (
            f"check the token in ${token}, which is not sent on to another host"
            if token
            else "name the environment variable with the token in bearer_token_env"
        )
        raise InputError(f"{where} refuses access (HTTP {status}); {way_out}")
    if status == 404:
        raise InputError(f"{where} is not there (HTTP 404); check the address")
    way_out = "try again later" if status == 429 or status >= 500 else "check the address"
    raise InputError(f"{where} answered with HTTP {status}; {way_out}")


def _format(path: str, content_type: str, where: str, options: SourceOptions) -> str:
    """The format by suffix, then content type, then a delimiter that was given."""
    if content_type in ("text/html", "application/xhtml+xml"):
        raise InputError(
            f"{where} answered with a web page (text/html), not records; give the address of the "
            "data themselves"
        )
    by_suffix = record_formats.format_of(path, SourceOptions())
    found = by_suffix or record_formats.FORMAT_BY_CONTENT_TYPE.get(content_type)
    found = found or record_formats.format_of(path, options)
    if found is None:
        raise InputError(
            f"{where} has content type {content_type or 'none'!r} and no suffix that tells the "
            f"format; give a path with one of {', '.join(record_formats.FORMAT_BY_SUFFIX)}, or the "
            "--delimiter of delimited text"
        )
    return found


def _cause(error: BaseException) -> str:
    """The innermost reason of a failed connection, without the address that may hold secrets."""
    text = str(error)
    for sign, meaning in (
        ("Connection refused", "connection refused"),
        ("NameResolution", "unknown host"),
        ("timed out", "it stopped answering"),
        ("certificate", "its certificate is not trusted"),
        ("SSL", "no secure connection"),
    ):
        if sign in text:
            return meaning
    return type(error).__name__
