"""Texts as ids of hashed n-grams, without a vocabulary: nothing is learned from anybody's words.

A text is normalised (Unicode NFKC, lower case, runs of white space as one space). Its features are
its words and runs of neighbouring words, and runs of neighbouring characters, blanks and the ends
of the text included, which see through typos and endings. Each feature is hashed with a public
function into one of `buckets` ids, so that every client and every machine encodes alike and no
list of words has to be gathered. Two features may share an id; with enough buckets that costs
little.

The hash is FNV-1a of 64 bits over code points (over the hashes of the words, for runs of words),
each kind of feature from a start of its own, mixed once by the end of splitmix64 so that the lower
digits depend on all.

Papers: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning"; Bojanowski et
al. 2017, "Enriching Word Vectors with Subword Information".
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fl_research.argument_checks import require_at_least
from fl_research.data.mixed_bits import mixed
from fl_research.errors import InputError

FNV_OFFSET = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3

_LARGEST_NGRAM = 8
_MAX_BUCKETS = 1 << 24
_WORD = re.compile(r"\w+")
_END = "\n"  # No text holds it: white space is one blank.
_TEXTS_AT_ONCE = 5000


@dataclasses.dataclass(frozen=True, kw_only=True)
class HashedText:
    """How texts are encoded; all of it is public.

    Attributes:
      buckets: Ids that features are hashed into, 2 to 2**24; the ids are 1 to `buckets`.
      word_ngrams: Longest run of words, 0 to 8; 0 takes no words.
      char_ngrams: Lengths of the runs of characters, each 1 to 8; empty takes none.
      max_features: Ids that are kept of a text, at least 1: words before pairs of words before
        runs of characters, each from the text's beginning.

    Raises:
      InputError: A value is out of range, or there would be no features.
    """

    buckets: int = 4096
    word_ngrams: int = 2
    char_ngrams: tuple[int, ...] = (4,)
    max_features: int = 160

    def __post_init__(self) -> None:
        require_at_least("buckets", self.buckets, 2)
        require_at_least("word_ngrams", self.word_ngrams, 0)
        require_at_least("max_features", self.max_features, 1)
        object.__setattr__(self, "char_ngrams", tuple(self.char_ngrams))
        for length in self.char_ngrams:
            require_at_least("char_ngrams", length, 1)
        if self.buckets > _MAX_BUCKETS:
            raise InputError(f"buckets={self.buckets} is too many; give at most {_MAX_BUCKETS}")
        if max(self.word_ngrams, *self.char_ngrams, 0) > _LARGEST_NGRAM:
            raise InputError(
                f"word_ngrams={self.word_ngrams} and char_ngrams={self.char_ngrams} are too long; "
                f"give lengths up to {_LARGEST_NGRAM}"
            )
        if len(set(self.char_ngrams)) < len(self.char_ngrams):
            raise InputError(f"char_ngrams={self.char_ngrams} names a length twice; give each once")
        if not self.word_ngrams and not self.char_ngrams:
            raise InputError("word_ngrams=0 without char_ngrams leaves no features; give either")

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain JSON; `HashedText(**settings)` reads them back."""
        return {**dataclasses.asdict(self), "char_ngrams": list(self.char_ngrams)}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EncodedTexts:
    """Texts as ids.

    Attributes:
      ids: int32[texts, max_features], 1 to `buckets`, 0 behind the last; duplicates are kept.
      features: int64[texts], how many features each text has, also beyond `max_features`; a text
        with 0 has nothing to learn from or to answer.
    """

    ids: np.ndarray
    features: np.ndarray

    @property
    def num_truncated(self) -> int:
        """How many texts have more features than are kept."""
        return int(np.sum(self.features > self.ids.shape[1]))


def normalise(text: str) -> str:
    """Returns a text in NFKC and lower case, with single blanks between words and none around."""
    # Lower case may leave the normal form, as of a capital I with a dot.
    lowered = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return " ".join(lowered.split())


def encode_texts(texts: Sequence[str], settings: HashedText) -> EncodedTexts:
    """Returns the hashed ids of each text.

    Args:
      texts: One string a row; empty ones get no ids.
      settings: How to encode.

    Raises:
      InputError: Something is not a string.
    """
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"texts[{place}]={text!r} is not a text; leave such rows out")
    ids = np.zeros([len(texts), settings.max_features], np.int32)
    features = np.zeros([len(texts)], np.int64)
    for first in range(0, len(texts), _TEXTS_AT_ONCE):
        some = slice(first, first + _TEXTS_AT_ONCE)
        owner, hashes = _hashed_features([normalise(text) for text in texts[some]], settings)
        features[some] = np.bincount(owner, minlength=len(features[some]))
        starts = np.cumsum(features[some]) - features[some]
        place_in_text = np.arange(len(owner)) - starts[owner]
        kept = place_in_text < settings.max_features
        bucket = (hashes[kept] % np.uint64(settings.buckets)).astype(np.int32)
        ids[some][owner[kept], place_in_text[kept]] = 1 + bucket
    return EncodedTexts(ids=ids, features=features)


def fnv1a(code_points: np.ndarray, starts: np.ndarray, lengths: np.ndarray, kind: int) -> Any:
    """Returns the FNV-1a hash of many runs of values, uint64[runs].

    Args:
      code_points: uint64[values]; below 128 the hash is that of the bytes, as published.
      starts: int64[runs], where each run begins.
      lengths: int64[runs], how long it is.
      kind: Changes the start of the hash; 0 is the published one.
    """
    hashes = np.full(len(starts), FNV_OFFSET ^ kind, np.uint64)
    going = np.arange(len(starts))
    for step in range(int(lengths.max(initial=0))):
        going = going[lengths[going] > step]
        hashes[going] ^= code_points[starts[going] + step]
        hashes[going] *= np.uint64(FNV_PRIME)
    return hashes


def _hashed_features(texts: list[str], settings: HashedText) -> tuple[np.ndarray, np.ndarray]:
    """Returns (int64 text, uint64 hash) of every feature, sorted by text, else in order of kind."""
    joined = _END.join(f" {text} " if text else "" for text in texts)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    points = points.astype(np.uint64)
    text_of = np.cumsum(points == ord(_END))
    parts = [
        *_word_features(joined, points, text_of, settings.word_ngrams),
        *(_char_features(points, text_of, length) for length in settings.char_ngrams),
    ]
    owner = np.concatenate([part[0] for part in parts])
    hashes = mixed(np.concatenate([part[1] for part in parts]))
    order = np.argsort(owner, kind="stable")
    return owner[order], hashes[order]


def _word_features(
    joined: str, points: np.ndarray, text_of: np.ndarray, longest: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (text, hash) of the words, then of the pairs, and so on."""
    if not longest:
        return
    spans = np.array([match.span() for match in _WORD.finditer(joined)], np.int64).reshape(-1, 2)
    owner = text_of[spans[:, 0]]
    words = fnv1a(points, spans[:, 0], spans[:, 1] - spans[:, 0], 0)
    for length in range(1, longest + 1):
        starts = _runs_within(owner, length)
        yield owner[starts], fnv1a(words, starts, np.full(len(starts), length), length)


def _char_features(
    points: np.ndarray, text_of: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (text, hash) of the runs of characters of one length."""
    # The end of a text belongs to the next one: it may only stand before a run, not in it.
    starts = _runs_within(text_of, length)
    starts = starts[points[starts] != ord(_END)]
    kind = _LARGEST_NGRAM + length
    return text_of[starts], fnv1a(points, starts, np.full(len(starts), length), kind)


def _runs_within(owner: np.ndarray, length: int) -> np.ndarray:
    """Returns where runs of this length begin that lie within one owner; owners ascend."""
    number = max(0, len(owner) - length + 1)
    return np.flatnonzero(owner[:number] == owner[length - 1 :][:number])
