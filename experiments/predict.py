"""Scores new records with the model of a finished run; needs no TensorFlow Federated.

    python -m experiments.predict --run=runs/churn --data=customers.csv --out=scored.csv
    python -m experiments.predict --run=runs/churn --data=sqlite:///crm.db \\
        --query="SELECT * FROM customers" --out=scored.parquet

Records become features as in training. A table or texts give one row a record, with its number
(`row`, the header not counted), the client's column where there is one, and --id_columns; a record
that a rule of the schema leaves out has blank answers. A history of orders, a series or
interactions give one row a customer. Without --out the rows go to the terminal as CSV.
"""

import os
import sys
from pathlib import Path

from absl import flags

from experiments import (
    churn_flags,  # noqa: F401 - it declares --cut_date
    data_flags,
    output_flags,
    run_flags,
)
from experiments.command_line import run_binary
from fl_research.errors import InputError

FLAGS = flags.FLAGS

flags.adopt_module_key_flags(output_flags)
flags.adopt_module_key_flags(run_flags)
for _name in data_flags.OF_SOURCES:
    flags.declare_key_flag(_name)
flags.declare_key_flag("cut_date")
flags.DEFINE_list("id_columns", None, "Columns of the records to copy to the answers.")


def main(argv: list[str]) -> None:
    """Scores the records that the flags name."""
    del argv
    if not FLAGS.run:
        raise InputError("--run is not given; name the folder of a finished run, as --run=FOLDER")
    if not FLAGS.data:
        raise InputError("--data is not given; name the new records, as --data=FILE")
    out = Path(FLAGS.out) if FLAGS.out else None
    output_flags.refuse_existing("out")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Before TensorFlow is imported.
    # Slow to import; --help needs none.
    from experiments.read_source import source_options
    from fl_research.data.sources import read_records
    from fl_research.run import scored_records

    if out is not None:
        scored_records.check_suffix(out)
    records = read_records(FLAGS.data, source_options())
    changed = {} if FLAGS.cut_date is None else {"cut_date": FLAGS.cut_date}
    scored = scored_records.score(
        Path(FLAGS.run), records, id_columns=tuple(FLAGS.id_columns or ()), changed=changed
    )
    if out is None:
        scored.table.to_csv(sys.stdout, index=False)
    else:
        scored_records.write(scored.table, out)
        print(f"{len(scored.table):,} rows written to {out}", file=sys.stderr)
    for rule, count in scored.dropped.items():
        print(f"{rule}: {count:,}", file=sys.stderr)


if __name__ == "__main__":
    run_binary(main)
