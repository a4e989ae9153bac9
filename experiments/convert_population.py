"""Writes Parquet files as a population: records encoded once, then read from disk as rounds go.

    python -m experiments.convert_population --data=records.parquet --schema=schema.json \\
        --population=customers
    python -m experiments.churn_prevention --dataset=table --data=customers --delta=1e-8

For records that are too many for memory. A row group is in memory at a time, and all rows of a
client must come one after another: sort the records by client before. The folder appears when it
is whole.
"""

import sys

from absl import flags

from experiments.command_line import run_binary
from fl_research.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string("data", None, "A .parquet file, or a folder of them, read in name order.")
flags.DEFINE_string("schema", None, "JSON file that says what is publicly known of each column.")
flags.DEFINE_string("population", None, "Folder to write; must not be there yet.")


def main(argv: list[str]) -> None:
    """Converts what the flags name."""
    del argv
    for name in ("data", "schema", "population"):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is not given; see --help")
    # After the flags are read, so that --help answers at once.
    from rich.console import Console
    from rich.progress import Progress

    from fl_research.data.parquet_population import convert_parquet
    from fl_research.data.population import open_population
    from fl_research.data.schema import Schema

    schema = Schema.from_json(FLAGS.schema)
    console = Console(file=sys.stderr)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("rows", total=None)
        convert_parquet(
            FLAGS.data,
            FLAGS.population,
            schema,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    clients = open_population(FLAGS.population).clients
    print(f"{FLAGS.population}: {clients.num_clients:,} clients, {clients.num_rows:,} rows")
    print(f"train on it with --dataset=table --data={FLAGS.population}")


if __name__ == "__main__":
    run_binary(main)
