"""Python values to tensors and back, by functions that are made once for each type.

A value goes in as TFF's contexts take it: structures by place in any container, tensors as NumPy
arrays, numbers, lists or TensorFlow tensors, one list entry a member of CLIENTS. What does not fit
its type is a `TypeError` that names the place and gives both types. A value comes out in the
containers of its type, as NumPy arrays and scalars that cannot be written to.

A large array is not copied on its way in if it lies in memory as TensorFlow wants it (at a multiple
of 64 bytes), and not on its way out, except where the result is an argument's own memory.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow.python.eager import context
from tensorflow_federated.python.common_libs import structure
from tensorflow_federated.python.core.impl.compiler import array
from tensorflow_federated.python.core.impl.types import array_shape

from fl_research.runtime.computation_plan import Place, Value
from fl_research.runtime.loaded_graph import UnsupportedComputationError

_SMALL_BYTES = 1 << 14  # copying this takes no longer than finding out whether one must

# Appends a value's tensors to a list; the last argument says where the value is.
_Reader = Callable[[Any, list[Any], "Arguments", str], None]
_Writer = Callable[["Results", int], Any]


class Arguments:
    """What is known of the arguments of one call.

    Attributes:
      members: The number of members of CLIENTS, None before an argument has told.
      borrowed: Arrays of the caller whose memory tensors may share, and which it may write to.
    """

    def __init__(self) -> None:
        """Starts without any."""
        self.members: int | None = None
        self.borrowed: list[np.ndarray] = []


class Results:
    """The registers after a run, and what must not be lent from them."""

    def __init__(self, registers: Sequence[Any], arguments: Arguments) -> None:
        """Takes what the run left."""
        self.registers = registers
        self.members = arguments.members or 0
        self._borrowed = arguments.borrowed

    def to_numpy(self, tensor: Any) -> Any:
        """Returns a tensor as an array or scalar that cannot be written to."""
        value = tensor._numpy()  # shares the tensor's memory, as `numpy()` does not
        if isinstance(value, np.ndarray):
            if value.nbytes < _SMALL_BYTES or any(
                np.may_share_memory(value, borrowed) for borrowed in self._borrowed
            ):
                value = value.copy()
            value.flags.writeable = False
        return value


def make_reader(of_type: tff.Type) -> Callable[[Any, Arguments], list[Any]]:
    """Returns a function from a computation's argument to the tensors of a plan's parameters.

    For a value at CLIENTS there is a list for each leaf, with one tensor a member.

    Args:
      of_type: The type of the computation's parameter.

    Raises:
      UnsupportedComputationError: The type holds something else than tensors.
    """
    read_value = _reader(of_type)

    def read(value: Any, arguments: Arguments) -> list[Any]:
        tensors: list[Any] = []
        read_value(value, tensors, arguments, "argument")
        return tensors

    return read


def make_writer(of_type: tff.Type, value: Value) -> Callable[[Results], Any]:
    """Returns a function from the results of a run to the value that the caller gets.

    Args:
      of_type: The type of the value, with its containers.
      value: Where its tensors are.

    Raises:
      UnsupportedComputationError: The type holds something else than tensors.
    """
    write = _writer(of_type, value)
    return lambda results: write(results, 0)


# ---------------------------------------------------------------------------------------- readers


def _reader(of_type: tff.Type) -> _Reader:
    """Returns the reader of a type."""
    if isinstance(of_type, tff.TensorType):
        return _tensor_reader(of_type)
    if isinstance(of_type, tff.StructType):
        return _struct_reader(of_type)
    if isinstance(of_type, tff.FederatedType):
        member = _reader(of_type.member)
        return member if of_type.all_equal else _members_reader(of_type, member)
    raise UnsupportedComputationError(f"a value of type {of_type.compact_representation()}")


def _tensor_reader(of_type: tff.TensorType) -> _Reader:
    """Returns the reader of one tensor."""
    dtype, shape = np.dtype(of_type.dtype), of_type.shape
    tf_dtype = tf.dtypes.as_dtype(tf.string if dtype.type is np.str_ else dtype)
    enum = tf_dtype.as_datatype_enum
    ranks = None if shape is None else len(shape)
    fixed = [] if shape is None else [(i, n) for i, n in enumerate(shape) if n is not None]
    eager = context.context()
    eager.ensure_initialized()
    device = eager.device_name
    is_text = tf_dtype == tf.string

    def read(value: Any, tensors: list[Any], arguments: Arguments, where: str) -> None:
        if type(value) is not np.ndarray or value.dtype != dtype:
            value = _as_array(value, of_type, where)
            if is_text:
                tensors.append(tf.constant(value, tf.string))
                return
        found = value.shape
        if ranks is not None and (len(found) != ranks or any(found[i] != n for i, n in fixed)):
            raise TypeError(
                f"{where}: an array of shape {found} is no value of shape {shape} "
                f"({of_type.compact_representation()})"
            )
        if value.nbytes >= _SMALL_BYTES and value.flags.writeable:
            arguments.borrowed.append(value)
        tensors.append(tf.__internal__.EagerTensor(value, device, enum))

    return read


def _as_array(value: Any, of_type: tff.TensorType, where: str) -> Any:
    """Returns an array of the type's dtype where TFF would take the value for one."""
    if isinstance(value, tf.Variable):
        value = value.read_value()
    if isinstance(value, tf.Tensor):
        if not hasattr(value, "numpy"):
            raise TypeError(f"{where}: {value} has no value yet; call with arrays")
        value = value.numpy()
    dtype = of_type.dtype.type
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        fits = all(array.is_compatible_dtype(x, dtype) for x in tf.nest.flatten(value))
    else:
        fits = isinstance(value, array.Array) and array.is_compatible_dtype(value, dtype)
    if not fits:
        found = getattr(value, "dtype", type(value).__name__)
        raise TypeError(
            f"{where}: a value of type {found} is no {of_type.compact_representation()}"
        )
    if dtype is not np.str_:
        return np.asarray(value, dtype)
    if not array_shape.is_compatible_with(np.shape(value), of_type.shape):
        raise TypeError(f"{where}: shape {np.shape(value)} is not {of_type.shape}")
    return value


def _struct_reader(of_type: tff.StructType) -> _Reader:
    """Returns the reader of a structure."""
    elements = structure.to_elements(of_type)
    names = [name for name, _ in elements]
    readers = [
        (_reader(element_type), f".{name}" if name else f"[{index}]")
        for index, (name, element_type) in enumerate(elements)
    ]

    def read(value: Any, tensors: list[Any], arguments: Arguments, where: str) -> None:
        found, values = _elements(value, where)
        if len(values) != len(readers):
            raise TypeError(
                f"{where}: a structure of {len(values)} elements is no {of_type} "
                f"of {len(readers)} elements"
            )
        if found is not None and found != names:
            for one, other in zip(found, names, strict=True):
                if one != other and one is not None and other is not None:
                    raise TypeError(f"{where}: found {one!r} in the place of {other!r}")
        for element, (read_element, name) in zip(values, readers, strict=True):
            read_element(element, tensors, arguments, where + name)

    return read


def _elements(value: Any, where: str) -> tuple[list[Any] | None, Sequence[Any]]:
    """Returns names (or None) and values of a container's elements."""
    if isinstance(value, Mapping):
        return list(value), list(value.values())
    if isinstance(value, structure.Struct):
        return structure.name_list_with_nones(value), list(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(value._fields), value
    if isinstance(value, list | tuple):
        return None, value
    if attrs.has(type(value)):
        names = [field.name for field in attrs.fields(type(value))]
        return names, [getattr(value, name) for name in names]
    raise TypeError(f"{where}: a value of type {type(value).__name__} is no structure")


def _members_reader(of_type: tff.FederatedType, read_member: _Reader) -> _Reader:
    """Returns the reader of a value that differs between the members of CLIENTS."""
    if of_type.placement is not tff.CLIENTS:
        raise UnsupportedComputationError(f"a value of type {of_type.compact_representation()}")
    number_of_leaves = tff.types.count(of_type.member, lambda t: isinstance(t, tff.TensorType))

    def read(value: Any, tensors: list[Any], arguments: Arguments, where: str) -> None:
        if not isinstance(value, list | tuple):
            raise TypeError(
                f"{where}: a value at CLIENTS is a list with one entry a member, "
                f"not {type(value).__name__}"
            )
        if arguments.members not in (None, len(value)):
            raise ValueError(
                f"{where}: Conflicting cardinalities for {of_type.placement}: "
                f"{len(value)} vs {arguments.members}"
            )
        arguments.members = len(value)
        rows: list[list[Any]] = [[] for _ in value]
        for index, (entry, row) in enumerate(zip(value, rows, strict=True)):
            read_member(entry, row, arguments, f"{where}[{index}]")
        tensors.extend([row[leaf] for row in rows] for leaf in range(number_of_leaves))

    return read


# ---------------------------------------------------------------------------------------- writers


def _writer(of_type: tff.Type, value: Value) -> _Writer:
    """Returns the writer of a value."""
    if isinstance(of_type, tff.FederatedType):
        if of_type.all_equal:
            return _writer(of_type.member, value)
        write_member = _writer(of_type.member, value)
        return lambda results, _: [write_member(results, m) for m in range(results.members)]
    if isinstance(of_type, tff.StructType) and isinstance(value, tuple):
        return _struct_writer(of_type, value)
    if isinstance(of_type, tff.TensorType) and isinstance(value, Place):
        register = value.register
        if value.each:
            return lambda results, member: results.to_numpy(results.registers[register][member])
        return lambda results, _: results.to_numpy(results.registers[register])
    raise UnsupportedComputationError(f"a result of type {of_type.compact_representation()}")


def _struct_writer(of_type: tff.StructType, value: tuple[Value, ...]) -> _Writer:
    """Returns the writer of a structure, into the container of its type."""
    elements = structure.to_elements(of_type)
    names = [name for name, _ in elements]
    writers = [_writer(t, v) for (_, t), v in zip(elements, value, strict=True)]
    named = any(name is not None for name in names)
    if named and None in names:
        raise UnsupportedComputationError(f"a structure that is named in part ({of_type})")
    container: Any = of_type.python_container or (collections.OrderedDict if named else tuple)
    if not named:
        return lambda results, member: container([write(results, member) for write in writers])
    if attrs.has(container) or hasattr(container, "_fields"):

        def write_fields(results: Results, member: int) -> Any:
            values = [write(results, member) for write in writers]
            return container(**dict(zip(names, values, strict=True)))

        return write_fields
    return lambda results, member: container(
        [(name, write(results, member)) for name, write in zip(names, writers, strict=True)]
    )
