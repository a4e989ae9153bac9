"""Puts oneDNN's kernels for products, convolutions and pooling into a graph.

TensorFlow does this itself, but only in the outermost graph: the body of a loop that stays one
operation, which is where clients are trained, keeps the plain kernels. What is written here into
the graph is what TensorFlow's own pass writes: the name of oneDNN's operation, which has the same
inputs and outputs, and the label under which its kernel is registered. A convolution takes half as
long, a stack of products two thirds.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

MUST_COMPILE = "_XlaMustCompile"
"""The attribute of a function that XLA compiles."""

_KERNEL_LABEL = b"MklNameChangeOp"
_ONEDNN = {
    "BatchMatMulV2": "_MklBatchMatMulV2",
    "MatMul": "_MklMatMul",
    "Conv2D": "_MklNativeConv2D",
    "Conv2DBackpropFilter": "_MklNativeConv2DBackpropFilter",
    "Conv2DBackpropInput": "_MklNativeConv2DBackpropInput",
}
_POOL, _POOL_GRADIENT = "MaxPool", "MaxPoolGrad"
_ONEDNN_POOL = "_MklNativeMaxPool"


def use_onednn_kernels(graph_def: tf.compat.v1.GraphDef) -> None:
    """Renames the operations that oneDNN has for float32, in place.

    Nothing is changed where TensorFlow was built without oneDNN, or `TF_ENABLE_ONEDNN_OPTS` is 0.
    """
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        return
    compiled = _compiled_functions(graph_def)
    _rename(graph_def.node, "{}:1")
    for function in graph_def.library.function:
        if function.signature.name not in compiled:
            _rename(function.node_def, "{}:workspace:0")


def _compiled_functions(graph_def: tf.compat.v1.GraphDef) -> set[str]:
    """Returns the functions that XLA compiles, which knows none of these operations."""
    functions = {f.signature.name: f for f in graph_def.library.function}
    found: set[str] = set()
    left = [name for name, function in functions.items() if function.attr[MUST_COMPILE].b]
    while left:
        name = left.pop()
        if name in functions and name not in found:
            found.add(name)
            for node in functions[name].node_def:
                left += [node.op, *_functions_named_by(node)]
    return found


def _functions_named_by(node: Any) -> Iterator[str]:
    """Yields the functions among a node's attributes, such as the body of a loop."""
    for value in node.attr.values():
        for function in [value.func, *value.list.func]:
            yield function.name


def _rename(nodes: Sequence[Any], workspace: str) -> None:
    """Renames the operations of one graph; `workspace` names a pool's second output there."""
    for node in nodes:
        if node.op in _ONEDNN:
            _set_operation(node, _ONEDNN[node.op])
    for pool, gradients in _pools(nodes):
        # What the pool remembers of its input goes to its gradient, which else finds it again.
        renamed = _set_operation(pool, _ONEDNN_POOL)
        for gradient in gradients if renamed else ():
            _set_operation(gradient, _ONEDNN_POOL + "Grad")
            gradient.input.insert(3, workspace.format(pool.name))
            pool.attr["workspace_enabled"].b = gradient.attr["workspace_enabled"].b = True


def _pools(nodes: Sequence[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """Yields each pool that has gradients, with these."""
    by_name = {node.name: node for node in nodes}
    gradients: dict[str, list[Any]] = {}
    for node in nodes:
        if node.op == _POOL_GRADIENT and len(node.input) == 3:
            gradients.setdefault(node.input[1].partition(":")[0], []).append(node)
    for name, of_pool in gradients.items():
        pool = by_name.get(name)
        if pool is not None and pool.op == _POOL:
            yield pool, of_pool


def _set_operation(node: Any, name: str) -> bool:
    """Makes a float32 operation oneDNN's; returns whether there is such a one."""
    if node.attr["T"].type != tf.float32.as_datatype_enum or op_def_registry.get(name) is None:
        return False
    node.op = name
    node.attr["_kernel"].s = _KERNEL_LABEL
    return True
