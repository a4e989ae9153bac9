"""The trained model as a folder that plain TensorFlow loads, without TFF.

`final_model/saved_model` answers `predict(name=rows, ...) -> {name: answers}` with the features and
the predictions that `final_model/model.json` names: there are also the preparation that turns
records into features, and what the outputs mean.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from fl_research.errors import InputError
from fl_research.objectives.objective import Objective
from fl_research.run.durable_files import storage_errors, write_atomically


class _ServedModel(tf.Module):
    """The forward pass with its weights as variables."""

    def __init__(
        self,
        model: tff.learning.models.FunctionalModel,
        weights: tff.learning.models.ModelWeights,
        objective: Objective,
    ) -> None:
        super().__init__()
        self._model = model
        self._objective = objective
        self.trainable = tf.nest.map_structure(tf.Variable, weights.trainable)
        self.non_trainable = tf.nest.map_structure(
            lambda w: tf.Variable(w, trainable=False), weights.non_trainable
        )
        x = model.input_spec[0]
        signature = {n: tf.TensorSpec(s.shape, s.dtype, name=n) for n, s in x.items()}
        self.predict = tf.function(self._predict)
        self.served = self.predict.get_concrete_function(**signature)

    def _predict(self, **features: tf.Tensor) -> dict[str, tf.Tensor]:
        """Encoded rows by feature -> the objective's predictions."""
        weights = tf.nest.map_structure(tf.convert_to_tensor, (self.trainable, self.non_trainable))
        outputs = self._model.predict_on_batch(weights, features, training=False)
        return self._objective.predictions(outputs, features)


def save(
    folder: Path,
    *,
    model: tff.learning.models.FunctionalModel,
    weights: tff.learning.models.ModelWeights,
    description: Mapping[str, Any],
    objective: Objective,
) -> None:
    """Writes the model and its description.

    Args:
      folder: Made where it is missing; an earlier model in it is overwritten.
      model: The functional model that was trained.
      weights: Its trained weights.
      description: JSON for `model.json`: model name and settings, feature names, preparation.
      objective: What the outputs mean.

    Raises:
      InputError: The model cannot be written.
    """
    served = _ServedModel(model, weights, objective)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            tf.saved_model.save(
                served,
                str(folder / "saved_model"),
                signatures={"serving_default": served.served},
                options=tf.saved_model.SaveOptions(save_debug_info=False),
            )
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0]
            raise InputError(
                f"cannot write {folder}: {reason}; free some space, then run the same command again"
            ) from error
    inputs = {
        name: {"shape": list(spec.shape[1:]), "dtype": spec.dtype.name}
        for name, spec in model.input_spec[0].items()
    }
    content = {**description, "inputs": inputs, "predictions": sorted(served.served.output_shapes)}
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    write_atomically(folder / "model.json", text)
