"""The seed that cohorts are drawn from: secret, unless the run is to be repeated to the bit.

Amplification by sampling rests on nobody knowing who was in which cohort. A seed on the command
line ends up in flag files and reports, so cohorts are drawn from a seed of 128 random bits that
stays in the run's folder, readable by its owner alone; the ledger holds its SHA-256, which shows
that it is the one that ran. With a noise seed the run gives its secrets away by intent, and cohorts
come from `--seed`.
"""

import hashlib
import secrets
from pathlib import Path

from fl_research.errors import InputError
from fl_research.run.durable_files import write_atomically
from fl_research.run.run_directory import COHORT_SEED as FILE_NAME

_BITS = 128


def secret_seed(folder: Path, *, expected_sha256: str | None) -> int:
    """Returns the folder's secret seed, made new where the run has not begun.

    Args:
      folder: The run's folder.
      expected_sha256: What the run's ledger says, None before the ledger is begun.

    Raises:
      InputError: The ledger was begun with a seed that is not here.
    """
    path = folder / FILE_NAME
    if expected_sha256 is None and read_secret_seed(folder) is None:
        text = f"{secrets.randbits(_BITS):0{_BITS // 4}x}\n"
        write_atomically(path, text, mode=0o600)
    seed = read_secret_seed(folder)
    if seed is None or (expected_sha256 is not None and sha256(seed) != expected_sha256):
        raise InputError(
            f"{path} is not the secret seed that this run's cohorts were drawn from; restore the "
            "file, or start anew with another --run_name"
        )
    return seed


def read_secret_seed(folder: Path) -> int | None:
    """Returns the folder's secret seed; None where it was taken out or cannot be read."""
    try:
        return int((folder / FILE_NAME).read_text(encoding="ascii"), 16)
    except (OSError, ValueError):
        return None


def sha256(seed: int) -> str:
    """Returns the digest of a secret seed that a ledger may show."""
    return hashlib.sha256(f"cohort seed {seed:x}".encode()).hexdigest()
