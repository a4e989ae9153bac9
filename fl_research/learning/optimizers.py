"""Client and server optimisers by name: every optimiser of `tff.learning.optimizers`.

The table below says which settings each optimiser takes, so that a setting which would have no
effect is refused when the configuration is made, before TensorFlow is imported.
"""

import dataclasses
from typing import TYPE_CHECKING

from fl_research.errors import InputError

if TYPE_CHECKING:
    import tensorflow_federated as tff

# Name -> (builder in tff.learning.optimizers, the settings it takes beside the learning rate).
_OPTIMIZERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "adafactor": ("build_adafactor", ()),
    "adagrad": ("build_adagrad", ("epsilon", "initial_preconditioner_value")),
    "adam": ("build_adam", ("beta_1", "beta_2", "epsilon")),
    "adamw": ("build_adamw", ("beta_1", "beta_2", "epsilon", "weight_decay")),
    "rmsprop": ("build_rmsprop", ("decay", "epsilon")),
    "sgd": ("build_sgdm", ("momentum",)),
    "yogi": ("build_yogi", ("beta_1", "beta_2", "epsilon", "initial_preconditioner_value")),
}
_FRACTIONS = ("momentum", "beta_1", "beta_2", "decay")


def names() -> tuple[str, ...]:
    """Returns the name of every optimiser, sorted."""
    return tuple(sorted(_OPTIMIZERS))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """One optimiser with its settings; None leaves a setting at TFF's default.

    Attributes:
      name: One of `names()`.
      learning_rate: Positive.
      momentum: In [0, 1), for sgd; 0 is plain SGD.
      beta_1: In [0, 1), for adam, adamw and yogi.
      beta_2: In [0, 1), for adam, adamw and yogi.
      decay: In [0, 1), for rmsprop.
      epsilon: Positive; the adaptivity term in the denominator.
      weight_decay: Not negative, for adamw.
      initial_preconditioner_value: Not negative, for adagrad and yogi.

    Raises:
      InputError: If a value is out of its range, or set for an optimiser without it.
    """

    name: str = "sgd"
    learning_rate: float
    momentum: float = 0.0
    beta_1: float | None = None
    beta_2: float | None = None
    decay: float | None = None
    epsilon: float | None = None
    weight_decay: float | None = None
    initial_preconditioner_value: float | None = None

    def __post_init__(self) -> None:
        """Checks every setting; a configuration that exists is valid."""
        if self.name not in _OPTIMIZERS:
            raise InputError(
                f"optimizer: {self.name!r} is unknown; choose one of {', '.join(names())}"
            )
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(
                f"learning_rate: {self.learning_rate!r} must be positive; try 0.1 for {self.name}"
            )
        for setting, value in self.settings().items():
            accepted = _OPTIMIZERS[self.name][1]
            if setting not in accepted:
                raise InputError(
                    f"{setting}: {value!r} has no effect on {self.name}; leave it out or choose "
                    f"one of {', '.join(n for n in names() if setting in _OPTIMIZERS[n][1])}"
                )
            if setting in _FRACTIONS and not 0 <= value < 1:
                raise InputError(f"{setting}: {value!r} must be at least 0 and below 1")
            if setting == "epsilon" and not 0 < value < float("inf"):
                raise InputError(f"{setting}: {value!r} must be positive")
            if not 0 <= value < float("inf"):
                raise InputError(f"{setting}: {value!r} must not be negative")

    def settings(self) -> dict[str, float]:
        """Returns the settings that were given, beside name and learning rate."""
        fields = dataclasses.asdict(self)
        given = {k: v for k, v in fields.items() if k not in ("name", "learning_rate")}
        if given["momentum"] == 0:
            del given["momentum"]
        return {setting: value for setting, value in given.items() if value is not None}


def build_optimizer(config: OptimizerConfig) -> "tff.learning.optimizers.Optimizer":
    """Returns the `tff.learning.optimizers.Optimizer` that `config` describes."""
    # Imported here so that a command line can read `names()` without waiting for TensorFlow.
    import tensorflow_federated as tff

    if config.name == "adafactor":
        from fl_research.learning.adafactor import Adafactor

        return Adafactor(config.learning_rate)
    builder = getattr(tff.learning.optimizers, _OPTIMIZERS[config.name][0])
    return builder(learning_rate=config.learning_rate, **config.settings())
