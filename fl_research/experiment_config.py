"""What an experiment is told to do, checked before anything is loaded or written.

`resolve_privacy` turns the wish (a target epsilon, or a noise multiplier) into the sampler and the
mechanism's own settings; calibration happens here, for the planned rounds. No TensorFlow.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from fl_research.data.client_sampling import ClientSampling, build_client_sampling
from fl_research.errors import InputError
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.optimizers import OptimizerConfig
from fl_research.models import registry as models
from fl_research.privacy import accounting
from fl_research.privacy.mechanisms import registry as mechanisms
from fl_research.privacy.plan import require_uniform_weighting


def available_cores() -> int:
    """Returns the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """The settings of one run, apart from its data.

    Attributes:
      rounds: Rounds planned.
      sampling: `"poisson"`, `"fixed_size"` or `"full"`.
      clients_per_round: Clients in a cohort; under Poisson sampling the expected number.
      sampling_rate: A client's probability to be in a cohort, instead of `clients_per_round`.
      mechanism: A name of `privacy.mechanisms`.
      mechanism_parameters: Fields of that mechanism's `Config`, apart from `noise_multiplier`.
      noise_multiplier: Standard deviation of the noise on the sum, in units of the clip.
      target_epsilon: The epsilon that the planned rounds may cost, instead of the noise.
      delta: In (0, 1); needed by every mechanism with noise.
      model: A name of `models`; `model_parameters` are fields of its `Config`.
      client_update: The local training of one client.
      client_optimizer: Its optimizer; `server_optimizer` applies the mean update.
      evaluate_every: Rounds between evaluations.
      early_finish_patience: Evaluations without improvement before finishing; 0: never.
      baselines: Whether to train the models to compare with.
      seed: Seed of the split, of cohorts, of the model's start and of local shuffling.
      noise_seed: Seed of the noise, for exact re-runs; None draws a key from the system's entropy.
      num_blocks: Blocks a cohort is cut into; by default one for each core.
    """

    rounds: int
    sampling: str = "poisson"
    clients_per_round: float | None = None
    sampling_rate: float | None = None
    mechanism: str = "gaussian"
    mechanism_parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    noise_multiplier: float | None = None
    target_epsilon: float | None = None
    delta: float | None = None
    model: str = "logistic_regression"
    model_parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    client_update: ClientUpdateConfig
    client_optimizer: OptimizerConfig
    server_optimizer: OptimizerConfig
    evaluate_every: int = 10
    early_finish_patience: int = 0
    baselines: bool = False
    seed: int = 0
    noise_seed: int | None = None
    num_blocks: int = dataclasses.field(default_factory=available_cores)

    def __post_init__(self) -> None:
        _check_name("model", self.model, models.names())
        _check_name("mechanism", self.mechanism, mechanisms.names())
        if self.rounds < 1:
            raise InputError(f"rounds={self.rounds} must be at least 1")
        for name in ("seed", "noise_seed"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InputError(f"{name}={value} must not be negative")
        if self.noise_multiplier is not None and self.target_epsilon is not None:
            raise InputError(
                f"noise_multiplier={self.noise_multiplier} and target_epsilon="
                f"{self.target_epsilon} are both given; give one: the other follows from it"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedPrivacy:
    """The sampler and the mechanism's settings that a run will use."""

    sampling: ClientSampling
    mechanism_config: Any


def resolve_privacy(config: ExperimentConfig, population: int) -> ResolvedPrivacy:
    """Builds the sampler and the mechanism's settings, calibrating the noise to a target.

    Args:
      config: The experiment's settings.
      population: Training clients.

    Raises:
      InputError: Noise settings for a mechanism without noise, none for one with it, a missing or
        impossible delta, an infeasible target, or a value that the mechanism refuses.
    """
    sampling = build_client_sampling(
        config.sampling,
        population=population,
        clients_per_round=config.clients_per_round,
        sampling_rate=config.sampling_rate,
    )
    config_class = mechanisms.load(config.mechanism).Config
    fields = {field.name for field in dataclasses.fields(config_class)}
    parameters = dict(config.mechanism_parameters)
    _refuse_unknown(parameters, fields, config.mechanism)
    if "noise_multiplier" not in fields:
        for name in ("noise_multiplier", "target_epsilon", "delta"):
            if getattr(config, name) is not None:
                raise InputError(
                    f"{name}={getattr(config, name)} has no meaning for mechanism="
                    f"{config.mechanism}, which adds no noise; leave it out"
                )
        return ResolvedPrivacy(sampling=sampling, mechanism_config=config_class(**parameters))
    require_uniform_weighting(config.client_update.weighting, config.mechanism)
    if config.delta is None:
        raise InputError("delta is not given; set it well below 1 / number of clients, e.g. 1e-5")
    if not 0 < config.delta < 1:
        raise InputError(f"delta={config.delta} must be between 0 and 1, both excluded")
    if config.target_epsilon is not None:
        parameters["noise_multiplier"] = accounting.calibrate_noise_multiplier(
            target_epsilon=config.target_epsilon,
            delta=config.delta,
            sampling=sampling,
            rounds=config.rounds,
        )
    elif config.noise_multiplier is not None:
        parameters["noise_multiplier"] = config.noise_multiplier
    else:
        raise InputError(
            f"mechanism={config.mechanism} needs target_epsilon or noise_multiplier; give one"
        )
    return ResolvedPrivacy(sampling=sampling, mechanism_config=config_class(**parameters))


def _check_name(argument: str, value: str, allowed: list[str] | tuple[str, ...]) -> None:
    """Raises if `value` is not one of `allowed`."""
    if value not in allowed:
        raise InputError(f"{argument}={value} is unknown; choose from {', '.join(sorted(allowed))}")


def _refuse_unknown(parameters: Mapping[str, Any], fields: set[str], component: str) -> None:
    """Raises if a parameter is none of the selected component's."""
    for name, value in parameters.items():
        if name not in fields:
            raise InputError(f"{name}={value} is not a setting of {component}; leave it out")
