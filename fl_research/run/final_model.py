"""The trained model as a folder that plain TensorFlow loads, without TFF.

`final_model/saved_model` answers `predict(inputs) -> probability`; `final_model/model.json` says
what the inputs are: their names in order, and the schema that encodes records into them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from fl_research.errors import InputError
from fl_research.run.durable_files import storage_errors, write_atomically


class _ServedModel(tf.Module):
    """The forward pass with its weights as variables."""

    def __init__(
        self,
        model: tff.learning.models.FunctionalModel,
        weights: tff.learning.models.ModelWeights,
        num_inputs: int,
    ) -> None:
        super().__init__()
        self._model = model
        self.trainable = [tf.Variable(w) for w in weights.trainable]
        self.non_trainable = [tf.Variable(w, trainable=False) for w in weights.non_trainable]
        spec = tf.TensorSpec([None, num_inputs], tf.float32, name="inputs")
        self.predict = tf.function(self._predict, input_signature=[spec])

    def _predict(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Encoded rows -> the probability of the positive label."""
        weights = (
            tuple(tf.convert_to_tensor(w) for w in self.trainable),
            tuple(tf.convert_to_tensor(w) for w in self.non_trainable),
        )
        logits = self._model.predict_on_batch(weights, {"inputs": inputs}, training=False)
        return {"probability": tf.math.sigmoid(logits)}


def save(
    folder: Path,
    *,
    model: tff.learning.models.FunctionalModel,
    weights: tff.learning.models.ModelWeights,
    description: Mapping[str, Any],
    num_inputs: int,
) -> None:
    """Writes the model and its description.

    Args:
      folder: Made where it is missing; an earlier model in it is overwritten.
      model: The functional model that was trained.
      weights: Its trained weights.
      description: JSON for `model.json`: model name and settings, feature names, schema.
      num_inputs: Input features of one row.

    Raises:
      InputError: The model cannot be written.
    """
    served = _ServedModel(model, weights, num_inputs)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            tf.saved_model.save(
                served,
                str(folder / "saved_model"),
                signatures={"serving_default": served.predict},
                options=tf.saved_model.SaveOptions(save_debug_info=False),
            )
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0]
            raise InputError(
                f"cannot write {folder}: {reason}; free some space, then run the same command again"
            ) from error
    text = json.dumps(dict(description), indent=2, sort_keys=True) + "\n"
    write_atomically(folder / "model.json", text)
