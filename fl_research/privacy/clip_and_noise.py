"""The two settings that every mechanism with a fixed clip has: the clip norm and the noise."""

import dataclasses

from fl_research.argument_checks import require_not_negative, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipAndNoise:
    """A clip norm, and noise relative to it; a mechanism says of what.

    Attributes:
      clip_norm: Largest norm of what is clipped, above 0.
      noise_multiplier: Standard deviation (of Laplace noise, the scale) of the fresh noise on what
        is noised, divided by `clip_norm`; 0 adds no noise, and gives no guarantee.

    Raises:
      InputError: A value is out of range.
    """

    clip_norm: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        require_positive("clip_norm", self.clip_norm)
        require_not_negative("noise_multiplier", self.noise_multiplier)
