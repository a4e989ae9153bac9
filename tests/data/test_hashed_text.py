"""Hashed text: the published hash, features by hand, no vocabulary, collisions, wrong input."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from fl_research.data import hashed_text
from fl_research.data.hashed_text import HashedText, encode_texts
from fl_research.errors import InputError

FROZEN = [2597, 219, 2920, 851, 1231, 408, 1480, 2482]
WORDS = HashedText(buckets=1 << 20, word_ngrams=1, char_ngrams=())
PAIRS = HashedText(buckets=1 << 20, word_ngrams=2, char_ngrams=())


def _ids(text: str, settings: HashedText) -> list[int]:
    """The ids of one text, without the padding."""
    (row,) = encode_texts([text], settings).ids
    return [int(i) for i in row if i]


@pytest.mark.parametrize(
    ("text", "published"),
    [("", 0xCBF29CE484222325), ("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)],
)
def test_the_hash_is_the_published_one(text: str, published: int) -> None:
    """The 64-bit FNV-1a test vectors of its authors."""
    points = np.array([ord(c) for c in "--" + text], np.uint64)
    found = hashed_text.fnv1a(points, np.array([2]), np.array([len(text)]), 0)
    assert found.dtype == np.uint64 and int(found[0]) == published


def _slow_id(parts: list[str], kind: int, buckets: int, *, words: bool) -> int:
    """The id of one feature in plain Python whole numbers, as the module's words have it."""
    mask = (1 << 64) - 1

    def fnv(values: list[int], start: int) -> int:
        for value in values:
            start = ((start ^ value) * hashed_text.FNV_PRIME) & mask
        return start

    offset = hashed_text.FNV_OFFSET
    values = [fnv([ord(c) for c in p], offset) for p in parts] if words else [*map(ord, parts)]
    x = fnv(values, offset ^ kind)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return (x ^ (x >> 31)) % buckets + 1


@pytest.mark.parametrize("text", ["My card's lost!", "  ÜBER\tüber ", "ﬁne №5", "a", "?!", "🙂 ok"])
def test_features_are_those_that_the_words_say(text: str) -> None:
    """Against a slow reading of the documentation, on texts among other texts."""
    settings = HashedText(buckets=997, word_ngrams=2, char_ngrams=(1, 3), max_features=64)
    plain = hashed_text.normalise(text)
    words = hashed_text._WORD.findall(plain)
    padded = f" {plain} "
    expected = [_slow_id([w], 1, 997, words=True) for w in words]
    expected += [_slow_id(list(p), 2, 997, words=True) for p in itertools.pairwise(words)]
    for n in (1, 3):
        runs = [padded[i : i + n] for i in range(len(padded) - n + 1)]
        expected += [_slow_id(list(run), 8 + n, 997, words=False) for run in runs]
    encoded = encode_texts(["before it", "", text, "", "after it"], settings)
    assert [int(i) for i in encoded.ids[2] if i] == expected
    assert encoded.features[2] == len(expected)
    assert encoded.ids.dtype == np.int32 and encoded.ids.max() <= 997
    np.testing.assert_array_equal(encoded.ids[4], encode_texts(["after it"], settings).ids[0])


def test_ids_are_the_same_on_every_machine() -> None:
    """Frozen numbers: a saved model would silently be wrong if they changed."""
    assert _ids("Where is my card?", HashedText(char_ngrams=(4,)))[:8] == FROZEN
    program = (
        "from fl_research.data.hashed_text import *\n"
        "ids = encode_texts(['Where is my card?'], HashedText(char_ngrams=(4,))).ids\n"
        "print(ids[0, :8].tolist())"
    )
    for hash_seed in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed, "PATH": ""},
        )
        assert result.stdout.strip() == str(FROZEN)


def test_case_form_and_white_space_do_not_matter() -> None:
    settings = HashedText()
    same = ["\uff37here is  my ﬁle", "where\tis my\r\nfile ", "WHERE IS MY FILE"]
    first, *others = encode_texts(same, settings).ids
    for other in others:
        np.testing.assert_array_equal(first, other)
    assert hashed_text.normalise("İ") == hashed_text.normalise(hashed_text.normalise("İ"))


def test_a_typo_keeps_most_runs_of_characters_and_no_word() -> None:
    right, wrong = "international", "internatoinal"
    assert not set(_ids(right, WORDS)) & set(_ids(wrong, WORDS))
    runs = HashedText(buckets=1 << 20, word_ngrams=0, char_ngrams=(4,))
    assert len(set(_ids(right, runs)) & set(_ids(wrong, runs))) >= 6


def test_pairs_know_the_order_of_words() -> None:
    assert set(_ids("card lost", WORDS)) == set(_ids("lost card", WORDS))
    assert set(_ids("card lost", PAIRS)) != set(_ids("lost card", PAIRS))


def test_only_max_features_are_kept_words_first() -> None:
    full = HashedText(word_ngrams=2, char_ngrams=(3,), max_features=100)
    short = HashedText(word_ngrams=2, char_ngrams=(3,), max_features=5)
    texts = ["one two three four", "five"]
    wide, narrow = encode_texts(texts, full), encode_texts(texts, short)
    np.testing.assert_array_equal(wide.ids[:, :5], narrow.ids)
    np.testing.assert_array_equal(wide.features, narrow.features)
    assert (wide.num_truncated, narrow.num_truncated) == (0, 1 + (narrow.features[1] > 5))


def test_texts_without_features_get_no_ids() -> None:
    encoded = encode_texts(["", " \n", "?!", "ok"], WORDS)
    np.testing.assert_array_equal(encoded.features, [0, 0, 0, 1])
    assert not encoded.ids[:3].any()
    assert encode_texts([], WORDS).ids.shape == (0, WORDS.max_features)
    assert encode_texts(["?!"], HashedText()).features[0] == 1  # " ?! " is a run of four


def test_many_texts_are_encoded_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also across the pieces that are encoded at once."""
    monkeypatch.setattr(hashed_text, "_TEXTS_AT_ONCE", 3)
    texts = [f"text {i} " * (i % 4) for i in range(10)]
    together = encode_texts(texts, HashedText())
    for row, text in zip(together.ids, texts, strict=True):
        np.testing.assert_array_equal(row, encode_texts([text], HashedText()).ids[0])


@pytest.mark.parametrize("buckets", [1024, 4096, 5000])
def test_collisions_are_as_rare_as_those_of_random_ids(buckets: int) -> None:
    """6,000 similar words: used ids within five standard deviations, low digits uniform too."""
    words = [f"word{i}" for i in range(6000)]
    settings = HashedText(buckets=buckets, word_ngrams=1, char_ngrams=())
    ids = encode_texts(words, settings).ids[:, 0] - 1
    load = len(words) / buckets
    empty = np.exp(-load)
    variance = buckets * empty * (1 - (1 + load) * empty)  # of the classical occupancy problem
    assert len(set(ids)) == pytest.approx(buckets * (1 - empty), abs=5 * np.sqrt(variance) + 2)
    counts = np.bincount(ids % 16, minlength=16)
    expected = len(words) * np.bincount(np.arange(buckets) % 16) / buckets
    assert np.sum((counts - expected) ** 2 / expected) < 50  # chi-square of 15; 1e-5 by chance


def test_settings_survive_json() -> None:
    settings = HashedText(buckets=512, word_ngrams=1, char_ngrams=(2, 5), max_features=9)
    assert HashedText(**settings.to_dict()) == settings
    assert isinstance(settings.to_dict()["char_ngrams"], list)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"buckets": 1}, "buckets=1"),
        ({"buckets": 1 << 30}, "buckets=1073741824 is too many"),
        ({"word_ngrams": -1}, "word_ngrams=-1"),
        ({"word_ngrams": 9}, "word_ngrams=9.*up to 8"),
        ({"char_ngrams": (0,)}, "char_ngrams=0"),
        ({"char_ngrams": (3, 3)}, "names a length twice"),
        ({"word_ngrams": 0, "char_ngrams": ()}, "leaves no features"),
        ({"max_features": 0}, "max_features=0"),
    ],
)
def test_wrong_settings_are_refused(setting: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        HashedText(**setting)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match=r"texts\[1\]=3.5 is not a text"):
        encode_texts(["a", 3.5], HashedText())  # type: ignore[list-item]
