"""The preparation of texts: training and scoring encode alike; what has no text is left out."""

import json

import numpy as np
import pandas as pd
import pytest

from fl_research.data.hashed_text import HashedText, encode_texts
from fl_research.data.preparation import text
from fl_research.errors import InputError

SETTINGS = HashedText(buckets=300, char_ngrams=(3,), max_features=12)


def test_scoring_encodes_as_training() -> None:
    records = pd.DataFrame({"question": ["Where is it?", None, "  ", "12", "a" * 40]})
    rows = text.encode_column(records, "question", SETTINGS)
    np.testing.assert_array_equal(rows.kept, [True, False, False, True, True])
    np.testing.assert_array_equal(
        rows.ids, encode_texts(["Where is it?", "12", "a" * 40], SETTINGS).ids
    )
    assert rows.cleaning == {
        "records without a text left out": 2,
        "texts with more than 12 features cut short": 2,
    }
    settings = json.loads(json.dumps(text.settings_of("question", SETTINGS)))
    assert settings["kind"] == "text"
    prepared = text.prepare(records, settings)
    np.testing.assert_array_equal(prepared.features["ids"], rows.ids)
    assert list(prepared.ids) == [0, 3, 4]
    assert prepared.dropped == {"records without a text left out": 2}


def test_numbers_are_read_as_they_are_written() -> None:
    typed = pd.DataFrame({"t": pd.Series([12, None, "x"], dtype=object)})
    rows = text.encode_column(typed, "t", SETTINGS)
    np.testing.assert_array_equal(rows.ids, encode_texts(["12", "x"], SETTINGS).ids)


@pytest.mark.parametrize(
    ("column", "words"),
    [("txt", "text_column='txt' is no column.*text"), ("text", "none of the 2 records has a text")],
)
def test_wrong_columns_are_refused(column: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        text.encode_column(pd.DataFrame({"text": [None, " "]}), column, SETTINGS)
