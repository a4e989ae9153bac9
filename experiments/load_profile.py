"""From the data flags to the task of customer_profile: encode, say who is a client, split.

Where each row is a client, clients are split, and test customers were never trained on. Where a
department is a client, the rows of each department are split, so that what is learned for a
department can be tried on other customers of its own. An official split stays as it is. No
TensorFlow.
"""

import dataclasses
from typing import Any

import numpy as np
from absl import flags

from experiments import build_task, load_population, profile_flags
from experiments.build_task import LoadedClients
from experiments.load_task import with_label_copies, with_schema
from experiments.read_source import read_source
from experiments.split_departments import split_departments
from experiments.use_case import UseCase
from fl_research.analyses.personalized_heads import PersonalizedHeads
from fl_research.data.client_data import ClientData
from fl_research.data.clients import Clients
from fl_research.data.column_names import there_is
from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.schema import Column, Schema, cells, encode
from fl_research.errors import InputError
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.clustering import NOT_KNOWN, Clustering
from fl_research.objectives.objective import Objective
from fl_research.task import FederatedTask

FLAGS = flags.FLAGS

_DEFAULT_SEGMENTS = 5
_MOST_GROUPS = 200
_TRUE_SEGMENT_OF = {"synthetic": "segment"}

Splits = tuple[Clients, Clients, Clients]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """Encoded rows, with what is known of each.

    Attributes:
      inputs: float32 [rows, features].
      labels: int32 [rows, ...], those of the task.
      departments: [rows], the client column's values; None where there is no such column.
      cleaning: What the schema's rules did.
    """

    inputs: np.ndarray
    labels: np.ndarray
    departments: np.ndarray | None
    cleaning: dict[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Records:
    """Records with their schema, the true segments taken out.

    Attributes:
      loaded: The records; their schema does not know the true segment.
      group: int32 [records], the true segment, -1 where it is not known.
      groups: The names of the true segments, in order; empty where there are none.
    """

    loaded: LoadedRecords
    schema: Schema
    group: np.ndarray
    groups: tuple[str, ...]


def load_profile_task(use_case: UseCase, seed: int) -> FederatedTask:
    """Reads, encodes and splits the records that the flags name.

    Args:
      use_case: Names the data sets.
      seed: Of generated data, of a simulated partition and of the split.

    Raises:
      InputError: Wrong flags or wrong records; says which and the way out.
    """
    is_segments = FLAGS.profile_task == "segments"
    _check_flags(is_segments)
    records = _read(use_case, seed)
    train_rows, test_rows = _encoded(records, is_segments)
    client = profile_flags.client_of_task()
    loaded = _clients(records, train_rows, client, seed)
    if test_rows is not None:
        ids = test_rows.departments if client == "department" else None
        official = ClientData.from_rows({"inputs": test_rows.inputs}, test_rows.labels, ids)
        loaded = dataclasses.replace(loaded, official_test=official)
    if client == "customer":
        loaded, splits = build_task.split_clients(loaded, seed)
        who = "rows" if FLAGS.dataset == "table" else "customers"
        words = f"{who} that were never trained on"
    else:
        loaded, splits = split_departments(loaded, seed)
        words = "other customers of the departments that train"
    if is_segments:
        _check_whole_batches(splits[0])
    else:
        loaded = with_label_copies(loaded, splits[0], records.schema)
    has_own_heads = not is_segments and client == "department"
    return FederatedTask(
        name=use_case.name,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        objective=_objective(records, is_segments),
        unit=loaded.unit,
        unit_contains=loaded.unit_contains,
        feature_names=loaded.feature_names,
        preparation={"kind": "table", "schema": records.schema.to_dict()},
        data_facts=build_task.data_facts(loaded, splits),
        evaluated_on=f"the official test split: {words}" if test_rows else words,
        test_clients_train=client == "department",
        analyses=(PersonalizedHeads(),) if has_own_heads else (),
    )


# ------------------------------------------------------------------------------------- flags


def _check_flags(is_segments: bool) -> None:
    """Raises InputError for flags that do not go with the task or with Lloyd's iteration."""
    fewest, client = FLAGS.min_rows_per_department, profile_flags.client_of_task()
    if FLAGS.person_column is not None and client == "customer":
        raise InputError(
            f"--person_column={FLAGS.person_column} counts the values of the client column that a "
            "person is in, but here rows make the clients; select --profile_client=department, or "
            "say with --clients_per_person in how many rows a person is at most"
        )
    if fewest is not None and (fewest < 1 or client == "customer"):
        raise InputError(
            f"--min_rows_per_department={fewest} is not possible; give a whole number, 1 or more, "
            "and only with --profile_client=department"
        )
    if not is_segments:
        if FLAGS.model == "k_means":
            raise InputError(
                "--model=k_means finds segments, and worth is a label; take logistic_regression "
                "or mlp, or --profile_task=segments"
            )
        for name in ("segments", "segment_column"):
            if FLAGS[name].value is not None:
                raise InputError(
                    f"--{name}={FLAGS[name].value} belongs to --profile_task=segments, but worth "
                    "is selected; leave the flag out or select that task"
                )
        return
    if FLAGS.segments is not None and FLAGS.segments < 2:
        raise InputError(
            f"--segments={FLAGS.segments} is not possible; give a whole number, 2 or more"
        )
    if FLAGS.segment_column is not None and FLAGS.dataset != "table":
        raise InputError(
            f"--segment_column={FLAGS.segment_column} belongs to --dataset=table, but "
            f"{FLAGS.dataset} is selected; leave the flag out"
        )
    wanted = {
        "model": "k_means",
        "client_optimizer": "sgd",
        "client_learning_rate": 1.0,
        "client_momentum": None,
        "local_epochs": 1,
        "server_optimizer": "lloyd",
    }
    for name, value in wanted.items():
        if FLAGS[name].value != value:
            raise InputError(
                f"--{name}={FLAGS[name].value}: segments are found by Lloyd's iteration, which "
                + (f"needs {value}; leave the flag out" if value else "has none; leave it out")
            )


def _check_whole_batches(train: Clients) -> None:
    """Raises InputError where a client's sums and counts would not come from all of its rows."""
    most = int(train.rows_per_client.max(initial=0))
    if most > FLAGS.batch_size:
        raise InputError(
            f"--batch_size={FLAGS.batch_size} is less than the {most} rows of the largest client; "
            "k_means takes all rows of a client in one step: leave the flag out, or cap the rows "
            "with --max_rows_per_client"
        )


# ----------------------------------------------------------------------------------- records


def _read(use_case: UseCase, seed: int) -> _Records:
    """Reads the records, takes the true segment out, and gives them their schema."""
    if load_population.is_selected():
        raise InputError(
            f"--data={FLAGS.data} is a population, whose records are encoded already; "
            "customer_profile describes segments in the units of records: give a table"
        )
    loaded = read_source(use_case, seed)
    frame = loaded.records
    column = FLAGS.segment_column or _TRUE_SEGMENT_OF.get(FLAGS.dataset)
    group = np.full(len(frame), NOT_KNOWN, np.int32)
    groups: tuple[str, ...] = ()
    if column is not None:
        if column not in frame.columns:
            raise InputError(
                f"--segment_column={column} is not there; {there_is(column, map(str, frame))}"
            )
        group, groups = _true_segments(column, frame[column])
        loaded = dataclasses.replace(loaded, records=frame.drop(columns=column))
    # A table with persons in several clients loses rows; its true segments would shift.
    if column is not None and FLAGS.person_column is not None:
        raise InputError(
            f"--segment_column={column} does not go with --person_column; leave one of them out"
        )
    loaded = with_schema(loaded)
    schema = loaded.schema
    assert schema is not None
    columns = tuple(c for c in schema.columns if c.name != column)
    for found in schema.columns:
        if found.name == column and found.kind != "ignore":
            raise InputError(
                f"--segment_column={column} is a {found.kind} of the schema; give it the kind "
                '"ignore", or the model would be told what it is to find'
            )
    schema = dataclasses.replace(schema, columns=columns)
    return _Records(
        loaded=dataclasses.replace(loaded, schema=schema), schema=schema, group=group, groups=groups
    )


def _true_segments(column: str, values: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """The number of each record's true segment, -1 for a blank, and the segments' names."""
    texts = cells.read_texts(values)
    names = [spellings[0] for spellings in texts.spellings]
    groups = tuple(sorted({name for name in names if name}))
    if not 2 <= len(groups) <= _MOST_GROUPS:
        raise InputError(
            f"--segment_column={column} has {len(groups)} different values; a true segment has 2 "
            f"to {_MOST_GROUPS}"
        )
    number = {name: index for index, name in enumerate(groups)}
    codes = [number.get(name, NOT_KNOWN) for name in names]
    return texts.per_row(np.array(codes, np.int32), NOT_KNOWN).astype(np.int32), groups


def _encoded(records: _Records, is_segments: bool) -> tuple[_Rows, _Rows | None]:
    """The rows to train on, and those of an official test split."""
    frame, column = records.loaded.records, records.loaded.split_column
    if column is None:
        return _encode(records, np.ones(len(frame), bool), is_segments), None
    is_test = (frame[column] == "test").to_numpy()
    return _encode(records, ~is_test, is_segments), _encode(records, is_test, is_segments)


def _encode(records: _Records, chosen: np.ndarray, is_segments: bool) -> _Rows:
    """Encodes some of the records; the labels are the task's."""
    frame = records.loaded.records[chosen].reset_index(drop=True)
    if records.loaded.split_column is not None:
        frame = frame.drop(columns=records.loaded.split_column)
    encoded = encode(frame, records.schema)
    labels = encoded.labels
    if is_segments:
        is_worth = _worth_words(records.schema) is not None
        worth = labels if is_worth else np.full_like(labels, NOT_KNOWN)
        labels = np.stack([records.group[chosen][encoded.rows], worth], axis=1)
    return _Rows(
        inputs=encoded.inputs,
        labels=labels.astype(np.int32),
        departments=encoded.client_ids,
        cleaning=encoded.cleaning,
    )


def _worth_words(schema: Schema) -> str | None:
    """What label 1 means; None where the label has more than two values."""
    label = schema.label_column
    if label.positive is not None:
        return f"{label.name} = {label.positive}"
    values = label.values or ()
    return f"{label.name} = {values[1]}" if len(values) == 2 else None


def _objective(records: _Records, is_segments: bool) -> Objective:
    """What the model's outputs mean."""
    if not is_segments:
        return BinaryClassification(positive=_worth_words(records.schema))
    return Clustering(
        segments=_DEFAULT_SEGMENTS if FLAGS.segments is None else FLAGS.segments,
        columns=tuple(c for c in records.schema.columns if c.kind in ("number", "category")),
        groups=records.groups,
        worth=_worth_words(records.schema),
    )


# ----------------------------------------------------------------------------------- clients


def _clients(records: _Records, rows: _Rows, client: str, seed: int) -> LoadedClients:
    """All clients before the split."""
    column = records.schema.client_column
    if client == "customer":
        _check_rows_are_clients(column)
        label = rows.labels[:, 1] if rows.labels.ndim > 1 else rows.labels
        ids = build_task.partition_ids(label, None, seed)
        unit, contains = build_task.unit_words(None)
        if FLAGS.partition == "natural" and FLAGS.dataset != "table":
            unit = "one customer"
    else:
        if FLAGS.partition != "natural":
            raise InputError(
                f"--partition={FLAGS.partition} deals rows to simulated clients, and "
                "--profile_client=department takes those of the data; leave one of them out"
            )
        if rows.departments is None or column is None:
            raise InputError(
                "--profile_client=department needs to know the department of a row; name its "
                "column with --client_column, or give a column of the schema the kind client"
            )
        ids = rows.departments
        unit, contains = "one department", f"all rows with the same {column.name}"
    return LoadedClients(
        clients=ClientData.from_rows({"inputs": rows.inputs}, rows.labels, ids),
        unit=unit,
        unit_contains=contains,
        feature_names=records.schema.feature_names,
        facts=build_task.source_facts(records.loaded)
        | {"cleaning": dict(records.loaded.cleaning) | rows.cleaning},
    )


def _check_rows_are_clients(column: Column | None) -> None:
    """Raises InputError where rows that belong together would silently be clients of their own."""
    if FLAGS.dataset != "table" or FLAGS.partition != "natural":
        return
    if column is not None and FLAGS.profile_client is None:
        raise InputError(
            f"the client column {column.name} says which rows belong together, and "
            "--profile_client is not given; choose customer (each row is a client: right only "
            f"where a row is a customer) or department (all rows with the same {column.name})"
        )
