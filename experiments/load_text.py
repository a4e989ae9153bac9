"""From records with a text and a label to a federated task: hash, label, partition, split.

The texts are hashed (`data.hashed_text`): no vocabulary is built from clients' words. The values of
the label must be public: a named data set brings them, the user's own table needs --classes, or
--infer_schema at the price that the report states. No TensorFlow.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from absl import flags

from experiments import build_task
from experiments.build_task import LoadedClients
from experiments.flags_without_effect import PERSONS_ONLY_DECLARED
from experiments.use_case import UseCase
from fl_research.data.client_data import ClientData
from fl_research.data.column_names import there_is
from fl_research.data.hashed_text import HashedText
from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.preparation import text as text_preparation
from fl_research.data.schema import cells
from fl_research.errors import InputError
from fl_research.objectives.objective import Objective
from fl_research.task import FederatedTask

FLAGS = flags.FLAGS

NOT_WITH_TEXTS = {
    "schema": "a text is hashed and needs none",
    "drop_columns": "columns that are not named are not read",
    "person_column": PERSONS_ONLY_DECLARED,
}
"""Flags that no task of texts reads -> why."""
_MISSING = -1
_MOST_INFERRED = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextColumns:
    """Which columns of a table are what.

    Attributes:
      text: The text.
      label: The label.
      client: Who a row belongs to; None: each row is a client.
    """

    text: str
    label: str
    client: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelValues:
    """The values of a label.

    Attributes:
      values: As stripped texts; a label is its place in them.
      inferred: Whether they were read off the records, which no epsilon covers.
    """

    values: tuple[str, ...]
    inferred: bool = False


def text_settings() -> HashedText:
    """Returns how texts are hashed, by the flags.

    Raises:
      InputError: A value that is not possible.
    """
    given: dict[str, Any] = {
        "buckets": FLAGS.buckets,
        "word_ngrams": FLAGS.text_word_ngrams,
        "char_ngrams": _whole_numbers(FLAGS.text_char_ngrams),
        "max_features": FLAGS.text_max_features,
    }
    return HashedText(**{name: value for name, value in given.items() if value is not None})


def table_columns(records: pd.DataFrame, label_flag: str = "label_column") -> TextColumns:
    """Returns the columns of --dataset=table by the flags.

    Args:
      records: The table.
      label_flag: The flag that names the label.

    Raises:
      InputError: --text_column or the label's flag is missing, or a column is not there or named
        twice.
    """
    names: dict[str, str | None] = {}
    flag_of = {"text": "text_column", "label": label_flag, "client": "client_column"}
    for part, flag in flag_of.items():
        name = FLAGS[flag].value
        if name is None and part == "client":
            continue
        if name is None:
            raise InputError(f"--{flag} is not given; {there_is('', records.columns)}")
        if name not in records.columns:
            raise InputError(f"--{flag}={name} is no column; {there_is(name, records.columns)}")
        if name in names.values():
            raise InputError(f"--{flag}={name} has another part already; name another column")
        names[part] = name
    return TextColumns(**names)  # type: ignore[arg-type]


def label_values(loaded: LoadedRecords, column: str) -> LabelValues:
    """Returns the values of the label: public ones, or those that the records have.

    Args:
      loaded: Records; those of a named data set have `classes` among their facts.
      column: The label.

    Raises:
      InputError: They are not known, or not at least two different ones.
    """
    if "classes" in loaded.facts:
        if FLAGS.classes:
            raise InputError(
                f"--classes={FLAGS.classes} belongs to --dataset=table; {FLAGS.dataset} brings its "
                "own list, leave the flag out"
            )
        return LabelValues(values=tuple(loaded.facts["classes"]))
    if bool(FLAGS.classes) == bool(FLAGS.infer_schema):
        raise InputError(
            f"the values of {column!r} must be known: give either --classes=FILE with the public "
            "list of them, or --infer_schema (they are then read off the data, which epsilon does "
            "not cover)"
        )
    if FLAGS.classes:
        return LabelValues(values=_listed(FLAGS.classes))
    found = {spelling[0] for spelling in cells.read_texts(loaded.records[column]).spellings}
    values = tuple(sorted(found - {""}))
    if len(values) > _MOST_INFERRED:
        raise InputError(
            f"--label_column={column} has {len(values):,} different values, more than "
            f"{_MOST_INFERRED:,}; name the column of the label, or list its values by --classes"
        )
    return LabelValues(values=values, inferred=True)


def label_indices(records: pd.DataFrame, column: str, values: Sequence[str]) -> np.ndarray:
    """Returns the place of each record's label in `values`, int32; -1 where it is missing.

    Raises:
      InputError: A label is none of the values.
    """
    texts = cells.read_texts(records[column])
    place = {value: index for index, value in enumerate(values)}
    unknown = len(values)

    def index(spellings: tuple[str, ...]) -> int:
        known = next((place[text] for text in spellings if text in place), unknown)
        return _MISSING if known == unknown and "" in spellings else known

    indices = texts.per_row([index(spellings) for spellings in texts.spellings], _MISSING)
    wrong = np.flatnonzero(indices == unknown)
    if wrong.size:
        raise InputError(
            f"column {column!r}, row {wrong[0] + 1} (the header not counted): "
            f"{str(records[column].iloc[wrong[0]])[:60]!r} is none of the {len(values)} known "
            f"labels; {there_is(str(records[column].iloc[wrong[0]]), values)}"
        )
    return indices.astype(np.int32)


def encoded_texts(
    loaded: LoadedRecords,
    columns: TextColumns,
    labels: np.ndarray,
    settings: HashedText,
    *,
    seed: int,
    inferred: bool = False,
    natural_unit: str = "one customer",
) -> LoadedClients:
    """Hashes the texts and groups the rows by client; of an official test each row is one.

    Args:
      loaded: The records.
      columns: Their columns.
      labels: int32, one a record; -1: missing, the record is left out.
      settings: How texts are hashed.
      seed: Of a simulated partition.
      inferred: Whether the values of the labels were read off the records.
      natural_unit: What a client of a named data set is, in words.

    Raises:
      InputError: No record has a text and a label, a client is missing, or wrong flags.
    """
    records = loaded.records
    rows = text_preparation.encode_column(records, columns.text, settings)
    labelled = labels[rows.kept] != _MISSING
    if not labelled.any():
        raise InputError(f"no record with a text has a label in {columns.label!r}; give some")
    cleaning = {**loaded.cleaning, "records read": len(records), **rows.cleaning}
    if not labelled.all():
        cleaning["records without a label left out"] = int((~labelled).sum())
    places = np.flatnonzero(rows.kept)[labelled]
    ids, labels = rows.ids[labelled], labels[places]
    is_test = np.zeros(len(places), bool)
    if loaded.split_column is not None:
        is_test = (records[loaded.split_column].iloc[places] == "test").to_numpy()
    owners = _client_names(records, columns.client, places)
    natural = None if owners is None else owners[~is_test]
    clients = build_task.partition_ids(labels[~is_test], natural, seed)
    unit, contains = build_task.unit_words(columns.client, natural_unit)
    official = None
    if loaded.split_column is not None:
        official = ClientData.from_rows({"ids": ids[is_test]}, labels[is_test], None)
    facts = build_task.source_facts(loaded)
    facts.pop("classes", None)
    public = ["how texts are hashed", *([] if inferred else ["the values of the label"])]
    return LoadedClients(
        clients=ClientData.from_rows({"ids": ids[~is_test]}, labels[~is_test], clients),
        unit=unit,
        unit_contains=contains,
        feature_names=(),
        facts=facts | {"schema_inferred": inferred, "cleaning": cleaning, "public": public},
        official_test=official,
    )


def text_task(
    use_case: UseCase,
    loaded: LoadedClients,
    *,
    preparation: Mapping[str, Any],
    objective: Objective,
    seed: int,
    **parts: Any,
) -> FederatedTask:
    """Splits the clients and puts the task together.

    Args:
      use_case: Its name.
      loaded: From `encoded_texts`.
      preparation: From `data.preparation.text.settings_of`.
      objective: What the model's outputs mean.
      seed: Of the split.
      **parts: Further fields of the task, such as `analyses`.
    """
    loaded, splits = build_task.split_clients(loaded, seed)
    train, validation, test = splits
    return FederatedTask(
        name=use_case.name,
        train=train,
        validation=validation,
        test=test,
        objective=objective,
        unit=loaded.unit,
        unit_contains=loaded.unit_contains,
        feature_names=(),
        preparation=preparation,
        data_facts=build_task.data_facts(loaded, splits),
        **parts,
    )


def _client_names(records: pd.DataFrame, column: str | None, places: np.ndarray) -> Any:
    """The client of each of these records, stripped text; None: each is one."""
    if column is None:
        return None
    texts = cells.read_texts(records[column].iloc[places])
    usual = [spellings[0] for spellings in texts.spellings]
    names = texts.per_row(np.array(usual, dtype=object), "")
    if (names == "").any():
        row = int(places[np.flatnonzero(names == "")[0]]) + 1
        raise InputError(
            f"column {column!r}, row {row} (the header not counted) names no client; fill it in or "
            "leave the row out"
        )
    return names


def _whole_numbers(values: list[str] | None) -> tuple[int, ...] | None:
    """A list flag as whole numbers; one empty item is no number at all."""
    if values is None:
        return None
    try:
        return tuple(int(value) for value in values if value.strip())
    except ValueError:
        raise InputError(
            f"--text_char_ngrams={','.join(values)} is no list of whole numbers; give such as 3,4"
        ) from None


def _listed(path: str) -> tuple[str, ...]:
    """The names in a file."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--classes={path} cannot be read ({type(error).__name__}); give a text file in UTF-8"
        ) from None
    if not text.lstrip().startswith("["):
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    try:
        names = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"--classes={path} is not JSON ({error.msg}); correct it") from None
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"--classes={path} is no list of texts; write each name in quotes")
    return tuple(name.strip() for name in names)
