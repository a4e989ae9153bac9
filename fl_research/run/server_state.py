"""TFF's server state as a flat list of arrays, and back.

The order of the arrays is that of `tree.flatten`: containers in the order of their fields, mappings
by sorted key. It depends on the state's structure alone, so equal states give equal lists.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tree

from fl_research.errors import InputError


def flatten_state(state: Any) -> list[np.ndarray]:
    """Returns the state's numbers as arrays.

    Args:
      state: A nest of lists, tuples, named tuples, mappings and attrs classes, as TFF returns it.
    """
    return [np.asarray(leaf) for leaf in tree.flatten(state)]


def unflatten_state(template: Any, arrays: Sequence[np.ndarray]) -> Any:
    """Returns a state of the template's structure with the arrays as its leaves.

    Args:
      template: A state of the same process, such as from `initialize()`.
      arrays: From `flatten_state`.

    Raises:
      InputError: Number, shape or type of the arrays don't fit the template.
    """
    leaves = tree.flatten_with_path(template)
    if len(leaves) != len(arrays):
        raise InputError(
            f"the checkpoint has {len(arrays)} arrays, this model and mechanism have {len(leaves)}"
            "; resume with the flags and the version that wrote it"
        )
    for (path, leaf), array in zip(leaves, arrays, strict=True):
        expected = np.asarray(leaf)
        if (array.shape, array.dtype) != (expected.shape, expected.dtype):
            raise InputError(
                f"the checkpoint's {_name(path)} is {array.dtype}{list(array.shape)}, here it is "
                f"{expected.dtype}{list(expected.shape)}; resume with the flags and the version "
                "that wrote it"
            )
    return tree.unflatten_as(template, list(arrays))


def _name(path: tuple[Any, ...]) -> str:
    """Returns a leaf's place in words, such as `finalizer/momentum/0`."""
    return "/".join(str(part) for part in path) or "only value"
