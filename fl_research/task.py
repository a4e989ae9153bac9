"""A federated task: what a use case brings to an experiment.

Client data, split; what the model's outputs mean; who or what one privacy unit is; what is looked
at after training. The parts are checked against each other once, here, so that nothing downstream
has to.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fl_research.data.clients import Clients
from fl_research.errors import InputError
from fl_research.objectives.objective import Objective

if TYPE_CHECKING:
    from fl_research.analysis import Analysis


@dataclasses.dataclass(frozen=True, kw_only=True)
class FederatedTask:
    """The data, the unit of privacy and the goal of one use case.

    Attributes:
      name: The use case, such as `"churn_prevention"`.
      train: Clients that take part in rounds; the privacy guarantee is about them.
      validation: Clients for the metrics during training; may have no clients.
      test: Clients for the final metrics.
      objective: What the model's outputs mean; it names the metric that the report leads with.
      unit: One privacy unit in words, such as `"one customer"`.
      unit_contains: What one unit may contain, and how that is bounded, in words.
      feature_names: Names of the columns of `features["inputs"]`; empty where there are none.
      preparation: How records become features, plain JSON: `kind`, the name of a file of
        `data.preparation`, and its settings. Goes into the saved model's description.
      data_facts: What the run's record says of the data: source, checksum, terms, cleaning.
      evaluated_on: What the test rows are, in words.
      test_clients_train: Whether validation and test rows are of clients that train, such as their
        later weeks; their metrics are then about people whom the guarantee is for.
      analyses: What is computed from the trained model before the report, in order.

    Raises:
      InputError: Training or test data is empty, the splits have different features, or the
        labels are not what the objective needs.
    """

    name: str
    train: Clients
    validation: Clients
    test: Clients
    objective: Objective
    unit: str
    unit_contains: str
    feature_names: tuple[str, ...]
    preparation: Mapping[str, Any]
    data_facts: Mapping[str, Any]
    evaluated_on: str = "test clients that were never trained on"
    test_clients_train: bool = False
    analyses: tuple["Analysis", ...] = ()

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
        self.objective.check(self.train)

    @property
    def primary_metric(self) -> str:
        """The metric that the report leads with."""
        return self.objective.primary_metric


def _feature_signature(data: Clients) -> dict[str, tuple[tuple[int, ...], str]]:
    """Name -> (shape of one row, dtype) of each feature."""
    return {name: (shape, str(dtype)) for name, (shape, dtype) in data.row_types.items()}
