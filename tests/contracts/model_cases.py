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
from fl_research.errors import InputError
from fl_research.models import registry
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.objective import Objective

NUM_INPUTS, NUM_IDS, LARGEST_ID = 6, 5, 40

Rows = tuple[dict[str, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Rows for a model family.

    Attributes:
      objective: What the outputs mean.
      draw: (generator, rows) -> features and labels.
    """

    objective: Objective
    draw: Callable[[np.random.Generator, int], Rows]

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


SPECIAL: dict[str, Case] = {}
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
