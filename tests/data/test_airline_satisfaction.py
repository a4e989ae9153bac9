"""The airline survey's schema on a fixture with the quirks of the published file."""

from pathlib import Path

import numpy as np
import pytest

from fl_research.data.datasets import airline_satisfaction
from fl_research.data.public_files import SHARED_DATA
from fl_research.data.schema import encode
from fl_research.errors import InputError

_HEADER = (
    ",id,Gender,Customer Type,Age,Type of Travel,Class,Flight Distance,"
    + ",".join(airline_satisfaction.RATED)
    + ",Departure Delay in Minutes,Arrival Delay in Minutes,satisfaction"
)
_ROWS = (
    "0,70,Female,Loyal Customer,50,Business travel,Eco,5000,"
    "0,1,2,3,4,5,1,2,3,4,5,1,2,3,37,,satisfied",
    "1,12,Male,disloyal Customer,7,Personal Travel,Eco Plus,31,"
    "1,1,1,1,1,1,1,1,1,1,1,1,1,1,0,1500,neutral or dissatisfied",
)


def _file(folder: Path, *rows: str) -> str:
    path = folder / "test.csv"
    path.write_text("\n".join((_HEADER, *rows)) + "\n", encoding="utf-8")
    return str(path)


def test_quirks_are_read(tmp_path: Path) -> None:
    """Nameless first column, rating 0 as a value, blank delay, delay beyond a day."""
    loaded = airline_satisfaction.load(path=_file(tmp_path, *_ROWS))
    assert loaded.schema is not None
    encoded = encode(loaded.records, loaded.schema)
    assert encoded.inputs.shape == (2, 97)
    assert encoded.labels.tolist() == [1, 0]
    assert list(map(str, encoded.client_ids)) == ["70", "12"]
    assert encoded.cleaning == {
        "rows read": 2,
        "Arrival Delay in Minutes: missing -> 0.0": 1,
        "Arrival Delay in Minutes: out of bounds -> clipped": 1,
        "rows kept": 2,
    }
    column = {name: encoded.inputs[:, i] for i, name in enumerate(encoded.feature_names)}
    assert column["Inflight wifi service=0"].tolist() == [1, 0]
    assert column["Inflight wifi service=1"].tolist() == [0, 1]
    assert column["Age"][0] == 0 and column["Flight Distance"][0] == 0
    assert column["Arrival Delay in Minutes"].tolist() == [-1, 1]
    # Every rating is one input of six.
    rated = [name for name in encoded.feature_names if name[-2:] in {f"={r}" for r in range(6)}]
    assert len(rated) == 14 * 6
    assert sum(column[name] for name in rated).tolist() == [14, 14]
    assert "not that of a known copy" in loaded.notes[0]


def test_an_unknown_rating_is_refused(tmp_path: Path) -> None:
    wrong = _ROWS[1].replace(",31,1,", ",31,6,")
    loaded = airline_satisfaction.load(path=_file(tmp_path, _ROWS[0], wrong))
    assert loaded.schema is not None
    with pytest.raises(InputError, match="'Inflight wifi service', row 2.*'6' is not one of 0, 1"):
        encode(loaded.records, loaded.schema)


@pytest.mark.skipif(
    not (SHARED_DATA / "airline_satisfaction").is_dir(), reason="the survey is not here"
)
def test_the_published_file_is_encoded_without_loss() -> None:
    loaded = airline_satisfaction.load()
    assert loaded.schema is not None
    encoded = encode(loaded.records, loaded.schema)
    assert encoded.cleaning == {
        "rows read": 25_976,
        "Arrival Delay in Minutes: missing -> 0.0": 83,
        "rows kept": 25_976,
    }
    assert int(encoded.labels.sum()) == 11_403
    assert encoded.client_ids is not None
    assert len(np.unique(encoded.client_ids)) == 25_976
