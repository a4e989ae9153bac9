"""From the data flags to records: a named data set, or the user's own table. No TensorFlow."""

import dataclasses
from typing import Any

import pandas as pd
from absl import flags

from experiments.component_flags import selected_flags
from experiments.use_case import UseCase
from fl_research.data.datasets import registry as datasets
from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.sources import SourceOptions, checksum, read_records, redact
from fl_research.errors import InputError

FLAGS = flags.FLAGS

_SOURCE_OPTIONS = {field.name for field in dataclasses.fields(SourceOptions)}


def read_source(use_case: UseCase, seed: int) -> LoadedRecords:
    """Reads the records of --dataset.

    Args:
      use_case: Says which named data sets there are.
      seed: Of generated data, and of splits that a data set's reader draws.

    Raises:
      InputError: Wrong flags, or records that cannot be read; says which and the way out.
    """
    if FLAGS.dataset == "table":
        return read_table()
    if FLAGS.dataset not in use_case.datasets:
        raise InputError(
            f"--dataset={FLAGS.dataset} is unknown; choose from {', '.join(use_case.datasets)}, "
            "table"
        )
    selected_flags("dataset")  # Refuses the flags of a table.
    return datasets.load(use_case.datasets[FLAGS.dataset], path=FLAGS.data, seed=seed)


def read_table() -> LoadedRecords:
    """Reads the user's own records, all columns as they come, without a schema.

    Raises:
      InputError: --data is missing, or cannot be read.
    """
    if not FLAGS.data:
        raise InputError("--data is not given; --dataset=table needs a file, folder or address")
    return LoadedRecords(
        records=read_records(FLAGS.data, source_options()),
        schema=None,
        source=redact(FLAGS.data),
        sha256=checksum(FLAGS.data),
        terms="the user's own data",
    )


def source_options() -> SourceOptions:
    """Returns how the flags say that a table is read."""
    options: dict[str, Any] = {}
    for name in _SOURCE_OPTIONS & set(FLAGS):
        value = FLAGS[name].value
        if value is not None:
            options[name] = tuple(value) if isinstance(value, list) else value
    return SourceOptions(**options)


def required_column(flag: str, frame: pd.DataFrame) -> str:
    """Returns the column that a flag names.

    Raises:
      InputError: The flag is not given, or the records have no such column.
    """
    name = FLAGS[flag].value
    if name is None:
        raise InputError(
            f"--{flag} is not given; name one of the columns {', '.join(map(str, frame.columns))}"
        )
    if name not in frame.columns:
        raise InputError(
            f"--{flag}={name} is no column of {redact(FLAGS.data)}; there are "
            f"{', '.join(map(str, frame.columns))}"
        )
    return str(name)
