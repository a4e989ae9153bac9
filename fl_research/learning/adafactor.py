"""TFF's Adafactor, made to fit where a state must keep its types from step to step.

`tff.learning.optimizers.build_adafactor` (TFF 0.87) starts its step counter as an int32 and
returns it as a float32, and keeps a Python bool among its hyperparameters on which it branches.
So its state can go neither through a `tf.while_loop` nor through a server state. Here the counter
is a float32 from the start, and the hyperparameters are constants outside the state.

Paper: Shazeer and Stern 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost".
"""

import collections
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff


class Adafactor(tff.learning.optimizers.Optimizer):
    """Adafactor whose state is `OrderedDict(steps=float32, moments=...)`."""

    def __init__(self, learning_rate: float) -> None:
        """Creates the optimizer; `learning_rate` bounds the relative step."""
        self._inner = tff.learning.optimizers.build_adafactor(learning_rate=learning_rate)
        self._hparams = self._inner.initialize(())["hparams"]

    def initialize(self, specs: Any) -> Any:
        """Returns the state before the first step, for weights of these specs."""
        moments = self._inner.initialize(specs)["moments"]
        return collections.OrderedDict(steps=tf.constant(0.0), moments=moments)

    def next(self, state: Any, weights: Any, gradients: Any) -> tuple[Any, Any]:
        """Takes one step; returns the new state and the new weights."""
        new_state, new_weights = self._inner.next(
            {**state, "hparams": self._hparams}, weights, gradients
        )
        kept = collections.OrderedDict(steps=new_state["steps"], moments=new_state["moments"])
        return kept, new_weights
