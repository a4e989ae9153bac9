"""Answer retrieval: ranks against a slow count, ties, the trivial model, the catalogue."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fl_research.data.client_data import ClientData
from fl_research.data.hashed_text import HashedText, encode_texts
from fl_research.errors import InputError
from fl_research.objectives.answer_retrieval import AnswerRetrieval
from fl_research.objectives.client_rows import ClientRows

NAMES = tuple("abcdefgh")
TEXTS = tuple(f"answer number {name} is this" for name in NAMES)
OBJECTIVE = AnswerRetrieval(names=NAMES, answers=TEXTS, encoding=HashedText())


def _metrics(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    sums = OBJECTIVE.pooled(tf.constant(outputs), tf.constant(labels), {})
    return OBJECTIVE.metrics({name: value.numpy() for name, value in sums.items()})


def _slow_ranks(outputs: np.ndarray, labels: np.ndarray) -> list[int]:
    """1 and one more for every other answer that scores as high."""
    return [
        1 + sum(score >= row[label] for i, score in enumerate(row) if i != label)
        for row, label in zip(outputs.tolist(), labels, strict=True)
    ]


def _clients(labels: list[int]) -> ClientData:
    ids = np.zeros([len(labels), 2], np.int32)
    return ClientData.from_rows({"ids": ids}, np.array(labels, np.int32), None)


def test_metrics_are_those_of_the_ranks() -> None:
    generator = np.random.default_rng(0)
    outputs = generator.normal(size=[60, 8]).astype(np.float32).round(1)  # Rounded: there are ties.
    labels = generator.integers(0, 8, 60).astype(np.int32)
    ranks = np.array(_slow_ranks(outputs, labels))
    found = _metrics(outputs, labels)
    assert found["recall_at_1"] == pytest.approx(np.mean(ranks == 1))
    assert found["recall_at_5"] == pytest.approx(np.mean(ranks <= 5))
    assert found["mrr"] == pytest.approx(np.mean(1 / ranks))
    of_clients = OBJECTIVE.per_client(
        tf.constant(outputs), tf.constant(labels), {}, ClientRows(tf.constant([0, 10, 60]))
    )
    np.testing.assert_allclose(
        of_clients["mrr"], [np.mean(1 / ranks[:10]), np.mean(1 / ranks[10:])]
    )
    np.testing.assert_allclose(
        of_clients["recall_at_1"], [np.mean(ranks[:10] == 1), np.mean(ranks[10:] == 1)]
    )


def test_scoring_all_alike_gains_nothing() -> None:
    found = _metrics(np.zeros([4, 8], np.float32), np.arange(4, dtype=np.int32))
    assert found["recall_at_5"] == 0 and found["mrr"] == 1 / 8
    spoilt = np.full([4, 8], np.nan, np.float32)
    assert _metrics(spoilt, np.arange(4, dtype=np.int32))["mrr"] == 1 / 8


def test_trivial_ranks_by_frequency() -> None:
    """As a model whose scores are the counts, no two of them alike."""
    known = [0] + [3] * 3 + [5] * 5 + [1] * 2
    train, test = _clients(known), _clients([5, 3, 0, 5])
    found = OBJECTIVE.trivial(train, test)["trivial"]
    assert found["recall_at_1"] == 0.5  # answer 5
    assert found["mrr"] == pytest.approx(np.mean([1, 1 / 2, 1 / 4, 1]))
    shares = (np.bincount(known, minlength=8) + 1) / (len(known) + 8)
    assert found["log_loss"] == pytest.approx(-np.mean(np.log(shares[[5, 3, 0, 5]])))


def test_findings_are_the_recall_at_every_k() -> None:
    outputs = np.eye(8, dtype=np.float32)[[0, 0]] + np.linspace(0, 0.1, 8, dtype=np.float32)
    sums = OBJECTIVE.pooled(tf.constant(outputs), tf.constant([0, 1]), {})
    finding = OBJECTIVE.findings({name: value.numpy() for name, value in sums.items()})
    # The second: answer 0 before 7, 6, ..., 1.
    assert finding["answer_ranks"]["recall_at"] == [0.5] * 7 + [1.0]


def test_the_catalogue_is_hashed_as_questions_are() -> None:
    ids = OBJECTIVE.answer_ids()
    whole = encode_texts(TEXTS, HashedText()).ids
    np.testing.assert_array_equal(ids, whole[:, : ids.shape[1]])
    assert not whole[:, ids.shape[1] :].any() and (ids[:, -1] > 0).any()
    assert OBJECTIVE.describe()["answers"] == list(TEXTS)


def _of(**changed: Any) -> AnswerRetrieval:
    given = {"names": ("a", "b"), "answers": ("one", "two"), "encoding": HashedText()}
    return AnswerRetrieval(**(given | changed))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: _of(names=("a", "a")), "not two or more different names"),
        (lambda: _of(answers=("one",)), "there are 1 for 2 names"),
        (lambda: _of(answers=("one", " ")), "the answer of 'b' has no text"),
        (lambda: _of(primary_metric="auc"), "primary_metric='auc'"),
        (lambda: OBJECTIVE.check(_clients([0, 8])), "labels must be 0 to 7"),
        (lambda: OBJECTIVE.check(_clients([1, 1])), "has the answer 'b'"),
    ],
)
def test_wrong_settings_and_labels_are_refused(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()
