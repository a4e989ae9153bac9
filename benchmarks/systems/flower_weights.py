"""The weights of a workload as the one float32 vector that the Flower driver sends around.

Flower's cost of a message grows with the number of its arrays, hence one. The vector holds the
parameters of the PyTorch model one after the other, kernels as `[outputs, inputs]` and convolution
kernels as `[out, height, width, in]`, PyTorch's channels-last format. This file does without
PyTorch, so that the server's process does too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.workloads import Workload

# Where the order of a model's parameters is not the canonical one.
_GRU_ORDER = (
    "input_kernel",
    "recurrent_kernel",
    "input_bias",
    "recurrent_bias",
    "output_kernel",
    "output_bias",
)


def to_vector(workload: Workload) -> np.ndarray:
    """Returns a workload's initial weights as one vector."""
    weights = workload.initial_weights
    return np.concatenate(
        [weights[name].transpose(_axes(name, weights)).ravel() for name in _order(workload)]
    )


def to_canonical(workload: Workload, vector: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the weights of a vector as canonical name to array."""
    weights = workload.initial_weights
    result = {}
    end = 0
    for name in _order(workload):
        axes = _axes(name, weights)
        shape = [weights[name].shape[axis] for axis in axes]
        begin, end = end, end + weights[name].size
        result[name] = vector[begin:end].reshape(shape).transpose(np.argsort(axes))
    return {name: np.ascontiguousarray(result[name]) for name in weights}


def _order(workload: Workload) -> tuple[str, ...]:
    """Returns the canonical names in the order of the model's parameters."""
    return _GRU_ORDER if workload.name == "gru" else tuple(workload.initial_weights)


def _axes(name: str, weights: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """Returns the canonical axes of an array of weights in the vector's order."""
    dimensions = weights[name].ndim
    if name == "embedding" or dimensions == 1:
        return tuple(range(dimensions))
    return (dimensions - 1, *range(dimensions - 1))
