"""The six workloads of the benchmark: data, cohorts and initial weights, equal for every system.

Everything is drawn by numpy's seeded generators, so that two processes with different libraries
train the same models from the same weights on the same rows. This file needs numpy and Python 3.9
alone, because each peer's environment imports it.

One round, for every system: each client of the cohort does one local epoch of plain SGD over its
rows in batches of `batch_size` (the last one partial, the loss is the mean over the batch); its
update, local minus global weights, is clipped as a whole to L2 norm `clip_norm`; the updates are
summed; Gaussian noise of standard deviation `clip_norm * noise_multiplier` is added to the sum; the
sum is divided by `expected_cohort_size`, multiplied by `server_learning_rate` and added to the
global weights. A client's rows are not shuffled.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Callable  # noqa: UP035 - Python 3.9

import numpy as np

_SEED = 20_230_612


@dataclasses.dataclass(frozen=True, eq=False)
class Workload:
    """One task with all its clients. Do not write into the arrays.

    Kernels have the shape `[inputs, outputs]`, convolution kernels `[height, width, in, out]`; all
    weights are float32. The canonical names and shapes of `initial_weights`, in this order:

    * mlp, skewed (features `inputs f32[rows, 20]`, 2 classes): `hidden_kernel [20, 64]`,
      `hidden_bias [64]`, relu, `output_kernel [64, 2]`, `output_bias [2]`.
    * text (`tokens i32[rows, 20]` in [0, 5000), 77 classes): `embedding [5000, 64]`, mean over the
      tokens, `output_kernel [64, 77]`, `output_bias [77]`.
    * gru (`inputs f32[rows, 28, 4]`, 2 classes): `input_kernel [4, 96]`, `input_bias [96]`,
      `recurrent_kernel [32, 96]`, `recurrent_bias [96]`, `output_kernel [32, 2]`,
      `output_bias [2]`. The 96 columns are the gates r, z, n, 32 each. From h = 0 over 28 steps:
      r = sigmoid(x W_r + b_r + h U_r + c_r), z likewise,
      n = tanh(x W_n + b_n + r * (h U_n + c_n)), h' = (1 - z) * n + z * h; the last h goes to the
      output.
    * cnn (`inputs f32[rows, 28, 28, 1]`, 62 classes): `conv1_kernel [3, 3, 1, 32]`,
      `conv1_bias [32]`, no padding, relu, max pool 2x2 with stride 2, `conv2_kernel
      [3, 3, 32, 64]`, `conv2_bias [64]`, no padding, relu, flattened in the order row, column,
      channel (11 * 11 * 64), `hidden_kernel [7744, 128]`, `hidden_bias [128]`, relu,
      `output_kernel [128, 62]`, `output_bias [62]`.
    * telco (`inputs f32[rows, 46]`, labels 0 or 1): `output_kernel [46, 1]`, `output_bias [1]`,
      one logit.

    The loss is softmax cross entropy from logits, for telco sigmoid cross entropy.

    Attributes:
      name: Its name, see `NAMES`.
      features: Name to array `[rows, ...]`; the rows of a client lie together.
      labels: `int32[rows]`.
      row_splits: `int64[clients + 1]`; client k has the rows `row_splits[k]:row_splits[k + 1]`.
      initial_weights: Canonical name to array.
      num_classes: Number of values of a label.
      batch_size: Rows in a step of SGD; the last batch of a client may have fewer.
      expected_cohort_size: The cohort's size, or its mean under Poisson sampling.
      poisson: Whether each client takes part independently of the others.
      check_clip_norm: A clip norm for the check, which clips the updates of some clients of round 1
        and leaves those of others as they are.
      client_learning_rate: Of the clients' SGD.
      server_learning_rate: Factor of the mean update.
      clip_norm: L2 norm that the update of a client is clipped to.
      noise_multiplier: Standard deviation of the noise in the sum, in units of `clip_norm`.
    """

    name: str
    features: dict[str, np.ndarray]
    labels: np.ndarray
    row_splits: np.ndarray
    initial_weights: dict[str, np.ndarray]
    num_classes: int
    batch_size: int
    expected_cohort_size: int
    poisson: bool
    check_clip_norm: float
    client_learning_rate: float = 0.1
    server_learning_rate: float = 1.0
    clip_norm: float = 1.0
    noise_multiplier: float = 1.0

    @property
    def num_clients(self) -> int:
        """The population."""
        return len(self.row_splits) - 1

    def cohort(self, round_number: int) -> np.ndarray:
        """Returns the sorted `int64` indices of the clients of a round, 0 or above."""
        generator = _generator(self.name, "cohort", round_number)
        if self.poisson:
            rate = self.expected_cohort_size / self.num_clients
            return np.flatnonzero(generator.random(self.num_clients) < rate)
        chosen = generator.choice(self.num_clients, self.expected_cohort_size, replace=False)
        return np.sort(chosen).astype(np.int64)

    def client(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Returns the features and labels of one client, as views."""
        rows = slice(self.row_splits[index], self.row_splits[index + 1])
        return {name: values[rows] for name, values in self.features.items()}, self.labels[rows]

    def for_check(self, clip_norm: float) -> Workload:
        """Returns the same workload without noise and with another clip norm."""
        return dataclasses.replace(self, noise_multiplier=0.0, clip_norm=clip_norm)


def load(name: str) -> Workload:
    """Generates a workload; takes less than a second.

    Args:
      name: One of `NAMES`.

    Raises:
      ValueError: If there is no such workload.
    """
    if name not in _BUILDERS:
        raise ValueError(f"workload={name!r} is not known; give one of {', '.join(NAMES)}")
    return _BUILDERS[name]()


def _generator(*key: str | int) -> np.random.Generator:
    """Returns a generator of its own for every key."""
    words = [int.from_bytes(str(part).encode(), "big") for part in key]
    return np.random.default_rng([_SEED, *words])


def _equal_splits(clients: int, rows: int) -> np.ndarray:
    """Returns the row splits of clients of equal size."""
    return np.arange(clients + 1, dtype=np.int64) * rows


def _kernel(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Draws a kernel after Glorot and Bengio 2010."""
    receptive = math.prod(shape[:-2])
    limit = math.sqrt(6 / (receptive * (shape[-2] + shape[-1])))
    return generator.uniform(-limit, limit, shape).astype(np.float32)


def _zeros(*shape: int) -> np.ndarray:
    """Returns a bias."""
    return np.zeros(shape, np.float32)


def _scored_labels(generator: np.random.Generator, rows: np.ndarray, classes: int) -> np.ndarray:
    """Draws labels that a linear score of the rows tells something about."""
    flat = rows.reshape(len(rows), -1)
    direction = generator.standard_normal((flat.shape[1], classes), np.float32)
    scores = (flat - flat.mean()) @ (direction / np.float32(math.sqrt(flat.shape[1])))
    scores += generator.gumbel(size=scores.shape)
    return scores.argmax(axis=1).astype(np.int32)


def _mlp_weights(generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Draws the weights of the workloads mlp and skewed."""
    return {
        "hidden_kernel": _kernel(generator, 20, 64),
        "hidden_bias": _zeros(64),
        "output_kernel": _kernel(generator, 64, 2),
        "output_bias": _zeros(2),
    }


def _mlp() -> Workload:
    """100 of 1,000 clients with 100 rows of 20 inputs."""
    return _mlp_on("mlp", _equal_splits(1000, 100), check_clip_norm=0.26)


def _skewed() -> Workload:
    """The model of mlp; 100 of 1,000 clients with 1 to 5,000 rows."""
    sizes = np.round(_generator("skewed", "sizes").lognormal(4.0, 1.5, 1000))
    row_splits = np.concatenate([[0], np.cumsum(np.clip(sizes, 1, 5000))]).astype(np.int64)
    return _mlp_on("skewed", row_splits, check_clip_norm=0.3)


def _mlp_on(name: str, row_splits: np.ndarray, *, check_clip_norm: float) -> Workload:
    """Builds a workload with the model of mlp on clients of these sizes."""
    generator = _generator(name, "rows")
    inputs = generator.standard_normal((row_splits[-1], 20), np.float32)
    return Workload(
        name=name,
        features={"inputs": inputs},
        labels=_scored_labels(generator, inputs, 2),
        row_splits=row_splits,
        initial_weights=_mlp_weights(_generator(name, "weights")),
        num_classes=2,
        batch_size=20,
        expected_cohort_size=100,
        poisson=False,
        check_clip_norm=check_clip_norm,
    )


def _text() -> Workload:
    """50 of 1,000 clients with 100 texts of 20 tokens; token k comes about as often as 1 / k."""
    generator = _generator("text", "rows")
    rows = 1000 * 100
    uniform = generator.random((rows, 20))
    tokens = (np.floor(5001.0**uniform) - 1).astype(np.int32)
    topics = tokens.sum(axis=1) // 1000  # something to learn from the tokens
    labels = (topics + generator.integers(0, 8, rows)) % 77
    weights = _generator("text", "weights")
    return Workload(
        name="text",
        features={"tokens": tokens},
        labels=labels.astype(np.int32),
        row_splits=_equal_splits(1000, 100),
        initial_weights={
            "embedding": weights.uniform(-0.5, 0.5, (5000, 64)).astype(np.float32),
            "output_kernel": _kernel(weights, 64, 77),
            "output_bias": _zeros(77),
        },
        num_classes=77,
        batch_size=20,
        expected_cohort_size=50,
        poisson=False,
        check_clip_norm=0.12,
    )


def _gru() -> Workload:
    """50 of 1,000 clients with 100 series of 28 steps of 4 inputs."""
    generator = _generator("gru", "rows")
    inputs = generator.standard_normal((1000 * 100, 28, 4), np.float32)
    weights = _generator("gru", "weights")
    limit = 1 / math.sqrt(32)
    return Workload(
        name="gru",
        features={"inputs": inputs},
        labels=_scored_labels(generator, inputs[:, -4:], 2),
        row_splits=_equal_splits(1000, 100),
        initial_weights={
            "input_kernel": weights.uniform(-limit, limit, (4, 96)).astype(np.float32),
            "input_bias": weights.uniform(-limit, limit, 96).astype(np.float32),
            "recurrent_kernel": weights.uniform(-limit, limit, (32, 96)).astype(np.float32),
            "recurrent_bias": weights.uniform(-limit, limit, 96).astype(np.float32),
            "output_kernel": _kernel(weights, 32, 2),
            "output_bias": _zeros(2),
        },
        num_classes=2,
        batch_size=20,
        expected_cohort_size=50,
        poisson=False,
        check_clip_norm=0.13,
    )


def _cnn() -> Workload:
    """20 of 200 clients with 100 images of 28 by 28 points in [0, 1)."""
    generator = _generator("cnn", "rows")
    inputs = generator.random((200 * 100, 28, 28, 1), np.float32)
    weights = _generator("cnn", "weights")
    return Workload(
        name="cnn",
        features={"inputs": inputs},
        labels=_scored_labels(generator, inputs, 62),
        row_splits=_equal_splits(200, 100),
        initial_weights={
            "conv1_kernel": _kernel(weights, 3, 3, 1, 32),
            "conv1_bias": _zeros(32),
            "conv2_kernel": _kernel(weights, 3, 3, 32, 64),
            "conv2_bias": _zeros(64),
            "hidden_kernel": _kernel(weights, 11 * 11 * 64, 128),
            "hidden_bias": _zeros(128),
            "output_kernel": _kernel(weights, 128, 62),
            "output_bias": _zeros(62),
        },
        num_classes=62,
        batch_size=20,
        expected_cohort_size=20,
        poisson=False,
        check_clip_norm=0.27,
    )


def _telco() -> Workload:
    """A Poisson cohort of 560 of 5,600 clients, each with one row of 46 inputs."""
    generator = _generator("telco", "rows")
    inputs = generator.standard_normal((5600, 46), np.float32)
    return Workload(
        name="telco",
        features={"inputs": inputs},
        labels=_scored_labels(generator, inputs, 2),
        row_splits=_equal_splits(5600, 1),
        initial_weights={
            "output_kernel": _kernel(_generator("telco", "weights"), 46, 1),
            "output_bias": _zeros(1),
        },
        num_classes=2,
        batch_size=1,
        expected_cohort_size=560,
        poisson=True,
        check_clip_norm=0.26,
    )


_BUILDERS: dict[str, Callable[[], Workload]] = {
    "mlp": _mlp,
    "text": _text,
    "gru": _gru,
    "cnn": _cnn,
    "telco": _telco,
    "skewed": _skewed,
}
NAMES: tuple[str, ...] = tuple(_BUILDERS)
