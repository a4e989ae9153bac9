"""Takes a federated computation apart at the network between the server and its clients.

In call-dominant form a computation is a list of calls; the result of each is placed at the clients,
placed at the server, or not placed. The calls whose result is at the clients are the clients' work;
the calls that this work needs something of come before it; all others, the aggregation first of
all, come after. No call is in two parts, so nothing is drawn or counted twice.

    server's arguments ──> before ══sent══> work <══ clients' arguments      (work: on workers)
            │                │               ║
            └────────────────┴──> after <════╩ its results                   (the rest: here)

So a worker is sent what is broadcast and its own clients' values, and hands over what the work made
of each client. The sum is taken after, over all clients in their order, as one worker alone would.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import tensorflow_federated as tff
from tensorflow_federated.python.core.environments.tensorflow_backend import (
    tensorflow_tree_transformations,
)
from tensorflow_federated.python.core.impl.compiler import (
    building_blocks,
    transformation_utils,
    transformations,
    tree_transformations,
)
from tensorflow_federated.python.core.impl.computation import computation_impl
from tensorflow_federated.python.core.impl.context_stack import context_stack_impl

_RESULT = "result"

_Calls = dict[str, Any]  # name of the result -> tff.framework building block that computes it


class CannotSplitError(ValueError):
    """The computation is not of the form: server, then clients, then server."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a computation.

    Attributes:
      computation: Takes and returns a tuple of values.
      inputs: The names of the values it takes: arguments of the whole, outputs of earlier parts.
      outputs: The names of the values it returns.
    """

    computation: tff.Computation
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitComputation:
    """A computation in three parts.

    Attributes:
      arguments: The names of its arguments, in order.
      before: The server's part before the clients' work; None if there is nothing to do.
      work: The clients' work; its outputs are placed at the clients.
      after: The server's part after it. It returns what the whole returns.
    """

    arguments: tuple[str, ...]
    before: Part | None
    work: Part
    after: Part


def split(computation: tff.Computation) -> SplitComputation:
    """Returns a computation over clients in three parts.

    Args:
      computation: Takes a tuple of arguments, each placed as a whole.

    Raises:
      CannotSplitError: Nothing is done at the clients, or only after an aggregation, or a value
        between two parts is not plain data.
    """
    arguments, calls = _calls_of(computation)
    needs = {name: _names_in(call) for name, call in calls.items()}
    work = {name for name, call in calls.items() if _is_at_clients(call) and name != _RESULT}
    before = _needed(work, needs) - work
    after = calls.keys() - work - before
    if not work or any(_is_aggregation(calls[name]) for name in before):
        raise CannotSplitError("it is not one aggregation of what is done at the clients")
    values = arguments | {name: _reference(name, call) for name, call in calls.items()}

    def used_by(names: Collection[str]) -> list[str]:
        """What these calls use and do not make, in the order of the whole."""
        used = {need for name in names for need in needs[name]}
        return [name for name in values if name in used and name not in names]

    def part(names: Collection[str], outputs: Sequence[str]) -> Part:
        """The part that makes these calls."""
        inputs = used_by(names)
        body = [(name, call) for name, call in calls.items() if name in names and name != _RESULT]
        if outputs == [_RESULT]:
            result = calls[_RESULT]
        else:
            result = building_blocks.Struct([values[name] for name in outputs])
            _require_data(result)
        function = _function([values[name] for name in inputs], body, result)
        return Part(computation=function, inputs=tuple(inputs), outputs=tuple(outputs))

    wanted = {*used_by(work), *used_by(after)}
    finish = part(after, [_RESULT])
    annotated = tff.FunctionType(
        finish.computation.type_signature.parameter, computation.type_signature.result
    )
    typed = computation_impl.ConcreteComputation.with_type(finish.computation, annotated)
    return SplitComputation(
        arguments=tuple(arguments),
        before=part(before, [name for name in calls if name in before & wanted])
        if before
        else None,
        work=part(work, [name for name in calls if name in work & wanted]),
        after=dataclasses.replace(finish, computation=typed),
    )


def _calls_of(computation: tff.Computation) -> tuple[dict[str, Any], _Calls]:
    """Returns references to the arguments, and all calls in order, the result's as the last."""
    block, _ = tensorflow_tree_transformations.replace_intrinsics_with_bodies(
        computation.to_building_block()
    )
    if not isinstance(block, building_blocks.Lambda):
        raise CannotSplitError("nothing is done at the clients")
    block = transformations.get_normalized_call_dominant_lambda(
        block, normalize_all_equal_bit=False
    )
    if not isinstance(block.parameter_type, tff.StructType):
        raise CannotSplitError("it does not take a tuple of arguments")
    arguments = {
        f"argument_{index}": building_blocks.Reference(f"argument_{index}", argument_type)
        for index, argument_type in enumerate(block.parameter_type)
    }
    body = tree_transformations.replace_selections(
        block.result,
        block.parameter_name,
        {(index,): reference for index, reference in enumerate(arguments.values())},
    )
    if block.parameter_name in _names_in(body):
        raise CannotSplitError("it uses its arguments as one value")
    return arguments, {**dict(body.locals), _RESULT: body.result}


def _names_in(block: Any) -> set[str]:
    """Returns the names that a building block uses and does not bind itself."""
    return set(transformation_utils.get_map_of_unbound_references(block)[block])


def _needed(names: Collection[str], needs: dict[str, set[str]]) -> set[str]:
    """Returns the calls that some calls depend on, themselves included."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        found |= waiting
        waiting = {n for name in waiting for n in needs[name] if n in needs} - found
    return found


def _reference(name: str, call: Any) -> Any:
    """Returns a reference to the result of a call."""
    return building_blocks.Reference(name, call.type_signature)


def _is_at_clients(block: Any) -> bool:
    """Returns whether a value is placed at the clients."""
    placed = block.type_signature
    return isinstance(placed, tff.FederatedType) and placed.placement is tff.CLIENTS


def _is_aggregation(block: Any) -> bool:
    """Returns whether a call goes from the clients to the server."""
    return (
        isinstance(block, building_blocks.Call)
        and isinstance(block.function, building_blocks.Intrinsic)
        and bool(block.function.intrinsic_def().aggregation_kind)
    )


def _require_data(values: Any) -> None:
    """Refuses values that are not placed as a whole, or not data."""
    for value_type in values.type_signature:
        inside = value_type.member if isinstance(value_type, tff.FederatedType) else value_type
        if tff.types.contains(
            inside, lambda t: isinstance(t, tff.FederatedType | tff.FunctionType)
        ):
            raise CannotSplitError(f"a value of type {value_type} cannot cross between its parts")


def _function(inputs: Sequence[Any], body: Sequence[tuple[str, Any]], result: Any) -> Any:
    """Returns the computation from a tuple of values to a result, by way of the calls `body`."""
    parameter = building_blocks.Reference(
        "inputs", tff.StructType([value.type_signature for value in inputs])
    )
    bound = [
        (value.name, building_blocks.Selection(parameter, index=index))
        for index, value in enumerate(inputs)
    ]
    block = building_blocks.Lambda(
        parameter.name, parameter.type_signature, building_blocks.Block([*bound, *body], result)
    )
    return computation_impl.ConcreteComputation(
        computation_proto=block.proto, context_stack=context_stack_impl.context_stack
    )
