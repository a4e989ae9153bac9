"""The records that `describe_data` describes, of any source, as one table. No TensorFlow."""

import dataclasses

import numpy as np
import pandas as pd
from absl import flags

from experiments.data_flags import OF_SOURCES
from experiments.experiment_flags import as_typed
from experiments.read_source import read_table
from fl_research.data.datasets import registry as datasets
from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.population import is_population, open_population
from fl_research.errors import InputError

FLAGS = flags.FLAGS

# Clients and labels of the data sets that have no schema to tell them.
_CLIENTS = {"online_retail": "customer", "online_retail_orders": "customer"}
_LABELS = {"banking77": "category"}
_OPTIONS = tuple(name for name in OF_SOURCES if name != "data")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DescribedRecords:
    """A table, and what is known of it.

    Attributes:
      records: The rows.
      source: Where they came from, in words.
      client_column: Who a row belongs to; None: not known.
      label_column: The label; None: not known.
      missing_values: Texts that stand for a missing cell.
      split_column: Column of an official split; None: there is none.
      notes: What was done to the records before.
    """

    records: pd.DataFrame
    source: str
    client_column: str | None
    label_column: str | None
    missing_values: tuple[str, ...]
    split_column: str | None = None
    notes: tuple[str, ...] = ()


def described_records() -> DescribedRecords:
    """Reads the records that the flags name.

    Raises:
      InputError: Wrong flags, or records that cannot be read.
    """
    if FLAGS.dataset != "table":
        return _of_data_set(_named(), FLAGS.dataset)
    if FLAGS.data and is_population(FLAGS.data):
        return _of_population()
    return _of_data_set(read_table(), "table")


def _named() -> LoadedRecords:
    """The records of a named data set; flags about reading a table are refused."""
    names = datasets.names()
    if FLAGS.dataset not in names:
        raise InputError(
            f"--dataset={FLAGS.dataset} is unknown; choose from {', '.join(names)}, table"
        )
    for flag in _OPTIONS:
        value = FLAGS[flag].value
        if value is not None:
            raise InputError(f"--{flag}={as_typed(value)} belongs to --dataset=table; leave it out")
    return datasets.load(FLAGS.dataset, path=FLAGS.data, seed=FLAGS.seed)


def _of_data_set(loaded: LoadedRecords, name: str) -> DescribedRecords:
    """A table, with client and label by the flags, else by its schema."""
    client, label = _CLIENTS.get(name), _LABELS.get(name)
    missing: tuple[str, ...] = ("",)
    if loaded.schema is not None:
        label = loaded.schema.label_column.name
        client = loaded.schema.client_column.name if loaded.schema.client_column else None
        missing = loaded.schema.missing_values
    if FLAGS.missing_values is not None:
        missing = ("", *(text.strip() for text in FLAGS.missing_values))
    cleaned = [f"{rule}: {count:,}" for rule, count in loaded.cleaning.items()]
    terms = [f"terms: {loaded.terms}"] if name != "table" else []
    return DescribedRecords(
        records=loaded.records,
        source=loaded.source if name == "table" else f"{name}: {loaded.source}",
        client_column=FLAGS.client_column or client,
        label_column=FLAGS.label_column or label,
        missing_values=tuple(dict.fromkeys(missing)),
        split_column=loaded.split_column,
        notes=(*terms, *loaded.notes, *(f"reader: {rule}" for rule in cleaned)),
    )


def _of_population() -> DescribedRecords:
    """The encoded records of a population, a column a feature."""
    for flag in (*_OPTIONS, "client_column", "label_column"):
        value = FLAGS[flag].value
        if value is not None:
            raise InputError(
                f"--{flag}={as_typed(value)}: {FLAGS.data} is a population, whose records are "
                "encoded already; leave the flag out"
            )
    population = open_population(FLAGS.data)
    clients = population.clients.select(np.arange(population.clients.num_clients))
    names = population.description.feature_names
    columns: dict[str, np.ndarray] = {}
    notes = ["a population: features as they were encoded"]
    for feature, values in clients.features.items():
        if values.ndim != 2:
            notes.append(f"feature {feature}: {values.dtype} {list(values.shape[1:])} a row")
            continue
        own = names if feature == "inputs" and names else None
        for index in range(values.shape[1]):
            columns[own[index] if own else f"{feature}[{index}]"] = values[:, index]
    if clients.labels.ndim == 1:
        columns["label"] = clients.labels
    columns["client"] = np.repeat(clients.client_ids, clients.rows_per_client)
    return DescribedRecords(
        records=pd.DataFrame(columns),
        source=str(FLAGS.data),
        client_column="client",
        label_column="label" if "label" in columns else None,
        missing_values=("",),
        notes=tuple(notes),
    )
