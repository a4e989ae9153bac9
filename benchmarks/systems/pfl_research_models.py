"""The workloads' models in PyTorch, as pfl-research wants them: a module with `loss` and `metrics`.

Each model is one function of the weights and a batch, which saves the calls of nested modules. Of
several ways the fastest on two cores was taken: in text the embedding's gradient is sparse; in cnn
weights and images are in PyTorch's channels-last layout; in gru the steps are unrolled and compiled
by `torch.compile`, which takes half the time of PyTorch's own GRU. That needs a C++ compiler;
without one PyTorch's GRU runs. The other models are slower when compiled.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.workloads import Workload

Weights = Mapping[str, torch.Tensor]
Loss = Callable[[Weights, torch.Tensor, torch.Tensor], torch.Tensor]

_KERNEL = "_kernel"  # canonical names of kernels end so; the inputs come before the outputs in them


class BenchmarkModel(torch.nn.Module):
    """A workload's model with its initial weights; the parameters have the canonical names.

    Args:
      workload: The workload.
    """

    def __init__(self, workload: Workload) -> None:
        """Copies the weights into PyTorch's layout."""
        super().__init__()
        for name, value in workload.initial_weights.items():
            self.register_parameter(name, torch.nn.Parameter(_to_torch(name, value)))
        self._weights = dict(self.named_parameters())
        self._loss = _loss(workload.name)

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns the mean loss of a batch; pfl-research takes its gradient."""
        return self._loss(self._weights, inputs, labels)

    def metrics(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, object]:
        """Returns nothing; pfl-research wants this method, but no round is evaluated."""
        del inputs, labels
        return {}

    def canonical_weights(self) -> dict[str, np.ndarray]:
        """Returns the weights by canonical name in the canonical shape."""
        return {name: _to_canonical(name, value) for name, value in self._weights.items()}


def client_tensors(workload: Workload, client: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the inputs and labels of a client as the loss takes them."""
    features, labels = workload.client(client)
    (inputs,) = (torch.from_numpy(values.copy()) for values in features.values())
    if inputs.ndim == 4:
        inputs = inputs.permute(0, 3, 1, 2)  # a view, so that the channels stay last in memory
    dtype = torch.float32 if workload.name == "telco" else torch.int64
    return inputs, torch.from_numpy(labels.copy()).to(dtype)


def compiles_gru() -> bool:
    """Returns whether there is the C++ compiler that `torch.compile` needs."""
    return any(shutil.which(name) for name in ("g++", "clang++"))


def _to_torch(name: str, value: np.ndarray) -> torch.Tensor:
    """Returns a weight in PyTorch's layout, in which the outputs come first."""
    if not name.endswith(_KERNEL):
        return torch.from_numpy(value.copy())
    if value.ndim == 2:
        return torch.from_numpy(value.T.copy())
    kernel = torch.from_numpy(value.transpose(3, 2, 0, 1).copy())
    return kernel.contiguous(memory_format=torch.channels_last)


def _to_canonical(name: str, weight: torch.Tensor) -> np.ndarray:
    """Turns `_to_torch` around."""
    value = weight.detach().numpy()
    if name.endswith(_KERNEL):
        value = value.T if value.ndim == 2 else value.transpose(2, 3, 1, 0)
    return np.array(value, order="C")


def _output(hidden: torch.Tensor, weights: Weights) -> torch.Tensor:
    """Returns the logits of the last dense layer."""
    return F.linear(hidden, weights["output_kernel"], weights["output_bias"])


def _mlp_loss(weights: Weights, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of mlp and skewed."""
    hidden = torch.relu(F.linear(inputs, weights["hidden_kernel"], weights["hidden_bias"]))
    return F.cross_entropy(_output(hidden, weights), labels)


def _text_loss(weights: Weights, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of text."""
    hidden = F.embedding(inputs, weights["embedding"], sparse=True).mean(1)
    return F.cross_entropy(_output(hidden, weights), labels)


def _cnn_loss(weights: Weights, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of cnn; the images have the channels last in memory."""
    first = F.conv2d(inputs, weights["conv1_kernel"], weights["conv1_bias"])
    pooled = F.max_pool2d(torch.relu(first), 2)
    second = torch.relu(F.conv2d(pooled, weights["conv2_kernel"], weights["conv2_bias"]))
    flat = second.permute(0, 2, 3, 1).flatten(1)
    hidden = torch.relu(F.linear(flat, weights["hidden_kernel"], weights["hidden_bias"]))
    return F.cross_entropy(_output(hidden, weights), labels)


def _telco_loss(weights: Weights, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of telco."""
    return F.binary_cross_entropy_with_logits(_output(inputs, weights)[:, 0], labels)


def _pytorch_gru_loss(weights: Weights, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of gru by PyTorch's own GRU of one layer, in training, one direction, rows first."""
    recurrent_kernel = weights["recurrent_kernel"]
    state = inputs.new_zeros(1, inputs.shape[0], recurrent_kernel.shape[1])
    parameters = [
        weights["input_kernel"],
        recurrent_kernel,
        weights["input_bias"],
        weights["recurrent_bias"],
    ]
    _, state = torch.gru(inputs, state, parameters, True, 1, 0.0, True, False, True)
    return F.cross_entropy(_output(state[0], weights), labels)


def _unrolled_gru_loss(
    weights: Weights, inputs: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Loss of gru step by step, to be compiled."""
    recurrent_kernel, recurrent_bias = weights["recurrent_kernel"], weights["recurrent_bias"]
    units = recurrent_kernel.shape[1]
    state = inputs.new_zeros(inputs.shape[0], units)
    from_inputs = F.linear(inputs, weights["input_kernel"], weights["input_bias"])
    for from_input in from_inputs.unbind(1):
        from_state = F.linear(state, recurrent_kernel, recurrent_bias)
        gates = torch.sigmoid(from_input[:, : 2 * units] + from_state[:, : 2 * units])
        reset, keep = gates.chunk(2, 1)
        candidate = torch.tanh(from_input[:, 2 * units :] + reset * from_state[:, 2 * units :])
        state = candidate + keep * (state - candidate)
    return F.cross_entropy(_output(state, weights), labels)


def _loss(name: str) -> Loss:
    """Returns the loss of a workload."""
    if name == "gru":
        return torch.compile(_unrolled_gru_loss) if compiles_gru() else _pytorch_gru_loss
    losses = {
        "mlp": _mlp_loss,
        "skewed": _mlp_loss,
        "text": _text_loss,
        "cnn": _cnn_loss,
        "telco": _telco_loss,
    }
    return losses[name]
