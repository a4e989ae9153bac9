"""Measures how the seconds of a round grow with the cohort, the model, the rows and the blocks.

    python -m benchmarks.scale
    python -m benchmarks.scale --repetitions=3 --output_dir=/tmp/scale

Each curve changes one size and keeps the others: an MLP of 20 inputs with one hidden layer,
DP-FedAvg with fixed clip and Gaussian noise, one local epoch in batches of 20. Each point is the
median of a few rounds after the first; the exponent is the slope of the whole curve on two
logarithmic axes, and that of its last two points: 1 is linear, less means that there is a cost that
does not grow.
Writes scale.csv, scale.md and scale.png.
"""

import csv
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console
from rich.progress import Progress

from benchmarks.scale_plot import draw
from experiments.command_line import run_binary
from fl_research.run.run_status import available_cores
from fl_research.runtime.in_process import in_process_runtime

REPOSITORY = Path(__file__).resolve().parent.parent


_INPUTS, _BATCH_SIZE = 20, 20
COLUMNS = ("curve", "size", "seconds_median", "seconds_min", "seconds_max")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of one point."""

    clients: int = 100
    rows_per_client: int = 100
    hidden: int = 64
    blocks: int = 2

    @property
    def parameters(self) -> int:
        """Parameters of the model: two dense layers with biases."""
        return (_INPUTS + 1) * self.hidden + (self.hidden + 1) * 2


CURVES: dict[str, tuple[list[Sizes], Callable[[Sizes], int]]] = {
    "clients a round": (
        [Sizes(clients=n) for n in (10, 30, 100, 300, 1000, 3000, 10_000)],
        lambda sizes: sizes.clients,
    ),
    "parameters": (
        [Sizes(clients=10, hidden=h) for h in (43, 435, 4348, 43_478, 434_782)],
        lambda sizes: sizes.parameters,
    ),
    "rows a client": (
        [Sizes(rows_per_client=n) for n in (1, 10, 100, 1000, 5000)],
        lambda sizes: sizes.rows_per_client,
    ),
    "blocks": (
        [Sizes(clients=1000, blocks=n) for n in (1, 2, 3, 4)],
        lambda sizes: sizes.blocks,
    ),
}


def define_flags() -> None:
    """Defines the flags; not on import, where they would meet those of other programs."""
    flags.DEFINE_integer("repetitions", 5, "Rounds a point, the first not counted.", lower_bound=1)
    flags.DEFINE_string(
        "output_dir",
        str(REPOSITORY / "benchmarks" / "results"),
        "Where scale.csv, .md and .png go.",
    )


def main(argv: list[str]) -> int:
    """Measures every point, writes and prints the table."""
    del argv
    folder = Path(flags.FLAGS.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    points = [(curve, sizes) for curve, (all_sizes, _) in CURVES.items() for sizes in all_sizes]
    rows: list[dict[str, Any]] = []
    console = Console(file=sys.stderr)
    with in_process_runtime(), Progress(console=console) as progress:
        task = progress.add_task("points", total=len(points))
        for curve, sizes in points:
            seconds = measure(sizes, flags.FLAGS.repetitions)
            rows.append(
                {
                    "curve": curve,
                    "size": CURVES[curve][1](sizes),
                    "seconds_median": float(np.median(seconds)),
                    "seconds_min": min(seconds),
                    "seconds_max": max(seconds),
                }
            )
            progress.advance(task)
    with open(folder / "scale.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({k: _short(v) for k, v in row.items()} for row in rows)
    text = table(rows)
    (folder / "scale.md").write_text(text, encoding="utf-8")
    draw(rows, folder / "scale.png")
    print(text, end="")
    return 0


def measure(sizes: Sizes, repetitions: int) -> list[float]:
    """Returns the seconds of some rounds of these sizes, after a first that is not counted.

    Args:
      sizes: What the round has.
      repetitions: How many rounds, at least 1.
    """
    from fl_research.data.blocks import cut_into_blocks

    process, data = _process_and_data(sizes)
    state = process.initialize()
    seconds = []
    for round_number in range(repetitions + 1):
        started = time.perf_counter()
        blocks = cut_into_blocks(
            data,
            np.arange(sizes.clients),
            num_blocks=sizes.blocks,
            seed=1,
            round_number=round_number,
        )
        state = process.next(state, blocks).state
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def exponents(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Returns the slope of a curve on logarithmic axes: fitted to all, and of the last two points.

    Args:
      rows: The points of one curve, by rising size; at least two.
    """
    x = [math.log(row["size"]) for row in rows]
    y = [math.log(row["seconds_median"]) for row in rows]
    return float(np.polyfit(x, y, 1)[0]), (y[-1] - y[-2]) / (x[-1] - x[-2])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns all points as Markdown.

    Args:
      rows: With the keys of `COLUMNS`.
    """
    lines = [
        f"# Seconds of a round by size, on {available_cores()} cores",
        "",
        "Made by `python -m benchmarks.scale`: MLP with 20 inputs, 100 clients of 100 rows, 64 "
        "hidden units and 2 blocks where a curve does not say otherwise (10 clients for the curve "
        "of parameters, 1,000 for that of blocks).",
        "",
        "![Seconds of a round](scale.png)",
    ]
    for curve in CURVES:
        points = [row for row in rows if row["curve"] == curve]
        whole, end = exponents(points)
        lines += ["", f"| {curve} | seconds, median | range |", "|---|---|---|"]
        lines += [
            f"| {row['size']:,} | {row['seconds_median']:.4f} | "
            f"{row['seconds_min']:.4f} to {row['seconds_max']:.4f} |"
            for row in points
        ]
        if curve != "blocks":
            lines += ["", f"Exponent: {whole:.2f} over all, {end:.2f} at the end."]
    return "\n".join(lines) + "\n"


def _process_and_data(sizes: Sizes) -> tuple[Any, Any]:
    """The learning process and the clients of one point."""
    import tensorflow as tf

    from fl_research.data.client_data import ClientData
    from fl_research.data.client_sampling import FullParticipation
    from fl_research.learning.aggregation import update_specs
    from fl_research.learning.client_update_config import ClientUpdateConfig
    from fl_research.learning.learning_process import build_learning_process
    from fl_research.learning.optimizers import OptimizerConfig, build_optimizer
    from fl_research.privacy.mechanisms import gaussian
    from fl_research.privacy.plan import PlanSetting
    from fl_research.stackable.layers import dense, softmax_cross_entropy
    from fl_research.stackable.model import StackableModel

    generator = np.random.default_rng(0)
    shapes = [(_INPUTS, sizes.hidden), (sizes.hidden,), (sizes.hidden, 2), (2,)]
    weights = tuple(0.1 * generator.standard_normal(shape, np.float32) for shape in shapes)
    model = StackableModel(
        initial_weights=(weights, ()),
        predict=lambda w, x: dense(tf.nn.relu(dense(x["inputs"], w[0], w[1])), w[2], w[3]),
        row_loss=softmax_cross_entropy,
        input_spec=(
            {"inputs": tf.TensorSpec([None, _INPUTS], tf.float32)},
            tf.TensorSpec([None], tf.int32),
        ),
    )
    plan = gaussian.make_plan(
        gaussian.Config(clip_norm=1.0, noise_multiplier=1.0),
        PlanSetting(sampling=FullParticipation(population=sizes.clients), noise_key=(1, 2)),
    )
    process = build_learning_process(
        model,
        client_update=ClientUpdateConfig(batch_size=_BATCH_SIZE),
        client_optimizer=build_optimizer(OptimizerConfig(learning_rate=0.1)),
        query=plan.query(update_specs(model)),
        server_optimizer=build_optimizer(OptimizerConfig(learning_rate=1.0)),
    )
    rows = sizes.clients * sizes.rows_per_client
    data = ClientData(
        {"inputs": generator.standard_normal((rows, _INPUTS), np.float32)},
        generator.integers(0, 2, rows, np.int32),
        np.arange(sizes.clients + 1) * sizes.rows_per_client,
        np.arange(sizes.clients),
    )
    return process, data


def _short(value: Any) -> Any:
    """Floats with six digits, for the file."""
    return f"{value:.6g}" if isinstance(value, float) else value


if __name__ == "__main__":
    define_flags()
    run_binary(main)
