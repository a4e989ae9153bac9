"""What an experiment is told to do, checked before anything is loaded or written.

`resolve_privacy` turns the wish (a target epsilon, or a noise multiplier) into the sampler and the
mechanism's own settings; calibration happens here, for the planned rounds. No TensorFlow.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fl_research.audit.run_audit import require_canaries
from fl_research.data.client_sampling import (
    ClientSampling,
    MinSeparationSampling,
    build_client_sampling,
    projected_sampling,
)
from fl_research.errors import InputError
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.optimizers import OptimizerConfig
from fl_research.models import registry as models
from fl_research.privacy import accounting
from fl_research.privacy.mechanisms import registry as mechanisms
from fl_research.privacy.plan import AccountingSetting, require_uniform_weighting
from fl_research.privacy.private_metrics import PrivateMetrics, require_shared_gaussian
from fl_research.training_config import TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """The settings of one run, apart from its data.

    Attributes:
      training: Rounds, evaluation, budget, and the seed of cohorts and shuffling.
      seed: Seed of the split and of the model's start.
      sampling: `"poisson"`, `"fixed_size"`, `"full"` or `"min_separation"`.
      clients_per_round: Clients in a cohort; under Poisson sampling the expected number.
      sampling_rate: A client's probability to be in a cohort, instead of `clients_per_round`.
      min_separation: Rounds from one participation of a client to its next, where the sampler has
        one.
      max_participations: Rounds that a client takes part in at most, likewise.
      mechanism: A name of `privacy.mechanisms`.
      mechanism_parameters: Fields of that mechanism's `Config`, apart from `noise_multiplier`.
      noise_multiplier: Noise on the sum, in units of the clip, instead of a target epsilon.
      model: A name of `models`.
      model_parameters: Fields of that model's `Config`.
      client_update: The local training of one client.
      client_optimizer: The optimizer of the local training.
      server_optimizer: The optimizer that applies the mean update.
      baselines: Whether to train the models to compare with.
      projection_population: Clients to project epsilon to, in the report; None: no projection.
      noise_seed: Seed of the noise, for exact re-runs; None draws a key from the system's entropy.
      audit_canaries: Canary clients whose trace in the model bounds epsilon from below; 0: none.
      private_metrics: How training metrics get noise and their share of the budget; None records
        them as they are.

    Raises:
      InputError: A name is unknown, a value is out of range, or two settings contradict.
    """

    training: TrainingConfig
    seed: int
    sampling: str
    clients_per_round: float | None
    sampling_rate: float | None
    min_separation: int | None = None
    max_participations: int | None = None
    mechanism: str
    mechanism_parameters: Mapping[str, Any]
    noise_multiplier: float | None
    model: str
    model_parameters: Mapping[str, Any]
    client_update: ClientUpdateConfig
    client_optimizer: OptimizerConfig
    server_optimizer: OptimizerConfig
    baselines: bool
    noise_seed: int | None
    audit_canaries: int = 0
    projection_population: int | None = None
    private_metrics: PrivateMetrics | None = None

    def __post_init__(self) -> None:
        self.model_config()
        require_canaries(self.audit_canaries)
        mechanisms.load(self.mechanism)
        if self.noise_seed is not None and self.noise_seed < 0:
            raise InputError(f"noise_seed={self.noise_seed} must not be negative")
        target = self.training.target_epsilon
        if self.noise_multiplier is not None and target is not None:
            raise InputError(
                f"noise_multiplier={self.noise_multiplier} and target_epsilon={target} are both "
                "given; give one: the other follows from it"
            )

    def model_config(self) -> Any:
        """Returns the model's own settings, checked."""
        config_class = models.load(self.model).Config
        _refuse_unknown(self.model_parameters, config_class, self.model)
        return config_class(**self.model_parameters)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedPrivacy:
    """The sampler and the mechanism's settings that a run will use."""

    setting: AccountingSetting
    mechanism_config: Any

    @property
    def sampling(self) -> ClientSampling:
        """The sampler of all cohorts."""
        return self.setting.sampling


def resolve_privacy(
    config: ExperimentConfig, clients_by_rows: Mapping[int, int]
) -> ResolvedPrivacy:
    """Builds the sampler and the mechanism's settings, calibrating the noise to a target.

    Args:
      config: The experiment's settings.
      clients_by_rows: How many training clients have so many rows.

    Raises:
      InputError: A sampler that the mechanism's theory does not allow, noise settings for a
        mechanism without noise, none for one with it, a missing or impossible delta, an infeasible
        target, private metrics that the mechanism cannot have, or a value that it refuses.
    """
    sampling = build_client_sampling(
        config.sampling,
        population=sum(clients_by_rows.values()),
        clients_per_round=config.clients_per_round,
        sampling_rate=config.sampling_rate,
        min_separation=config.min_separation,
        max_participations=config.max_participations,
    )
    if config.projection_population is not None:
        projected_sampling(sampling, config.projection_population)  # Refuses an impossible one.
    _require_clients_to_last(sampling, config.training.rounds)
    setting = AccountingSetting(
        sampling=sampling,
        rounds=config.training.rounds,
        client_update=config.client_update,
        clients_by_rows=clients_by_rows,
    )
    config_class = mechanisms.load(config.mechanism).Config
    parameters = dict(config.mechanism_parameters)
    _refuse_unknown(parameters, config_class, config.mechanism)
    has_noise = "noise_multiplier" in _fields(config_class)
    if config.private_metrics is not None:
        rule = mechanisms.load(config.mechanism).accounting_rule(parameters, setting)
        require_shared_gaussian(config.mechanism, rule, has_noise=has_noise)
    if has_noise:
        total = _noise_multiplier(config, parameters, setting)
        metrics = config.private_metrics
        parameters["noise_multiplier"] = metrics.update_multiplier(total) if metrics else total
    else:
        _refuse_noise(config)
    return ResolvedPrivacy(setting=setting, mechanism_config=config_class(**parameters))


def _require_clients_to_last(sampling: ClientSampling, rounds: int) -> None:
    """Raises where a limit on participation leaves late rounds without clients."""
    if not isinstance(sampling, MinSeparationSampling) or sampling.max_participations is None:
        return
    wanted = sampling.turn_rate * rounds / sampling.min_separation
    if sampling.max_participations < wanted:
        raise InputError(
            f"max_participations={sampling.max_participations} is less than the {wanted:.3g} times "
            f"that a client is wanted in {rounds} rounds: cohorts would run empty and releases be "
            "noise alone; give more, fewer rounds or smaller cohorts"
        )


def _noise_multiplier(
    config: ExperimentConfig, parameters: Mapping[str, Any], setting: AccountingSetting
) -> float:
    """The noise multiplier that was given, or the least that keeps the target."""
    training = config.training
    require_uniform_weighting(config.client_update.weighting, config.mechanism)
    if training.delta is None:
        raise InputError("delta is not given; set it well below 1 / number of clients, e.g. 1e-5")
    if config.noise_multiplier is not None:
        return config.noise_multiplier
    if training.target_epsilon is None:
        raise InputError(
            f"mechanism={config.mechanism} needs target_epsilon or noise_multiplier; give one"
        )
    return accounting.calibrate_noise_multiplier(
        target_epsilon=training.target_epsilon,
        delta=training.delta,
        sampling=setting.sampling,
        rounds=training.rounds,
        rule=mechanisms.load(config.mechanism).accounting_rule(parameters, setting),
    )


def _refuse_noise(config: ExperimentConfig) -> None:
    """Raises if a setting of noise was given for a mechanism without noise."""
    given = {
        "noise_multiplier": config.noise_multiplier,
        "target_epsilon": config.training.target_epsilon,
        "delta": config.training.delta,
    }
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{name}={value} has no meaning for mechanism={config.mechanism}, which adds no "
                "noise; leave it out"
            )


def _fields(config_class: type) -> set[str]:
    """The names of a config's settings."""
    return {field.name for field in dataclasses.fields(config_class)}


def _refuse_unknown(parameters: Mapping[str, Any], config_class: type, component: str) -> None:
    """Raises if a parameter is none of the component's."""
    for name, value in parameters.items():
        if name not in _fields(config_class):
            raise InputError(f"{name}={value} is not a setting of {component}; leave it out")
