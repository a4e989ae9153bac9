"""From the flags to a task of satisfaction analysis: a table of answers, or a text. No TensorFlow.

What the label is follows from it: one positive value makes two classes, levels in order make it
ordinal.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from absl import flags

from experiments import load_population, load_text
from experiments.flags_without_effect import refuse_flags
from experiments.load_task import load_table_task
from experiments.read_source import read_source
from experiments.use_case import UseCase
from fl_research.analyses.feature_effects import FeatureEffects
from fl_research.analyses.groups import Groups, group_columns
from fl_research.analyses.value_effects import ValueEffects
from fl_research.data.column_names import there_is
from fl_research.data.preparation import text as text_preparation
from fl_research.data.schema import Column, Schema, cells
from fl_research.data.schema.schema_inference import label_levels_of
from fl_research.data.synthetic import survey
from fl_research.errors import InputError
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.objective import Objective
from fl_research.objectives.ordinal import Ordinal
from fl_research.task import FederatedTask

if TYPE_CHECKING:
    from fl_research.analysis import Analysis

FLAGS = flags.FLAGS

_SYNTHETIC_TEXT = "synthetic_text"
_GROUPS = {"synthetic": ["branch"], "airline_satisfaction": ["Class", "Type of Travel"]}
_UNITS = {"airline_satisfaction": "one passenger"}


def load_satisfaction_task(use_case: UseCase, seed: int) -> FederatedTask:
    """Reads the records that the flags name, as texts or as a table.

    Args:
      use_case: Names the data sets.
      seed: Seed of generated data, partition, cap and split.

    Raises:
      InputError: Wrong flags or wrong records; says which and the way out.
    """
    _check_label_flags()
    if FLAGS.text_column is not None or FLAGS.dataset == _SYNTHETIC_TEXT:
        return _text_task(use_case, seed)
    if FLAGS.rating_column is not None:
        raise InputError(
            f"--rating_column={FLAGS.rating_column} goes with --text_column; for a table of "
            "answers give --label_column"
        )
    task = load_table_task(
        use_case,
        seed,
        objective_of=objective_of,
        natural_unit=_UNITS.get(FLAGS.dataset, "one customer"),
        label_levels=None if FLAGS.positive_label else FLAGS.label_levels or (),
    )
    return dataclasses.replace(task, analyses=_analyses(task))


def _analyses(task: FederatedTask) -> "tuple[Analysis, ...]":
    """What is computed from the trained model; its settings are checked here, before training."""
    if load_population.is_selected():
        # A population comes encoded: nobody knows which of its inputs are one column.
        if FLAGS.group_columns:
            raise InputError(
                f"--group_columns={','.join(FLAGS.group_columns)}: {FLAGS.data} is a population, "
                "whose columns are encoded already; leave the flag out"
            )
        return ()
    analyses: list[Analysis] = []
    if FLAGS.feature_effects:
        analyses += [FeatureEffects(repeats=FLAGS.feature_effects_repeats), ValueEffects()]
    names = FLAGS.group_columns
    if names is None:
        names = _GROUPS.get(FLAGS.dataset, [])
    if names := [name.strip() for name in names if name.strip()]:
        group_columns(Schema.from_dict(task.preparation["schema"]), names)
        analyses.append(Groups(columns=tuple(names)))
    return tuple(analyses)


def objective_of(label: Column) -> Objective:
    """Returns what a label is: two classes, or levels in order.

    Args:
      label: The label's column; --label_levels, where given, must be its values.

    Raises:
      InputError: --label_levels contradicts the schema.
    """
    values = label.values or ()
    if FLAGS.label_levels and tuple(FLAGS.label_levels) != values:
        raise InputError(
            f"--label_levels={','.join(FLAGS.label_levels)} contradicts the schema, whose "
            f"{label.name!r} has the values {','.join(values)}; leave the flag out or correct one"
        )
    if label.positive is not None:
        return BinaryClassification(positive=label.positive)
    if len(values) == 2:
        return BinaryClassification(positive=values[1])
    return Ordinal(levels=values)


def _check_label_flags() -> None:
    """Flags about the label that exclude each other, or that a named data set answers itself."""
    if FLAGS.label_levels and FLAGS.positive_label:
        raise InputError(
            f"--label_levels={','.join(FLAGS.label_levels)} and --positive_label="
            f"{FLAGS.positive_label} say two things of the label; give one of them"
        )
    if FLAGS.label_levels and FLAGS.dataset != "table":
        raise InputError(
            f"--label_levels={','.join(FLAGS.label_levels)} belongs to --dataset=table; "
            f"{FLAGS.dataset} brings its own levels, leave the flag out"
        )
    if FLAGS.classes:
        raise InputError(
            f"--classes={FLAGS.classes} is for classes without an order; give --label_levels"
        )


def _text_task(use_case: UseCase, seed: int) -> FederatedTask:
    """A task of texts: hashed, with a label of two classes or of levels."""
    refuse_flags(load_text.NOT_WITH_TEXTS, "texts")
    for flag in ("label_levels", "positive_label"):
        if FLAGS[flag].value:
            refuse_flags({"infer_schema": "nothing is read off the data then"}, f"--{flag}")
    loaded = read_source(use_case, seed)
    if FLAGS.dataset == _SYNTHETIC_TEXT:
        columns = load_text.TextColumns(text="comment", label="satisfaction", client="customer_id")
    else:
        columns = _table_columns(loaded.records)
    cells_of_label = loaded.records[columns.label]
    objective: Objective
    if FLAGS.positive_label is not None:
        labels = _positive_labels(cells_of_label, FLAGS.positive_label)
        objective = BinaryClassification(positive=FLAGS.positive_label)
    else:
        levels = tuple(_text_levels(cells_of_label))
        labels = load_text.label_indices(loaded.records, columns.label, levels)
        objective = Ordinal(levels=levels)
    settings = load_text.text_settings()
    encoded = load_text.encoded_texts(
        dataclasses.replace(loaded, schema=None),  # A table's; a text has none.
        columns,
        labels,
        settings,
        seed=seed,
        inferred=bool(FLAGS.infer_schema),
    )
    return load_text.text_task(
        use_case,
        encoded,
        preparation=text_preparation.settings_of(columns.text, settings),
        objective=objective,
        seed=seed,
    )


def _table_columns(records: pd.DataFrame) -> load_text.TextColumns:
    """Text, label and client of --dataset=table; --rating_column is the label by another name."""
    if (FLAGS.label_column is None) == (FLAGS.rating_column is None):
        raise InputError(
            f"--text_column={FLAGS.text_column} needs one label; give either --label_column or "
            "--rating_column"
        )
    given = {
        "text_column": FLAGS.text_column,
        "label_column": FLAGS.label_column or FLAGS.rating_column,
        "client_column": FLAGS.client_column,
    }
    for flag, name in given.items():
        if name is not None and name not in records.columns:
            raise InputError(f"--{flag}={name} is no column; {there_is(name, records.columns)}")
    names = [name for name in given.values() if name is not None]
    if len(set(names)) < len(names):
        raise InputError(
            f"the columns {', '.join(names)} name one twice; give text, label and client each a "
            "column of its own"
        )
    return load_text.TextColumns(
        text=given["text_column"], label=given["label_column"], client=given["client_column"]
    )


def _text_levels(column: "pd.Series[Any]") -> Sequence[str]:
    """The values of a text's label in order."""
    if FLAGS.dataset == _SYNTHETIC_TEXT:
        return survey.LEVELS
    if not FLAGS.label_levels and not FLAGS.infer_schema:
        raise InputError(
            f"what the values of {column.name!r} mean must be known: give --label_levels in order, "
            "or --positive_label for two classes, or --infer_schema for numbers (they are then "
            "read off the data, which epsilon does not cover)"
        )
    return label_levels_of(column, str(column.name), FLAGS.label_levels or (), ("",))


def _positive_labels(column: "pd.Series[Any]", positive: str) -> np.ndarray:
    """1 for the positive value, 0 for any other, -1 where the label is missing; int32 [records]."""
    texts = cells.read_texts(column)
    wanted = positive.strip()
    if not any(wanted in spellings for spellings in texts.spellings):
        found = sorted(spellings[0] for spellings in texts.spellings)
        raise InputError(
            f"--positive_label={positive} is none of the values of {column.name!r}; "
            f"{there_is(positive, found)}"
        )
    values = [-1 if "" in spellings else int(wanted in spellings) for spellings in texts.spellings]
    return texts.per_row(values, -1).astype(np.int32)
