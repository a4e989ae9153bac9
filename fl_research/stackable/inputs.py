"""The input of a model, from the types of a client's rows."""

import collections
from typing import Any

import tensorflow as tf

from fl_research.data.clients import RowTypes
from fl_research.errors import InputError
from fl_research.objectives.objective import Objective

INPUTS, IDS = "inputs", "ids"


def input_spec(row_types: RowTypes, objective: Objective) -> tuple[Any, tf.TensorSpec]:
    """Returns `(x, y)` as TFF's functional models have it: all features by name, and the label.

    Args:
      row_types: Shape and type of one row of each feature.
      objective: Says what a label is.
    """
    x = collections.OrderedDict(
        (name, tf.TensorSpec([None, *shape], tf.as_dtype(dtype)))
        for name, (shape, dtype) in row_types.items()
    )
    return x, tf.TensorSpec([None, *objective.label_shape], tf.as_dtype(objective.label_dtype))


def require_feature(model: str, row_types: RowTypes, name: str) -> tuple[int, ...]:
    """Returns the shape of one row of a feature that a model needs.

    Raises:
      InputError: The data has no such feature.
    """
    if name not in row_types:
        raise InputError(
            f"model={model} needs the feature {name!r}, and the data has {', '.join(row_types)}; "
            "choose a model for this data"
        )
    return row_types[name][0]


def flat_inputs(x: Any, row_shape: tuple[int, ...]) -> tf.Tensor:
    """Returns the feature `inputs` with the axes of a row made one, `[..., rows, numbers]`.

    Args:
      x: The features.
      row_shape: The shape of one row of `inputs`.
    """
    inputs = x[INPUTS]
    if len(row_shape) == 1:
        return inputs
    leading = tf.shape(inputs)[: inputs.shape.rank - len(row_shape)]
    numbers = int(tf.TensorShape(row_shape).num_elements())
    return tf.reshape(inputs, tf.concat([leading, [numbers]], axis=0))
