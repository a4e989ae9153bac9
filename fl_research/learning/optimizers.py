"""Client and server optimizers by name: every optimizer of `tff.learning.optimizers`, and `lloyd`.

`lloyd` is for the server and for one model, `k_means`; see `learning.lloyd`.
A setting that would have no effect on an optimizer is refused when the configuration is made,
before TensorFlow is imported.
"""

import dataclasses
from typing import TYPE_CHECKING

from fl_research.argument_checks import require_choice, require_positive
from fl_research.errors import InputError

if TYPE_CHECKING:
    import tensorflow_federated as tff

# Name -> its builder in tff.learning.optimizers.
_BUILDERS = {
    "adafactor": "build_adafactor",
    "adagrad": "build_adagrad",
    "adam": "build_adam",
    "adamw": "build_adamw",
    "rmsprop": "build_rmsprop",
    "sgd": "build_sgdm",
    "yogi": "build_yogi",
}
_OF_ONE_MODEL = ("lloyd",)


def names() -> tuple[str, ...]:
    """Returns the name of every optimizer that moves any model, sorted."""
    return tuple(sorted(_BUILDERS))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """One optimizer with its settings; all others are at TFF's defaults.

    Attributes:
      name: One of `names()`, or `lloyd`.
      learning_rate: Positive.
      momentum: In [0, 1), for sgd only; 0 is plain SGD.

    Raises:
      InputError: A value is out of its range, or momentum is set for an optimizer without it.
    """

    name: str = "sgd"
    learning_rate: float
    momentum: float = 0.0

    def __post_init__(self) -> None:
        require_choice("optimizer", self.name, (*names(), *_OF_ONE_MODEL))
        require_positive("learning_rate", self.learning_rate)
        if not 0 <= self.momentum < 1:
            raise InputError(
                f"momentum={self.momentum!r} is out of range; give a number from 0 to below 1"
            )
        if self.momentum and self.name != "sgd":
            raise InputError(
                f"momentum={self.momentum!r} has no effect on {self.name}; leave it out or choose "
                "the optimizer sgd"
            )

    def settings(self) -> dict[str, float]:
        """Returns the settings that were given, beside name and learning rate."""
        return {"momentum": self.momentum} if self.momentum else {}


def build_optimizer(config: OptimizerConfig) -> "tff.learning.optimizers.Optimizer":
    """Returns the `tff.learning.optimizers.Optimizer` that `config` describes."""
    # Imported here so that a command line can read `names()` without waiting for TensorFlow.
    import tensorflow_federated as tff

    if config.name == "adafactor":
        from fl_research.learning.adafactor import Adafactor

        return Adafactor(config.learning_rate)
    if config.name == "lloyd":
        from fl_research.learning.lloyd import Lloyd

        return Lloyd(config.learning_rate)
    builder = getattr(tff.learning.optimizers, _BUILDERS[config.name])
    return builder(learning_rate=config.learning_rate, **config.settings())
