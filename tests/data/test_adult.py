"""The reader of UCI Adult, on a small copy with all quirks of the official files."""

from pathlib import Path

import pytest

from fl_research.data.datasets import adult
from fl_research.data.public_files import SHARED_DATA
from fl_research.data.schema import encode
from fl_research.errors import InputError

_TRAIN = b"""\
39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, United-States, <=50K
54, ?, 180211, Some-college, 10, Married-civ-spouse, ?, Husband, Asian-Pac-Islander, Male, 0, 0, 60, South, >50K
32, Private, 186824, HS-grad, 9, Never-married, Machine-op-inspct, Unmarried, White, Male, 0, 0, 40, ?, <=50K

"""  # noqa: E501
_TEST = b"""\
|1x3 Cross validator
25, Private, 226802, 11th, 7, Never-married, Machine-op-inspct, Own-child, Black, Male, 0, 0, 40, United-States, <=50K.
90, Private, 51744, Masters, 14, Never-married, Exec-managerial, Not-in-family, Black, Female, 99999, 0, 50, Outlying-US(Guam-USVI-etc), >50K.

"""  # noqa: E501


def _folder(tmp_path: Path, train: bytes = _TRAIN, test: bytes = _TEST) -> str:
    (tmp_path / "adult.data").write_bytes(train)
    (tmp_path / "adult.test").write_bytes(test)
    return str(tmp_path)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_quirks_of_the_official_files(tmp_path: Path, line_end: bytes) -> None:
    folder = _folder(tmp_path, *(f.replace(b"\n", line_end) for f in (_TRAIN, _TEST)))
    loaded = adult.load(path=folder)
    records = loaded.records
    assert loaded.split_column == "split"
    assert records["split"].tolist() == ["train"] * 3 + ["test"] * 2
    assert records["income"].tolist() == ["<=50K", ">50K", "<=50K", "<=50K", ">50K"]
    assert records["workclass"].tolist()[:2] == ["State-gov", "unknown"]
    assert records["department"].tolist()[1] == records["occupation"].tolist()[1] == "unknown"
    assert loaded.cleaning == {
        "workclass: ? -> unknown": 1,
        "occupation: ? -> unknown": 1,
        "native-country: ? -> unknown": 1,
    }
    assert "not that of a known copy" in " ".join(loaded.notes)


def test_encodes_by_the_public_schema(tmp_path: Path) -> None:
    loaded = adult.load(path=_folder(tmp_path))
    encoded = encode(loaded.records.drop(columns="split"), loaded.schema)
    assert encoded.inputs.shape == (5, 107)
    assert encoded.labels.tolist() == [0, 1, 0, 0, 1]
    names = list(encoded.feature_names)
    assert "fnlwgt" not in names and "split" not in names and "department" not in names
    assert encoded.inputs[4, names.index("age")] == 1.0  # 90 is the upper bound
    assert encoded.inputs[4, names.index("capital-gain")] == 1.0
    assert encoded.inputs[3, names.index("capital-gain")] == -1.0
    assert encoded.inputs[1, names.index("occupation=unknown")] == 1.0
    assert encoded.client_ids.tolist()[:2] == ["Adm-clerical", "unknown"]


def test_label_is_no_feature(tmp_path: Path) -> None:
    """Rows that differ in the label only have equal inputs."""
    line = _TRAIN.splitlines()[0]
    train = line + b"\n" + line.replace(b"<=50K", b">50K") + b"\n"
    loaded = adult.load(path=_folder(tmp_path, train=train))
    encoded = encode(loaded.records.drop(columns="split"), loaded.schema)
    assert encoded.labels.tolist()[:2] == [0, 1]
    assert (encoded.inputs[0] == encoded.inputs[1]).all()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (b"", "adult.data holds no record"),
        (b"|only a comment\n", "adult.data holds no record"),
        (b"39, State-gov, 77516\n", "3 columns and no header, but columns names 15"),
    ],
)
def test_wrong_files(tmp_path: Path, train: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        adult.load(path=_folder(tmp_path, train=train))


def test_one_file_is_not_enough(tmp_path: Path) -> None:
    (tmp_path / "adult.data").write_bytes(_TRAIN)
    with pytest.raises(InputError, match="give the one that holds adult.data, adult.test"):
        adult.load(path=str(tmp_path / "adult.data"))


def test_unknown_occupation_is_refused(tmp_path: Path) -> None:
    loaded = adult.load(path=_folder(tmp_path, train=_TRAIN.replace(b"Adm-clerical", b"Pirate")))
    with pytest.raises(InputError, match="column 'occupation', row 1.*'Pirate'"):
        encode(loaded.records.drop(columns="split"), loaded.schema)


@pytest.mark.skipif(
    not (SHARED_DATA / "adult" / "adult.data").exists(), reason="the official files are not here"
)
def test_official_files() -> None:
    """Sizes and shares as adult.names states them."""
    loaded = adult.load()
    encoded = encode(loaded.records.drop(columns="split"), loaded.schema)
    assert loaded.notes == ()
    assert loaded.records["split"].value_counts().to_dict() == {"train": 32_561, "test": 16_281}
    assert encoded.labels.mean() == pytest.approx(0.2393, abs=5e-5)
    assert set(encoded.cleaning) == {
        "rows read",
        "rows kept",
        "capital-gain: out of bounds -> clipped",
    }
