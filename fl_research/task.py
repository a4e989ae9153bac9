"""A federated task: what a use case brings to an experiment.

Client data, split by client; who or what one privacy unit is; the metric that decides. The parts
are checked against each other once, here, so that nothing downstream has to.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fl_research.data.clients import Clients
from fl_research.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class FederatedTask:
    """The data, the unit of privacy and the goal of one use case.

    Attributes:
      name: The use case, such as `"churn_prevention"`.
      train: Clients that take part in rounds; the privacy guarantee is about them.
      validation: Clients for the metrics during training; may have no clients.
      test: Clients for the final metrics.
      primary_metric: The metric of `learning.metrics` that the report leads with.
      unit: One privacy unit in words, such as `"one customer"`.
      unit_contains: What one unit may contain, and how that is bounded, in words.
      feature_names: Names of the columns of `features["inputs"]`, for the saved model.
      data_facts: What the run's record says of the data: source, checksum, terms, cleaning.

    Raises:
      InputError: Training or test data is empty, the splits have different features, or a label
        is not 0 or 1.
    """

    name: str
    train: Clients
    validation: Clients
    test: Clients
    primary_metric: str
    unit: str
    unit_contains: str
    feature_names: tuple[str, ...]
    data_facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        for split_name in ("train", "test"):
            if getattr(self, split_name).num_rows == 0:
                raise InputError(
                    f"the {split_name} split has no rows; give more clients or another fraction"
                )
        expected = _feature_signature(self.train)
        for split_name in ("validation", "test"):
            found = _feature_signature(getattr(self, split_name))
            if found != expected:
                raise InputError(f"{split_name} features are {found}, train features {expected}")
        labels = list(self.train.label_counts())
        if not np.isin(labels, (0, 1)).all():
            raise InputError(f"labels must be 0 or 1, train has {labels[:5]}")
        if len(labels) < 2:
            raise InputError(
                f"every label of the train split is {labels[0]}; a classifier needs both: "
                "check --positive_label, or take another --seed"
            )

    @property
    def num_inputs(self) -> int:
        """The number of input features of one row."""
        return int(self.train.row_types["inputs"][0][0])


def _feature_signature(data: Clients) -> dict[str, tuple[tuple[int, ...], str]]:
    """Name -> (shape of one row, dtype) of each feature."""
    return {name: (shape, str(dtype)) for name, (shape, dtype) in data.row_types.items()}
