"""Banking77: files with the quirks of the published ones, and the real ones where they are."""

import json
from pathlib import Path

import pytest

from fl_research.data import public_files
from fl_research.data.datasets import registry as datasets
from fl_research.errors import InputError

_TRAIN = (
    b'text,category\r\nWhere is it?,card_arrival\r\n"Is it lost, or\n\nnot?",card_arrival\r\n'
    b'"She said ""no""",refund\r\n'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """CRLF, quoted newlines, commas and quotes."""
    (tmp_path / "train.csv").write_bytes(_TRAIN)
    (tmp_path / "test.csv").write_bytes(b"text,category\r\nMoney back?,refund\r\n")
    (tmp_path / "categories.json").write_text(json.dumps(["card_arrival", "refund"]))
    return tmp_path


def test_the_official_split_and_the_public_list_are_kept(folder: Path) -> None:
    loaded = datasets.load("banking77", path=str(folder))
    records = loaded.records
    assert records["text"].tolist() == [
        "Where is it?",
        "Is it lost, or\n\nnot?",
        'She said "no"',
        "Money back?",
    ]
    assert loaded.split_column == "split"
    assert records["split"].tolist() == ["train"] * 3 + ["test"]
    assert loaded.facts["classes"] == ["card_arrival", "refund"]
    assert len(loaded.notes) == 3  # other checksums than the published ones


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train.csv", b"question,intent\na,b\n", "has the columns question, intent"),
        ("categories.json", b"[1]", "is no list of names"),
        ("categories.json", b"{", "is not JSON"),
    ],
)
def test_other_files_are_refused(folder: Path, name: str, content: bytes, words: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        datasets.load("banking77", path=str(folder))


@pytest.mark.skipif(
    not (public_files.SHARED_DATA / "banking77").is_dir(),
    reason="the real files are not in ../shared/data",
)
def test_the_published_files_are_read_whole() -> None:
    loaded = datasets.load("banking77")
    assert loaded.records["split"].value_counts().to_dict() == {"train": 10_003, "test": 3_080}
    assert sorted(loaded.facts["classes"]) == sorted(set(loaded.records["category"]))
    tested = loaded.records[loaded.records["split"] == "test"]
    assert set(tested["category"].value_counts()) == {40}
    assert loaded.notes == ()
