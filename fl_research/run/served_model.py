"""A finished run's model, at work on new records: prepare, predict, answers as a table.

Plain TensorFlow is all that it needs: TensorFlow Federated is not imported. What the library adds
to the saved model is the preparation of records, by the settings that were trained with. Without
this library a program encodes rows as `model.json` says and calls the saved model:

    import tensorflow as tf
    model = tf.saved_model.load("runs/my_run/final_model/saved_model")
    answers = model.signatures["serving_default"](inputs=tf.constant(rows, tf.float32))
    answers["probability"].numpy()
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fl_research.data.preparation import registry as preparations
from fl_research.data.prepared import Prepared
from fl_research.errors import InputError
from fl_research.learning.platt_scaling import PlattScaling, scores_of
from fl_research.run import run_directory
from fl_research.run.record_files import read_json

_UNFINISHED = ("running", "interrupted", "failed")
_ROWS_AT_ONCE = 4096
_NAMED = {"class_index": ("class", "classes"), "level": ("level", "levels")}
"""Answers that are numbers of a list -> the name of the column, and the list in the description."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ServedModel:
    """A loaded model.

    Attributes:
      description: `model.json`.
      scaling: Calibration that the run fitted on its validation clients; None: it did not.
      predict_rows: Features by name, as tensors -> answers by name, as tensors.
    """

    description: Mapping[str, Any]
    scaling: PlattScaling | None
    predict_rows: Any

    @property
    def client_column(self) -> str | None:
        """The column that named the clients of a table; None where there is none."""
        schema = self.description["preparation"].get("schema") or {}
        columns = schema.get("columns", [])
        return next((c["name"] for c in columns if c["kind"] == "client"), None)

    def names_of_rows(self) -> str | None:
        """Returns what a prepared row is about, such as `"customer"`; None: it is one record."""
        module = preparations.load(self.description["preparation"]["kind"])
        return getattr(module, "NAMES", None)

    def prepare(self, records: pd.DataFrame, **changed: Any) -> Prepared:
        """Returns the features of new records, as in training.

        Args:
          records: As the training records, without the label.
          **changed: Settings of the preparation that are others now, such as `cut_date`.

        Raises:
          InputError: The records are not what the preparation needs, or it has no such setting.
        """
        settings = self.description["preparation"]
        for name, value in changed.items():
            if name not in settings:
                raise InputError(
                    f"{name}={value!r} does not go with this model, whose records are prepared as "
                    f"{settings['kind']!r}; leave it out"
                )
        prepared: Prepared = preparations.load(settings["kind"]).prepare(
            records, {**settings, **changed}
        )
        return prepared

    def predict(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the model's answers by name, each [rows, ...].

        Args:
          features: As `prepare` gives them; at least one row.
        """
        import tensorflow as tf

        rows = len(next(iter(features.values())))
        pieces = []
        for first in range(0, rows, _ROWS_AT_ONCE):
            piece = {n: tf.constant(v[first : first + _ROWS_AT_ONCE]) for n, v in features.items()}
            pieces.append({n: a.numpy() for n, a in self.predict_rows(**piece).items()})
        answers = {name: np.concatenate([p[name] for p in pieces]) for name in sorted(pieces[0])}
        if self.scaling is not None and "probability" in answers:
            scores = scores_of(answers["probability"])
            answers["calibrated_probability"] = self.scaling.probabilities(scores)
        return answers

    def answers_table(self, answers: Mapping[str, np.ndarray]) -> pd.DataFrame:
        """Returns answers as columns: classes and levels by name, several values side by side.

        Where the values are a list of named things, as recommended items are, an empty name says
        that the list has ended: the other values there are blank, and places that no row uses have
        no column.

        Args:
          answers: From `predict`.
        """
        objective = self.description.get("objective") or {}
        columns: dict[str, Any] = {}
        texts = {name: _as_texts(answer) for name, answer in answers.items()}
        for name, values in _without_empty_places(texts).items():
            if name in _NAMED and _NAMED[name][1] in objective:
                column, listed = _NAMED[name]
                columns[column] = np.array(objective[listed], dtype=object)[values]
            elif values.ndim == 1:
                columns[name] = values
            else:
                flat = values.reshape(len(values), -1)
                names = _side_by_side(name, flat.shape[1], objective)
                columns |= {column: flat[:, i] for i, column in enumerate(names)}
        return pd.DataFrame(columns)


def load(folder: Path) -> ServedModel:
    """Loads the model of a finished run.

    Args:
      folder: The run's folder.

    Raises:
      InputError: It is no run's folder, the run is not finished, or its model is damaged.
    """
    run_directory.RunDirectory.view(folder)
    model_folder = folder / run_directory.FINAL_MODEL
    run_record = folder / run_directory.RUN
    status = read_json(run_record).get("status") if run_record.exists() else "running"
    if status in _UNFINISHED or not (model_folder / "model.json").exists():
        raise InputError(
            f"run={folder} is not finished (status: {status}), it has no final model; run its "
            "command again to go on with it"
        )
    description = read_json(model_folder / "model.json")
    if "preparation" not in description:
        raise InputError(
            f"{model_folder / 'model.json'} says nothing of how records become features; it was "
            "written by an earlier version: train again"
        )
    import tensorflow as tf  # Slow to import; what can be wrong before is told before.

    try:
        loaded = tf.saved_model.load(str(model_folder / "saved_model"))
        signature = loaded.signatures["serving_default"]
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{model_folder / 'saved_model'} is damaged ({reason}); restore it"
        ) from None

    def predict_rows(**features: Any) -> Mapping[str, Any]:
        # The signature lives as long as what was loaded.
        assert loaded is not None
        answers: Mapping[str, Any] = signature(**features)
        return answers

    return ServedModel(description=description, scaling=_scaling(folder), predict_rows=predict_rows)


def _scaling(folder: Path) -> PlattScaling | None:
    """The calibration among the run's findings, if it made one."""
    path = folder / run_directory.EVALUATION
    findings = read_json(path).get("findings") or {} if path.exists() else {}
    fitted = (findings.get("customers_to_keep") or {}).get("calibration") or {}
    if fitted.get("slope") is None:
        return None
    return PlattScaling(slope=fitted["slope"], intercept=fitted["intercept"])


def _as_texts(values: np.ndarray) -> np.ndarray:
    """TensorFlow's byte strings as texts; other values as they are."""
    if values.dtype.kind not in "SO":
        return values
    flat = [v.decode("utf-8") if isinstance(v, bytes) else v for v in values.ravel().tolist()]
    return np.array(flat, dtype=object).reshape(values.shape)


def _without_empty_places(answers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Cuts lists off where no row has a name, and blanks what stands beside an empty name."""
    cut = dict(answers)
    for listed in answers.values():
        if listed.dtype != object or listed.ndim != 2:
            continue
        named = listed != ""
        used = max(1, int(named.any(axis=0).nonzero()[0].max(initial=0)) + 1)
        for name, values in answers.items():
            if values.shape != listed.shape:
                continue
            blanked = np.where(named, values, np.nan) if values.dtype.kind == "f" else values
            cut[name] = blanked[:, :used]
    return cut


def _side_by_side(name: str, width: int, objective: Mapping[str, Any]) -> Sequence[str]:
    """Names of the columns of an answer with several values: by class or level, else numbered."""
    listed = objective.get("classes") or objective.get("levels") or []
    if name == "probabilities" and len(listed) == width:
        return [f"probability_{value}" for value in listed]
    return [f"{name}_{number}" for number in range(1, width + 1)]
