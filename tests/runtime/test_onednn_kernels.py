"""oneDNN's kernels in a graph: the same results, in loops too, and nothing where they cannot be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.runtime.in_process import in_process_runtime
from fl_research.runtime.onednn_kernels import use_onednn_kernels

RNG = np.random.default_rng(7)
IMAGES = RNG.normal(size=[3, 12, 10, 2])
KERNEL = RNG.normal(size=[3, 3, 2, 2])
STACK = RNG.normal(size=[5, 4, 4])


def _network_gradient(kernel: tf.Tensor) -> tf.Tensor:
    """The gradient by the kernel of two convolutions, a pool after each and a product."""
    images = tf.constant(IMAGES, kernel.dtype)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        first = tf.nn.max_pool2d(tf.nn.conv2d(images, kernel, 1, "SAME"), 2, 2, "VALID")
        second = tf.nn.max_pool2d(tf.nn.conv2d(first, kernel, 1, "SAME"), 3, 2, "SAME")
        flat = tf.reshape(second, [3, -1])
        loss = tf.reduce_sum(tf.tanh(tf.matmul(flat, flat, transpose_b=True)))
    return tape.gradient(loss, kernel)


def _descent(kernel: tf.Tensor) -> tf.Tensor:
    """Three steps of the network, in a loop."""
    step = lambda number, k: (number + 1, k - 0.01 * _network_gradient(k))  # noqa: E731
    return tf.while_loop(lambda number, _: number < 3, step, (0, kernel))[1]


def _products(stack: tf.Tensor) -> tf.Tensor:
    """Products of stacks, in a loop."""
    step = lambda number, s: (number + 1, tf.tanh(tf.matmul(s, s, adjoint_a=True)))  # noqa: E731
    return tf.while_loop(lambda number, _: number < 3, step, (0, stack))[1]


def _compiled(stack: tf.Tensor) -> tf.Tensor:
    """The same, of which XLA compiles one part."""
    return tf.function(_products, jit_compile=True)(stack) + _products(stack)


def _graph_of(function: Callable, value: np.ndarray) -> Any:
    """A function's graph on float32, its loops whole."""
    spec = tf.TensorSpec(value.shape, tf.float32)
    graph_def = tf.function(function).get_concrete_function(spec).graph.as_graph_def()
    for node in (n for f in graph_def.library.function for n in f.node_def):
        node.attr.pop("_lower_using_switch_merge", None)
    return graph_def


def _operations(graph_def: Any) -> set[str]:
    """The names of all operations, those in functions too."""
    inner = (node.op for function in graph_def.library.function for node in function.node_def)
    return {node.op for node in graph_def.node} | set(inner)


def _run(function: Callable, value: np.ndarray) -> np.ndarray:
    """What the in-process runtime gives for a function of float32."""
    spec = tff.TensorType(np.float32, value.shape)
    computation = tff.tensorflow.computation(function, spec)
    with in_process_runtime(redirect_stderr=False):
        return computation(value.astype(np.float32))


@pytest.mark.parametrize(
    ("function", "value", "operations"),
    [
        (_network_gradient, KERNEL, {"Conv2D", "MaxPool", "MaxPoolGrad", "MatMul"}),
        (_descent, KERNEL, {"Conv2D", "Conv2DBackpropFilter", "MaxPool", "MaxPoolGrad", "MatMul"}),
        (_products, STACK, {"BatchMatMulV2"}),
    ],
)
def test_results_are_those_of_float64(
    function: Callable, value: np.ndarray, operations: set[str]
) -> None:
    """To 1e-4 relative; oneDNN has no float64, so that the reference is TensorFlow's own."""
    graph_def = _graph_of(function, value)
    assert operations <= _operations(graph_def)
    use_onednn_kernels(graph_def)
    if not any(name.startswith("_Mkl") for name in _operations(graph_def)):
        pytest.skip("this TensorFlow was built without oneDNN")
    assert not _operations(graph_def) & operations
    expected = function(tf.constant(value, tf.float64)).numpy()
    np.testing.assert_allclose(_run(function, value), expected, rtol=1e-4, atol=1e-5)


def test_compiled_functions_stay_as_they_are() -> None:
    """And those that they call; XLA knows none of oneDNN's operations."""
    graph_def = _graph_of(_compiled, STACK)
    use_onednn_kernels(graph_def)
    functions = {f.signature.name: f for f in graph_def.library.function}
    operations = {name: {n.op for n in f.node_def} for name, f in functions.items()}
    left = [name for name, ops in operations.items() if "BatchMatMulV2" in ops]
    renamed = [name for name, ops in operations.items() if "_MklBatchMatMulV2" in ops]
    assert len(left) == 1 or not renamed, "one loop's body is compiled"
    assert len(left) + len(renamed) == 2, "and one is not"
    expected = _compiled(tf.constant(STACK, tf.float64)).numpy()
    np.testing.assert_allclose(_run(_compiled, STACK), expected, rtol=1e-4, atol=1e-5)


def test_other_types_stay_as_they_are() -> None:
    spec = tf.TensorSpec(STACK.shape, tf.float64)
    graph_def = tf.function(_products).get_concrete_function(spec).graph.as_graph_def()
    before = _operations(graph_def)
    use_onednn_kernels(graph_def)
    assert _operations(graph_def) == before


def test_the_environment_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    graph_def = _graph_of(_products, STACK)
    before = _operations(graph_def)
    use_onednn_kernels(graph_def)
    assert _operations(graph_def) == before
