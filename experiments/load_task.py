"""From the data flags to the task of a table of features: read, encode, partition, cap, split.

Named data sets bring their schema. `--dataset=table` takes the user's own: a file, a folder, a
database or an address, with `--schema`, or with `--infer_schema` at the price that the report
states; or the folder of a population, whose records are encoded already. No TensorFlow.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from absl import flags

from experiments import build_task
from experiments.build_task import LoadedClients
from experiments.load_population import is_selected, load_population
from experiments.read_source import read_source
from experiments.use_case import UseCase
from fl_research.data.client_data import ClientData
from fl_research.data.clients import Clients
from fl_research.data.input_columns import input_columns
from fl_research.data.label_copies import notes_of, suspicious_columns
from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.person_overlap import most_clients_per_person, rows_within_bound
from fl_research.data.schema import Column, Schema, encode
from fl_research.data.sources import redact
from fl_research.errors import InputError
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.objective import Objective
from fl_research.task import FederatedTask

FLAGS = flags.FLAGS

ObjectiveOf = Callable[[Column], Objective]


def load_table_task(
    use_case: UseCase,
    seed: int,
    *,
    objective_of: ObjectiveOf | None = None,
    natural_unit: str = "one customer",
    label_levels: Sequence[str] | None = None,
    **parts: Any,
) -> FederatedTask:
    """Reads, encodes, partitions and splits the records that the flags name.

    Args:
      use_case: Names the data sets.
      seed: Seed of partition, cap and split.
      objective_of: The schema's label column -> the objective; binary classification otherwise.
      natural_unit: What a client of a named data set is, in words.
      label_levels: For --infer_schema, as in `Schema.infer`.
      **parts: Further fields of the task, such as `analyses`.

    Raises:
      InputError: Wrong flags or wrong records; says which and the way out.
    """
    if is_selected():
        loaded, schema = load_population(), None
    else:
        records = with_schema(read_source(use_case, seed), label_levels)
        schema = records.schema
        loaded = encoded_clients(records, seed, natural_unit)
    loaded, (train, validation, test) = build_task.split_clients(loaded, seed)
    if schema is not None:
        loaded = with_label_copies(loaded, train, schema)
    return FederatedTask(
        name=use_case.name,
        train=train,
        validation=validation,
        test=test,
        objective=_objective(schema, objective_of),
        unit=loaded.unit,
        unit_contains=loaded.unit_contains,
        feature_names=loaded.feature_names,
        preparation={"kind": "table", "schema": loaded.facts["schema"]},
        data_facts=build_task.data_facts(loaded, (train, validation, test)),
        **parts,
    )


def encoded_clients(
    loaded: LoadedRecords, seed: int, natural_unit: str = "one customer"
) -> LoadedClients:
    """Encodes records by their schema and groups them by client.

    Args:
      loaded: Records with a schema; of an official test split each row is a client.
      seed: Seed of a simulated partition.
      natural_unit: What a client of a named data set is, in words.

    Raises:
      InputError: Wrong records or partition flags.
    """
    schema = loaded.schema
    assert schema is not None
    records, official = loaded.records, None
    cleaning = dict(loaded.cleaning)
    if loaded.split_column is not None:
        is_test = (records[loaded.split_column] == "test").to_numpy()
        records = records.drop(columns=loaded.split_column)
        tested = encode(records[is_test].reset_index(drop=True), schema)
        official = ClientData.from_rows({"inputs": tested.inputs}, tested.labels, None)
        records = records[~is_test].reset_index(drop=True)
        cleaning |= {f"official test split: {rule}": n for rule, n in tested.cleaning.items()}
    encoded = encode(records, schema)
    ids = build_task.partition_ids(encoded.labels, encoded.client_ids, seed)
    column = schema.client_column
    unit, contains = build_task.unit_words(column.name if column else None, natural_unit)
    return LoadedClients(
        clients=ClientData.from_rows({"inputs": encoded.inputs}, encoded.labels, ids),
        unit=unit,
        unit_contains=contains,
        feature_names=encoded.feature_names,
        facts=build_task.source_facts(loaded) | {"cleaning": cleaning | encoded.cleaning},
        official_test=official,
    )


def with_schema(loaded: LoadedRecords, label_levels: Sequence[str] | None = None) -> LoadedRecords:
    """Gives the user's own table its schema: that of --schema, or one inferred.

    Args:
      loaded: Records; those of a named data set have their schema.
      label_levels: For --infer_schema, as in `Schema.infer`.

    Raises:
      InputError: No schema, two, or one that contradicts the flags.
    """
    if loaded.schema is not None:
        return loaded
    if bool(FLAGS.schema) == bool(FLAGS.infer_schema):
        raise InputError(
            "--dataset=table needs either --schema=FILE, or --infer_schema (bounds and categories "
            "are then read off the data, which epsilon does not cover)"
        )
    frame = loaded.records
    schema = Schema.from_json(FLAGS.schema) if FLAGS.schema else None
    persons = _taken_out_persons(frame)
    if schema is None:
        schema = _infer_schema(frame, label_levels)
    else:
        frame = _apply_drops(frame, schema)
    facts: dict[str, Any] = {}
    if persons is not None:
        frame, facts = _within_bound_of_persons(frame, persons, schema)
    return dataclasses.replace(
        loaded, records=frame, schema=schema, facts={**loaded.facts, **facts}
    )


def with_label_copies(loaded: LoadedClients, train: Clients, schema: Schema) -> LoadedClients:
    """Notes what gives the label away, and refuses columns that are copies of it.

    Args:
      loaded: All clients; gets the notes.
      train: The clients whose rows are looked at, with one label a row.
      schema: Of the feature `inputs`.

    Raises:
      InputError: A column is a copy of the label, and --allow_label_copies is not given.
    """
    assert isinstance(train, ClientData)
    copies = suspicious_columns(train.features["inputs"], train.labels, input_columns(schema))
    notes = notes_of(copies, allowed=bool(FLAGS.allow_label_copies))
    facts = {**loaded.facts, "notes": [*loaded.facts["notes"], *notes]}
    if notes:
        facts["disclosed"] = ["which values tell the label of how many training rows (notes)"]
    return dataclasses.replace(loaded, facts=facts)


def _objective(schema: Schema | None, objective_of: ObjectiveOf | None) -> Objective:
    """What the labels are."""
    if schema is None:
        return BinaryClassification()
    if objective_of is not None:
        return objective_of(schema.label_column)
    return BinaryClassification(positive=schema.label_column.positive)


def _taken_out_persons(frame: pd.DataFrame) -> pd.Series | None:
    """Takes --person_column out of the table: a name of a person is nothing to learn from."""
    column = FLAGS.person_column
    if column is None:
        return None
    if column not in frame.columns:
        raise InputError(f"--person_column: {column} is not in {redact(FLAGS.data)}")
    return frame.pop(column)


def _within_bound_of_persons(
    frame: pd.DataFrame, persons: pd.Series, schema: Schema
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The rows of persons in no more clients than --clients_per_person, and the facts of it."""
    if schema.client_column is None or FLAGS.partition != "natural":
        raise InputError(
            f"--person_column={persons.name} needs clients that the data names; give "
            "--client_column, and no simulated --partition"
        )
    clients = frame[schema.client_column.name]
    if FLAGS.clients_per_person is None:
        most = most_clients_per_person(persons, clients)
        return frame, {
            "clients_per_person": most,
            "clients_per_person_known_from": f"read off column {persons.name}, which ε does not "
            "cover",
        }
    kept = rows_within_bound(
        persons, clients, clients_per_person=FLAGS.clients_per_person, seed=FLAGS.seed
    )
    left_out = int((~kept).sum())
    return frame[kept].reset_index(drop=True), {
        "clients_per_person": FLAGS.clients_per_person,
        "clients_per_person_known_from": f"enforced by column {persons.name}: {left_out:,} rows of "
        "persons in further clients were left out",
    }


def _infer_schema(frame: pd.DataFrame, label_levels: Sequence[str] | None) -> Schema:
    """A schema read off the data."""
    if FLAGS.label_column is None:
        raise InputError("--label_column is not given; --infer_schema needs to know the label")
    return Schema.infer(
        frame,
        label_column=FLAGS.label_column,
        positive_label=FLAGS.positive_label,
        label_levels=label_levels,
        client_column=FLAGS.client_column,
        drop_columns=tuple(FLAGS.drop_columns or ()),
    )


def _apply_drops(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Drops --drop_columns, and refuses column flags that contradict the schema."""
    label, client = schema.label_column, schema.client_column
    for flag, name in (
        ("label_column", label.name),
        ("positive_label", label.positive),
        ("client_column", client.name if client else None),
    ):
        if FLAGS[flag].value not in (None, name):
            raise InputError(
                f"--{flag}={FLAGS[flag].value} contradicts --schema={FLAGS.schema}, which says "
                f"{name}; leave the flag out or correct the schema"
            )
    dropped = FLAGS.drop_columns or []
    for column in dropped:
        if column not in frame.columns:
            raise InputError(f"--drop_columns: {column} is not in {redact(FLAGS.data)}")
    return frame.drop(columns=dropped)
