"""The models of the workloads in PyTorch, and a client's local training, for the Flower driver.

The parameters of the model that trains are views into one vector, see `flower_weights.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.workloads import Workload


class _Text(nn.Module):
    """Mean of the tokens' embeddings, then a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        # Sparse gradients: a step touches at most 400 of the 5,000 rows.
        self.embedding = nn.EmbeddingBag(5000, 64, mode="mean", sparse=True)
        self.output = nn.Linear(64, 77)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns the logits of `[rows, 20]` tokens."""
        return self.output(self.embedding(tokens))


class _Gru(nn.Module):
    """A GRU; its last state goes into a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 32, batch_first=True)
        self.output = nn.Linear(32, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the logits of `[rows, 28, 4]` inputs."""
        return self.output(self.gru(inputs)[0][:, -1])


class _Cnn(nn.Module):
    """Two convolutions and two dense layers, in PyTorch's channels-last format."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.hidden = nn.Linear(11 * 11 * 64, 128)
        self.output = nn.Linear(128, 62)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the logits of `[rows, 28, 28, 1]` inputs."""
        images = inputs.permute(0, 3, 1, 2)
        images = F.max_pool2d(F.relu(self.conv1(images)), 2)
        images = F.relu(self.conv2(images))
        flat = images.permute(0, 2, 3, 1).flatten(1)  # row, column, channel: nothing is copied
        return self.output(F.relu(self.hidden(flat)))


def _mlp() -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2))


_BUILDERS: Mapping[str, Callable[[], nn.Module]] = {
    "mlp": _mlp,
    "skewed": _mlp,
    "text": _Text,
    "gru": _Gru,
    "cnn": _Cnn,
    "telco": lambda: nn.Linear(46, 1),
}


class LocalTraining:
    """The local training of a workload's clients: one model, used for client after client."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._model = _BUILDERS[workload.name]()
        self._parameters = list(self._model.parameters())
        self._vector = torch.empty(sum(parameter.numel() for parameter in self._parameters))
        self._share_vector()
        (inputs,) = workload.features.values()
        self._inputs = torch.from_numpy(inputs)
        if workload.name == "telco":
            self._labels = torch.from_numpy(workload.labels.astype(np.float32)[:, None])
            self._loss: Callable[..., torch.Tensor] = F.binary_cross_entropy_with_logits
        else:
            self._labels = torch.from_numpy(workload.labels.astype(np.int64))
            self._loss = F.cross_entropy

    def _share_vector(self) -> None:
        """Makes the model's parameters views into the vector."""
        sizes = [parameter.numel() for parameter in self._parameters]
        for parameter, part in zip(self._parameters, self._vector.split(sizes), strict=True):
            if parameter.ndim == 4:
                out, channels, height, width = parameter.shape
                parameter.data = part.view(out, height, width, channels).permute(0, 3, 1, 2)
            else:
                parameter.data = part.view(parameter.shape)

    def train(self, weights: np.ndarray, client: int, clip_norm: float) -> np.ndarray:
        """Trains a client for one epoch, in the order of its rows, and clips its update.

        Args:
          weights: The global weights as one vector.
          client: Its index in the workload.
          clip_norm: L2 norm that the whole update is clipped to.

        Returns:
          The clipped update, as one vector.
        """
        start = torch.from_numpy(weights)
        self._vector.copy_(start)
        self._run_epoch(client)
        update = self._vector - start
        norm = float(update.norm())
        if norm > clip_norm:
            update *= clip_norm / norm
        return update.numpy()

    def _run_epoch(self, client: int) -> None:
        """Takes one step of plain SGD a batch."""
        begin, end = self._workload.row_splits[client : client + 2].tolist()
        size = self._workload.batch_size
        rate = self._workload.client_learning_rate
        batches = zip(
            self._inputs[begin:end].split(size), self._labels[begin:end].split(size), strict=True
        )
        for inputs, labels in batches:
            loss = self._loss(self._model(inputs), labels)
            # Faster than torch.optim.SGD, even than its fused form, for models of this size.
            gradients = torch.autograd.grad(loss, self._parameters)
            with torch.no_grad():
                for parameter, gradient in zip(self._parameters, gradients, strict=True):
                    parameter.add_(gradient, alpha=-rate)
