"""`--ask`: a finished run's saved model answers one question, or hands it over to a person.

TensorFlow Federated is not imported, and nothing is trained. The threshold of the confidence is the
one that the run chose on its validation clients.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from absl import flags

from fl_research.errors import InputError
from fl_research.run import run_directory
from fl_research.run.record_files import read_json

FLAGS = flags.FLAGS

_SHOWN = 3


def answer_question() -> None:
    """Prints what the model of --run (or --run_name) makes of --ask.

    Raises:
      InputError: No such run, not a finished one of this use case, or no text in the question.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Before TensorFlow is imported.
    from fl_research.run import served_model

    folder = _run_folder()
    threshold = _threshold(folder)
    model = served_model.load(folder)
    column = model.description["preparation"]["text_column"]
    try:
        prepared = model.prepare(pd.DataFrame({column: [FLAGS.ask]}))
    except InputError:
        raise InputError(
            f"--ask={FLAGS.ask!r} has no text that can be read; ask in words"
        ) from None
    probabilities = model.predict(prepared.features)["probabilities"][0]
    print("\n".join(answer_lines(probabilities, model.description["objective"], threshold)))


def answer_lines(
    probabilities: np.ndarray, objective: Mapping[str, Any], threshold: float
) -> list[str]:
    """Returns what is said to the one who asked.

    Args:
      probabilities: float [classes], what the model gives.
      objective: Its description: `classes`, and `answers` where there is a catalogue.
      threshold: Below this confidence a person has to answer.
    """
    names = objective["classes"]
    order = np.argsort(-probabilities, kind="stable")[:_SHOWN]
    best, confidence = int(order[0]), float(probabilities[order[0]])
    if confidence >= threshold:
        first = f"{names[best]} (confidence {confidence:.3f}, threshold {threshold:.3f})"
        lines = [first, objective["answers"][best]] if "answers" in objective else [first]
    else:
        lines = [
            f"handed over to a person: confidence {confidence:.3f} is below the threshold "
            f"{threshold:.3f}"
        ]
    listed = ", ".join(f"{names[i]} {probabilities[i]:.2f}" for i in order)
    return [*lines, f"most likely: {listed}"]


def _run_folder() -> Path:
    """The folder of the run that is asked."""
    if bool(FLAGS.run) == bool(FLAGS.run_name):
        raise InputError(
            "--ask needs a finished run: give either --run=FOLDER, or --run_name (in --output_dir)"
        )
    folder = Path(FLAGS.run) if FLAGS.run else Path(FLAGS.output_dir) / FLAGS.run_name
    if not folder.is_dir():
        raise InputError(f"there is no run {folder}; give the folder of a finished run")
    return folder


def _threshold(folder: Path) -> float:
    """The confidence that a question needs, chosen by the run."""
    path = folder / run_directory.EVALUATION
    findings = (read_json(path).get("findings") or {}) if path.exists() else {}
    if "out_of_scope" not in findings:
        raise InputError(
            f"{folder} is no finished run of service_automation; give the folder of one that is"
        )
    return float(findings["out_of_scope"]["threshold"])
