"""MovieLens 100k: 100,000 ratings, 1 to 5, of 1,682 films by 943 people.

The terms forbid to redistribute the data, so it is never downloaded here: the user fetches it and
gives its path. `u.data` is tab-separated without a header: user, item, rating, and the time in
seconds since 1970.

Harper and Konstan 2015, "The MovieLens Datasets: History and Context".
"""

from pathlib import Path

import pandas as pd

from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.sources import checksum, redact
from fl_research.data.sources.delimited_text import parse_delimited
from fl_research.data.sources.source_options import SourceOptions
from fl_research.errors import InputError

ORIGIN = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
SHA256 = "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"
COLUMNS = ("user", "item", "rating", "time")
_FILE = "u.data"


def load(*, path: str | None = None, seed: int = 0) -> LoadedRecords:
    """Returns the ratings: `COLUMNS`, user and item texts, time datetime64.

    Args:
      path: `u.data`, or the folder ml-100k that holds it.
      seed: Not used.

    Raises:
      InputError: There is no path, no such file, or it is not what was published.
    """
    del seed
    if path is None:
        raise InputError(
            "dataset='movielens_100k' may not be passed on by its terms; get "
            f"{ORIGIN} (md5 0e33842e24a9c977be4e0107933c0723), unpack it and give the folder "
            "ml-100k as --data=PATH"
        )
    where = Path(path).expanduser()
    if where.is_dir():
        where /= _FILE
    try:
        content = where.read_bytes()
    except OSError as error:
        raise InputError(
            f"data={redact(path)}: {where.name} cannot be read ({error.strerror}); give the folder "
            "ml-100k, or its file u.data"
        ) from None
    sha256 = str(checksum(str(where)))
    notes: tuple[str, ...] = ()
    if sha256 != SHA256:
        notes = (
            f"data={redact(path)} has sha256 {sha256}, which is not that of the known copy of "
            f"movielens_100k ({SHA256}); it is used as it is",
        )
    options = SourceOptions(header=False, columns=COLUMNS)
    records = parse_delimited(content, "\t", str(where), options)
    seconds = pd.to_numeric(records["time"], errors="coerce")
    if seconds.isna().any():
        bad = records["time"][seconds.isna()].iloc[0]
        raise InputError(
            f"{where}: the fourth column has {bad!r} where seconds since 1970 belong; give u.data "
            "as published"
        )
    return LoadedRecords(
        records=records.assign(time=pd.to_datetime(seconds, unit="s")),
        schema=None,
        source=redact(path),
        sha256=sha256,
        terms="GroupLens, University of Minnesota: research use only, no redistribution",
        notes=notes,
    )
