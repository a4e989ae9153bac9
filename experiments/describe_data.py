"""Describes records before anybody trains on them: columns, clients, labels, a suggested schema.

Prints rows a client, how labels differ between clients, missing values, kinds and ranges of the
columns, of a named data set, a file, a folder, a database, an address or a population:

    python -m experiments.describe_data --data=customers.csv \\
        --client_column=customer --label_column=churned --schema_out=schema.json
    python -m experiments.describe_data --dataset=online_retail --out=description
    python -m experiments.describe_data --data=sqlite:///crm.db --query="SELECT * FROM contacts"

With --out the same goes into a folder as Markdown and JSON, with pictures. The bounds and values of
the suggested schema are read off the records, which no epsilon covers; put public ones in their
place. The description is for those who may see the records.
"""

import json
from pathlib import Path

from absl import flags

from experiments import (
    data_flags,
    experiment_flags,  # noqa: F401 - it declares --seed
    output_flags,
)
from experiments.command_line import run_binary

FLAGS = flags.FLAGS

flags.adopt_module_key_flags(output_flags)
for _name in ("dataset", "client_column", "label_column", *data_flags.OF_SOURCES):
    flags.declare_key_flag(_name)
flags.declare_key_flag("seed")
flags.DEFINE_list(
    "missing_values", None, "Texts that stand for a missing cell, beside a blank one."
)
flags.DEFINE_string("schema_out", None, "File for the suggested schema; it must not be there yet.")


def main(argv: list[str]) -> None:
    """Describes the records that the flags name."""
    del argv
    output_flags.refuse_existing("out", "schema_out")
    # Slow to import; --help needs none.
    from experiments.described_records import described_records
    from fl_research.data.description import describe
    from fl_research.data.suggested_schema import suggest_schema
    from fl_research.reports import description_plots, description_text
    from fl_research.run.durable_files import storage_errors, write_atomically

    found = described_records()
    description = describe(
        found.records,
        client_column=found.client_column,
        label_column=found.label_column,
        missing_values=found.missing_values,
        seed=FLAGS.seed,
    )
    text = description_text.markdown(description, source=found.source, notes=found.notes)
    ignored = (found.split_column,) if found.split_column else ()
    schema = suggest_schema(description, ignored) if FLAGS.schema_out else None
    print(text, end="")
    if FLAGS.out:
        folder = Path(FLAGS.out)
        with storage_errors(folder, argument="--out"):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "description.md", text)
        write_atomically(
            folder / "description.json", json.dumps(description.to_dict(), indent=2) + "\n"
        )
        pictures = description_plots.draw(description, folder)
        print(f"\nwritten: {folder}/description.md, description.json and", end=" ")
        print(", ".join(picture.name for picture in pictures))
    if schema is not None:
        path = Path(FLAGS.schema_out)
        with storage_errors(path, argument="--schema_out"):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(schema.to_dict(), indent=2) + "\n")
        print(
            f'\nwritten: {path}. It says "inferred": true, because its bounds and values were read '
            "off the records, which no epsilon covers, and a run with it will report that. Put "
            "bounds and values in their place that are publicly known, then set it to false."
        )


class Defaults:
    """The defaults of this tool, where they differ from those of experiments."""

    def set_defaults(self) -> None:
        """Sets them: records are the user's own unless a data set is named."""
        FLAGS.set_default("dataset", "table")


if __name__ == "__main__":
    run_binary(main, Defaults())
