"""What each model family is tried on: rows that fit it, and an objective.

A family that reads the feature `inputs` or `ids` needs no line here: it is tried on such rows with
binary labels. One that reads something else has a case of its own in `SPECIAL`.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.data.clients import RowTypes
from fl_research.data.hashed_text import HashedText
from fl_research.data.schema import Column
from fl_research.errors import InputError
from fl_research.models import registry
from fl_research.objectives.answer_retrieval import AnswerRetrieval
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.clustering import Clustering
from fl_research.objectives.objective import Objective
from fl_research.objectives.regression import Regression
from tests.contracts.rating_rows import RATINGS, draw_ratings

NUM_INPUTS, NUM_IDS, LARGEST_ID = 6, 5, 40

Rows = tuple[dict[str, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Rows for a model family.

    Attributes:
      objective: What the outputs mean.
      draw: (generator, rows) -> features and labels.
      other_gradient: Why the gradient is not that of the loss, and where it is tested; empty: it
        is.
    """

    objective: Objective
    draw: Callable[[np.random.Generator, int], Rows]
    other_gradient: str = ""

    @property
    def row_types(self) -> RowTypes:
        """Shape and type of one row of each feature."""
        features, _ = self.draw(np.random.default_rng(0), 2)
        return {name: (values.shape[1:], values.dtype) for name, values in features.items()}


def _inputs(generator: np.random.Generator, rows: int) -> Rows:
    """Numbers in [-1, 1] and binary labels."""
    inputs = generator.uniform(-1, 1, [rows, NUM_INPUTS]).astype(np.float32)
    return {"inputs": inputs}, np.arange(rows, dtype=np.int32) % 2


def _ids(generator: np.random.Generator, rows: int) -> Rows:
    """Hashed ids, some of them padding, and binary labels."""
    ids = generator.integers(0, LARGEST_ID + 1, [rows, NUM_IDS]).astype(np.int32)
    return {"ids": ids}, np.arange(rows, dtype=np.int32) % 2


def _steps(generator: np.random.Generator, rows: int) -> Rows:
    """Numbers at several steps in time, and binary labels."""
    inputs = generator.uniform(-1, 1, [rows, 4, 3]).astype(np.float32)
    return {"inputs": inputs}, np.arange(rows, dtype=np.int32) % 2


def _questions(generator: np.random.Generator, rows: int) -> Rows:
    """Hashed ids, and the place of the right answer among three."""
    ids = generator.integers(0, LARGEST_ID + 1, [rows, NUM_IDS]).astype(np.int32)
    return {"ids": ids}, np.arange(rows, dtype=np.int32) % 3


def _series(generator: np.random.Generator, rows: int) -> Rows:
    """Numbers at several steps in time, and what comes in the next three."""
    features, _ = _steps(generator, rows)
    return features, generator.uniform(0, 2, [rows, 3]).astype(np.float32)


def _customers(generator: np.random.Generator, rows: int) -> Rows:
    """Numbers in [-1, 1]; neither the true segment nor the worth is known."""
    features, _ = _inputs(generator, rows)
    return features, np.full([rows, 2], -1, np.int32)


_SEGMENTS = Clustering(
    segments=3,
    columns=tuple(
        Column(name=f"x{i}", kind="number", minimum=-1, maximum=1) for i in range(NUM_INPUTS)
    ),
)
_ANSWERS = AnswerRetrieval(
    names=("a", "b", "c"), answers=("one", "two two", "it is three"), encoding=HashedText()
)
SPECIAL: dict[str, Case] = {
    "dual_encoder": Case(objective=_ANSWERS, draw=_questions),
    "k_means": Case(
        objective=_SEGMENTS,
        draw=_customers,
        other_gradient="it is minus the sums and counts; tests/models/test_k_means.py has them",
    ),
    "linear_regression": Case(objective=Regression(horizon=3, loss="squared"), draw=_series),
    "matrix_factorization": Case(objective=RATINGS, draw=draw_ratings),
}
_USUAL = tuple(Case(objective=BinaryClassification(), draw=d) for d in (_inputs, _ids, _steps))


def case_of(name: str) -> Case:
    """Returns the case of a family: its own, or the first usual one that it can be built for."""
    if name in SPECIAL:
        return SPECIAL[name]
    for case in _USUAL:
        try:
            build(name, case)
        except InputError:
            continue
        return case
    raise AssertionError(f"model {name} needs a case in {__name__}.SPECIAL")


def build(
    name: str, case: Case | None = None, seed: int = 1
) -> tff.learning.models.FunctionalModel:
    """Builds a family with its default settings for its case."""
    case = case_of(name) if case is None else case
    family = registry.load(name)
    return family.build(
        family.Config(), row_types=case.row_types, objective=case.objective, seed=seed
    )


def rows_for(name: str, rows: int) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Seeded rows for a family, as tensors."""
    features, labels = case_of(name).draw(np.random.default_rng(4), rows)
    return {n: tf.constant(v) for n, v in features.items()}, tf.constant(labels)
