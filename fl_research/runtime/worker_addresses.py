"""Addresses of workers on other machines, as they are typed; without anything slow to import."""

from collections.abc import Sequence

from fl_research.errors import InputError

BLOCKS_PER_WORKER = 2
"""Blocks a worker gets where nothing is said: how many cores it has is not known here."""

DEFAULT_TIMEOUT_SECONDS = 3600.0
"""Longest time of one call, a round's work included, to a worker that answers but is never done."""

_LAST_PORT = 65535


def checked_addresses(addresses: Sequence[str]) -> tuple[str, ...]:
    """Returns addresses of workers, each `host:port`, or `[address]:port` for IPv6.

    Args:
      addresses: As typed, in the order in which the workers get the blocks.

    Raises:
      InputError: There is none, or one is no such address, or is there twice.
    """
    typed = ",".join(addresses)
    stripped = tuple(address.strip() for address in addresses)
    if not any(stripped):
        raise InputError(
            "--workers= names no worker; give host:port,host:port,… or leave the flag out"
        )
    for address in stripped:
        host, colon, port = address.rpartition(":")
        is_port = port.isascii() and port.isdigit() and 1 <= int(port) <= _LAST_PORT
        bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
        if not (host and colon and is_port) or bare_ipv6 or any(c in host for c in "/ \t"):
            raise InputError(
                f"--workers={typed}: {address!r} is no address of a worker; write host:port with a "
                f"port from 1 to {_LAST_PORT}, such as 192.0.2.7:8470"
            )
        if stripped.count(address) > 1:
            raise InputError(f"--workers={typed}: {address} is there twice; name each worker once")
    return stripped


def checked_timeout(seconds: float) -> float:
    """Returns the longest time of a call in seconds.

    Raises:
      InputError: It is not above 0, or is no number.
    """
    if not 0 < seconds < float("inf"):
        raise InputError(
            f"--worker_timeout_seconds={seconds:g} must be a number above 0; take more than the "
            "longest round needs"
        )
    return seconds
