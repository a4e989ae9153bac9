"""From the data flags to a federated task: read, encode, partition, cap, split.

Named data sets bring their schema. `--dataset=table` takes the user's own: a file, a folder, a
database or an address, with `--schema`, or with `--infer_schema` at the price that the report
states; or the folder of a population, whose records are encoded already. No TensorFlow.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from absl import flags

from experiments.component_flags import selected_flags
from experiments.load_population import LoadedClients, is_selected, load_population
from fl_research.data import catalog, partitioning
from fl_research.data.catalog import LoadedRecords
from fl_research.data.client_data import ClientData
from fl_research.data.clients import Clients
from fl_research.data.person_overlap import most_clients_per_person, rows_within_bound
from fl_research.data.schema import EncodedRecords, Schema, encode
from fl_research.data.sources import SourceOptions, checksum, read_records, redact
from fl_research.errors import InputError
from fl_research.task import FederatedTask

FLAGS = flags.FLAGS

_SOURCE_OPTIONS = {field.name for field in dataclasses.fields(SourceOptions)}
_PARTITIONS = ("natural", "iid", "dirichlet", "quantity")


def load_task(name: str, *, named_datasets: tuple[str, ...], seed: int) -> FederatedTask:
    """Reads, encodes, partitions and splits the records that the flags name.

    Args:
      name: The use case.
      named_datasets: Data sets of the catalog that this use case takes, besides `table`.
      seed: Seed of partition, cap and split.

    Raises:
      InputError: Wrong flags or wrong records; says which and the way out.
    """
    loaded = load_population() if is_selected() else _load_clients(named_datasets, seed)
    data, contains = loaded.clients, loaded.unit_contains
    if FLAGS.max_rows_per_client is not None:
        data = data.cap_rows(FLAGS.max_rows_per_client, seed)
        contains += f"; at most {FLAGS.max_rows_per_client} rows a client are kept"
    train, validation, test = data.split(
        validation_fraction=FLAGS.validation_fraction, test_fraction=FLAGS.test_fraction, seed=seed
    )
    return FederatedTask(
        name=name,
        train=train,
        validation=validation,
        test=test,
        primary_metric="auc",
        unit=loaded.unit,
        unit_contains=contains,
        feature_names=loaded.feature_names,
        data_facts=_data_facts(loaded, data, (train, validation, test)),
    )


def _load_clients(named_datasets: tuple[str, ...], seed: int) -> LoadedClients:
    """Reads and encodes the records of --dataset, and groups them by client."""
    loaded = _load_records(named_datasets, seed)
    encoded = encode(loaded.records, loaded.schema)
    client_ids, unit, contains = _clients(encoded, loaded, seed)
    return LoadedClients(
        clients=ClientData.from_rows({"inputs": encoded.inputs}, encoded.labels, client_ids),
        unit=unit,
        unit_contains=contains,
        feature_names=encoded.feature_names,
        facts={
            "source": loaded.source,
            "sha256": loaded.sha256,
            "terms": loaded.terms,
            "notes": list(loaded.notes),
            "schema_inferred": loaded.schema.inferred,
            "schema": loaded.schema.to_dict(),
            "cleaning": dict(encoded.cleaning),
            **loaded.facts,
        },
    )


def _load_records(named_datasets: tuple[str, ...], seed: int) -> LoadedRecords:
    """The records of --dataset with their schema."""
    if FLAGS.dataset not in (*named_datasets, "table"):
        raise InputError(
            f"--dataset={FLAGS.dataset} is unknown; choose from {', '.join(named_datasets)}, table"
        )
    table_flags = selected_flags("dataset")
    if FLAGS.dataset == "table":
        return _load_table(table_flags)
    return catalog.load(FLAGS.dataset, path=FLAGS.data, seed=seed)


def _load_table(table_flags: dict[str, Any]) -> LoadedRecords:
    """The user's own table with its schema."""
    if not FLAGS.data:
        raise InputError("--data is not given; --dataset=table needs a file, folder or address")
    if bool(FLAGS.schema) == bool(FLAGS.infer_schema):
        raise InputError(
            "--dataset=table needs either --schema=FILE, or --infer_schema (bounds and categories "
            "are then read off the data, which epsilon does not cover)"
        )
    schema = Schema.from_json(FLAGS.schema) if FLAGS.schema else None
    options = {name: value for name, value in table_flags.items() if name in _SOURCE_OPTIONS}
    if "columns" in options:
        options["columns"] = tuple(options["columns"])
    frame = read_records(FLAGS.data, SourceOptions(**options))
    persons = _taken_out_persons(frame)
    if schema is None:
        schema = _infer_schema(frame)
    else:
        frame = _apply_drops(frame, schema)
    facts: dict[str, Any] = {}
    if persons is not None:
        frame, facts = _within_bound_of_persons(frame, persons, schema)
    return LoadedRecords(
        records=frame,
        facts=facts,
        schema=schema,
        source=redact(FLAGS.data),
        sha256=checksum(FLAGS.data),
        terms="the user's own data",
    )


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


def _infer_schema(frame: pd.DataFrame) -> Schema:
    """A schema read off the data."""
    if FLAGS.label_column is None:
        raise InputError("--label_column is not given; --infer_schema needs to know the label")
    return Schema.infer(
        frame,
        label_column=FLAGS.label_column,
        positive_label=FLAGS.positive_label,
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


def _clients(
    encoded: EncodedRecords, loaded: LoadedRecords, seed: int
) -> tuple[np.ndarray | None, str, str]:
    """The client of each row, the unit of privacy in words, and what a unit contains."""
    if FLAGS.partition not in _PARTITIONS:
        raise InputError(
            f"--partition={FLAGS.partition} is unknown; choose from {', '.join(_PARTITIONS)}"
        )
    settings = selected_flags("partition")
    if FLAGS.partition != "natural" and "partition_clients" not in settings:
        raise InputError(f"--partition={FLAGS.partition} needs --partition_clients")
    rows = len(encoded.labels)
    if FLAGS.partition == "natural":
        client_column = loaded.schema.client_column
        if client_column is None:
            return None, "one row", "one row of the table, taken to be one customer"
        column = client_column.name
        if FLAGS.dataset == "table":
            return encoded.client_ids, f"one client ({column})", f"all rows with the same {column}"
        return encoded.client_ids, "one customer", f"all rows of one customer ({column})"
    clients = FLAGS.partition_clients
    if FLAGS.partition == "iid":
        ids = partitioning.iid(rows, clients, seed)
    elif FLAGS.partition == "dirichlet":
        concentration = FLAGS.dirichlet_concentration
        ids = partitioning.dirichlet_label_skew(
            encoded.labels, clients, 0.5 if concentration is None else concentration, seed
        )
    else:
        sigma = FLAGS.quantity_sigma
        ids = partitioning.quantity_skew(rows, clients, 1.0 if sigma is None else sigma, seed)
    return (
        ids,
        f"one simulated client ({FLAGS.partition} partition)",
        "the rows dealt to one of "
        f"{clients} simulated clients; a real customer's rows may lie in several of them",
    )


def _data_facts(
    loaded: LoadedClients, data: Clients, splits: tuple[Clients, Clients, Clients]
) -> dict[str, Any]:
    """What run.json says of the data."""
    inferred = loaded.facts["schema_inferred"]
    public = [
        "column names" if inferred else "column names and kinds",
        "the number of clients" if FLAGS.sampling != "poisson" else "the expected cohort size",
    ]
    if not inferred:
        public.append("bounds of number columns and values of category columns (from the schema)")
    return {
        "dataset": FLAGS.dataset,
        "clients_per_person": FLAGS.clients_per_person,
        **loaded.facts,
        "clients": data.num_clients,
        "examples": data.num_rows,
        "features": len(loaded.feature_names),
        "split": {
            f"{name}_clients": split.num_clients
            for name, split in zip(("train", "validation", "test"), splits, strict=True)
        },
        "max_rows_per_client": FLAGS.max_rows_per_client,
        "largest_client_rows": int(data.rows_per_client.max(initial=0)),
        "public": public,
    }
