"""LoadedRecords: the records of a data set, not yet encoded, and what is known of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from fl_research.data.schema import Schema


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LoadedRecords:
    """The records of a data set, not yet encoded, and where they came from.

    Attributes:
      records: The rows as read.
      schema: The public schema to encode them with; None where they are not a table of features,
        such as texts or events in time.
      source: The file or the generator, in words.
      sha256: Checksum of the file; None for generated data.
      terms: Under which terms it may be used, as far as they are established.
      notes: What a report should add, such as a checksum that is not a known one.
      facts: Further facts for run.json, such as how many clients a person is in.
      cleaning: How many rows each rule of the reader acted on, by the rule's words.
      split_column: Column with `train` or `test` of an official split; None: there is none.
    """

    records: pd.DataFrame
    schema: Schema | None
    source: str
    sha256: str | None
    terms: str
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cleaning: Mapping[str, int] = dataclasses.field(default_factory=dict)
    split_column: str | None = None
