"""Run folders with a small model in them, without any training, for tests of scoring."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = {
    "columns": [
        {"name": "who", "kind": "client"},
        {"name": "months", "kind": "number", "minimum": 0, "maximum": 8, "if_missing": 4},
        {"name": "plan", "kind": "category", "values": ["basic", "gold"], "if_missing": "drop_row"},
        {"name": "note", "kind": "ignore"},
        {"name": "churn", "kind": "label", "values": ["no", "yes"], "positive": "yes"},
    ]
}
KERNEL = np.array([0.5, -1.0, 1.0], np.float32)


def write_run(
    folder: Path,
    *,
    status: str = "completed",
    outputs: str = "probability",
    description: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the folder of a run whose model takes three inputs.

    Args:
      folder: Made here.
      status: What run.json says.
      outputs: "probability" (sigmoid of inputs @ KERNEL), "classes" (that and its opposite as a
        softmax), or "items" (a text and a score of two items).
      description: What model.json says beside that.
      evaluation: evaluation.json; None: there is none.

    Returns:
      The folder.
    """
    import tensorflow as tf

    class Model(tf.Module):
        """Inputs times a kernel."""

        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(KERNEL)

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="inputs")])
        def served(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            logit = tf.linalg.matvec(inputs, self.kernel)
            if outputs == "probability":
                return {"probability": tf.math.sigmoid(logit)}
            both = tf.stack([-logit, logit], axis=1)
            if outputs == "classes":
                return {
                    "class_index": tf.argmax(both, axis=1, output_type=tf.int32),
                    "probabilities": tf.nn.softmax(both),
                }
            order = tf.argsort(both, axis=1, direction="DESCENDING")
            return {
                "item": tf.gather(tf.constant(["tea", "café"]), order),
                "score": tf.sort(both, axis=1, direction="DESCENDING"),
            }

    model = Model()
    (folder / "final_model").mkdir(parents=True)
    (folder / "flags.txt").write_text("--seed=0\n")
    (folder / "run.json").write_text(json.dumps({"status": status}))
    if evaluation is not None:
        (folder / "evaluation.json").write_text(json.dumps(evaluation))
    tf.saved_model.save(
        model,
        str(folder / "final_model" / "saved_model"),
        signatures={"serving_default": model.served},
    )
    content = {
        "features": ["months", "plan=basic", "plan=gold"],
        "preparation": {"kind": "table", "schema": SCHEMA},
        "objective": {"kind": "binary_classification", "positive": "yes"},
        **(description or {}),
    }
    (folder / "final_model" / "model.json").write_text(json.dumps(content))
    return folder
