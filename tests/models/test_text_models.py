"""The models of hashed texts by hand, and what the dual encoder's batches may not do."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fl_research.data.hashed_text import HashedText
from fl_research.errors import InputError
from fl_research.learning import execution
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.example_privacy import ExamplePrivacy
from fl_research.learning.local_training import LocalTraining
from fl_research.learning.optimizers import OptimizerConfig, build_optimizer
from fl_research.models import dual_encoder, embedding_bag, hashed_linear
from fl_research.objectives.answer_retrieval import AnswerRetrieval
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.multiclass import MulticlassClassification
from fl_research.stackable.id_bags import bag_of_ids

CLASSES = MulticlassClassification(classes=("a", "b", "c"))
ANSWERS = AnswerRetrieval(
    names=("a", "b", "c"), answers=("one", "two", "it is three"), encoding=HashedText(buckets=20)
)
ROW_TYPES = {"ids": ((4,), np.dtype(np.int32))}
IDS = np.array([[3, 1, 3, 0], [0, 0, 0, 0], [2, 0, 0, 0]], np.int32)


def _bags(ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Bags with loops."""
    bags = np.zeros([len(ids), table.shape[1]])
    for row, values in enumerate(ids):
        present = [table[i - 1] for i in values if i]
        if present:
            bags[row] = np.sum(present, axis=0) / np.sqrt(len(present))
    return bags


def _outputs(model: Any, weights: list[np.ndarray]) -> np.ndarray:
    trainable = tuple(tf.constant(w, tf.float32) for w in weights)
    return model.predict_on_batch((trainable, ()), {"ids": tf.constant(IDS)}).numpy()


def _drawn(model: Any, seed: int) -> list[np.ndarray]:
    """Weights of the model's shapes."""
    generator = np.random.default_rng(seed)
    return [generator.normal(size=np.shape(w)) for w in model.initial_weights[0]]


def test_a_bag_is_the_sum_over_the_root_of_the_number() -> None:
    table = np.random.default_rng(0).normal(size=[5, 2]).astype(np.float32)
    np.testing.assert_allclose(bag_of_ids(IDS, tf.constant(table)), _bags(IDS, table), atol=1e-6)
    ids, tables = np.stack([IDS, IDS[::-1]]), np.stack([table, -2 * table])
    stacked = bag_of_ids(tf.constant(ids), tf.constant(tables))
    np.testing.assert_allclose(stacked[1], _bags(IDS[::-1], -2 * table), atol=1e-6)


def test_hashed_linear_computes_what_it_says() -> None:
    config = hashed_linear.Config(buckets=5)
    model = hashed_linear.build(config, row_types=ROW_TYPES, objective=CLASSES, seed=0)
    assert not any(np.any(w) for w in model.initial_weights[0])
    table, bias = _drawn(model, 1)
    assert table.shape == (5, 3)
    np.testing.assert_allclose(_outputs(model, [table, bias]), _bags(IDS, table) + bias, atol=1e-5)
    binary = hashed_linear.build(
        config, row_types=ROW_TYPES, objective=BinaryClassification(), seed=0
    )
    table, bias = _drawn(binary, 2)
    expected = (_bags(IDS, table) + bias)[:, 0]
    np.testing.assert_allclose(_outputs(binary, [table, bias]), expected, atol=1e-5)


def test_embedding_bag_computes_what_it_says() -> None:
    config = embedding_bag.Config(buckets=5, width=4, hidden_sizes=(6,))
    model = embedding_bag.build(config, row_types=ROW_TYPES, objective=CLASSES, seed=0)
    weights = _drawn(model, 3)
    assert [w.shape for w in weights] == [(5, 4), (4, 6), (6,), (6, 3), (3,)]
    table, kernel, bias, last, last_bias = weights
    hidden = np.maximum(_bags(IDS, table) @ kernel + bias, 0)
    np.testing.assert_allclose(_outputs(model, weights), hidden @ last + last_bias, atol=1e-4)


def test_embeddings_start_with_bags_of_length_one() -> None:
    config = embedding_bag.Config(width=50)
    model = embedding_bag.build(config, row_types=ROW_TYPES, objective=CLASSES, seed=1)
    table = model.initial_weights[0][0]
    ids = np.random.default_rng(0).integers(1, len(table) + 1, [500, 9])
    lengths = np.linalg.norm(_bags(ids, table), axis=1)
    assert np.mean(lengths**2) == pytest.approx(1, abs=0.05)


def test_dual_encoder_computes_cosines() -> None:
    config = dual_encoder.Config(buckets=20, width=3, scale=7.0)
    model = dual_encoder.build(config, row_types=ROW_TYPES, objective=ANSWERS, seed=0)
    table, q_kernel, q_bias, a_kernel, a_bias = weights = _drawn(model, 4)

    def directions(ids: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
        raw = np.tanh(_bags(ids, table) @ kernel + bias)
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)

    answers = directions(ANSWERS.answer_ids(), a_kernel, a_bias)
    expected = 7 * directions(IDS, q_kernel, q_bias) @ answers.T
    np.testing.assert_allclose(_outputs(model, weights), expected, atol=1e-4)


def test_an_untrained_dual_encoder_finds_answers_with_the_same_words() -> None:
    config = dual_encoder.Config(buckets=20)
    ids = ANSWERS.answer_ids()
    types = {"ids": (ids.shape[1:], ids.dtype)}
    model = dual_encoder.build(config, row_types=types, objective=ANSWERS, seed=0)
    scores = model.predict_on_batch(model.initial_weights, {"ids": tf.constant(ids)})
    np.testing.assert_allclose(np.diag(scores), 12.0, rtol=1e-4)


def test_only_answers_of_the_batch_are_set_against_each_other() -> None:
    """By hand; a stack of two clients keeps their answers apart, rows of weight 0 bring none."""
    logits = np.random.default_rng(5).normal(size=[2, 3, 4]).astype(np.float32)
    labels = np.array([[0, 2, 2], [1, 1, 3]], np.int32)
    weight = np.array([[1, 1, 1], [1, 1, 0]], np.float32)
    config = dual_encoder.Config(buckets=20)
    model = dual_encoder.build(config, row_types=ROW_TYPES, objective=ANSWERS, seed=0)
    found = model.loss(tf.constant(logits), tf.constant(labels), tf.constant(weight))
    among = logits[0][:, [0, 2]]
    expected = np.mean(np.log(np.exp(among).sum(axis=1)) - logits[0][[0, 1, 2], [0, 2, 2]])
    np.testing.assert_allclose(found, [expected, 0.0], atol=1e-5)  # one answer alone: no loss


def test_the_whole_catalogue_gives_the_objectives_loss() -> None:
    logits, labels = tf.constant([[1.0, 0.0, 2.0], [0.5, 0.0, 0.0]]), tf.constant([2, 2])
    of = {
        negatives: dual_encoder.build(
            dual_encoder.Config(buckets=20, negatives=negatives),
            row_types=ROW_TYPES,
            objective=ANSWERS,
            seed=0,
        ).loss(logits, labels)
        for negatives in ("batch", "catalogue")
    }
    assert float(of["batch"]) == 0
    expected = tf.reduce_mean(ANSWERS.row_loss(logits, labels))
    assert float(of["catalogue"]) == pytest.approx(float(expected))


def _resolved(negatives: str) -> str:
    """How a client trains privately for each example."""
    model = dual_encoder.build(
        dual_encoder.Config(buckets=20, width=2, negatives=negatives),
        row_types=ROW_TYPES,
        objective=ANSWERS,
        seed=0,
    )
    training = LocalTraining(
        model=model,
        optimizer=build_optimizer(OptimizerConfig(learning_rate=0.1)),
        config=ClientUpdateConfig(batch_size=4),
        example_privacy=ExamplePrivacy(clip_norm=1.0, noise_multiplier=1.0, noise_key=(0, 0)),
    )
    return execution.resolve(training, None)


def test_private_examples_need_rows_that_stand_alone() -> None:
    with pytest.raises(InputError, match=r"depends on other rows.*negatives='catalogue'"):
        _resolved("batch")
    assert _resolved("catalogue") == "loop"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: hashed_linear.Config(buckets=1), "buckets=1"),
        (lambda: embedding_bag.Config(width=0), "width=0"),
        (lambda: embedding_bag.Config(hidden_sizes=(8, 0)), "hidden_sizes=0"),
        (lambda: dual_encoder.Config(scale=0.0), "scale=0.0"),
        (lambda: dual_encoder.Config(negatives="all"), "negatives='all'.*batch, catalogue"),
    ],
)
def test_wrong_settings_are_refused(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize("family", [hashed_linear, embedding_bag, dual_encoder])
def test_tables_without_texts_are_refused(family: Any) -> None:
    with pytest.raises(InputError, match="needs the feature 'ids'"):
        family.build(
            family.Config(),
            row_types={"inputs": ((3,), np.dtype(np.float32))},
            objective=ANSWERS,
            seed=0,
        )


@pytest.mark.parametrize(
    ("objective", "buckets", "words"),
    [
        (CLASSES, 20, "needs a catalogue of answers.*--task=answers"),
        (ANSWERS, 30, "buckets=30 of the model are not those of the texts, 20"),
    ],
)
def test_a_dual_encoder_needs_a_catalogue_of_its_own_hash(
    objective: Any, buckets: int, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        dual_encoder.build(
            dual_encoder.Config(buckets=buckets), row_types=ROW_TYPES, objective=objective, seed=0
        )
