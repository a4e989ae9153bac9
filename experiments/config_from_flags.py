"""From the parsed flags to the experiment's config."""

import dataclasses
from typing import Any

from absl import flags

from experiments.component_flags import selected_flags
from experiments.experiment_flags import as_typed
from fl_research.errors import InputError
from fl_research.experiment_config import ExperimentConfig
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.optimizers import OptimizerConfig
from fl_research.privacy.mechanisms import registry as mechanisms
from fl_research.privacy.private_metrics import PrivateMetrics
from fl_research.run.run_status import available_cores
from fl_research.runtime import worker_addresses
from fl_research.training_config import TrainingConfig

FLAGS = flags.FLAGS

_DEFAULT_ROUNDS = 100
_DEFAULT_TARGET_EPSILON = 2.0
_DEFAULT_SAMPLING_RATE = 0.1


def config_from_flags(*, default_delta: float | None, default_clip_norm: float) -> ExperimentConfig:
    """Builds the experiment's config from the parsed flags.

    Args:
      default_delta: Delta where none is given; None for data that nobody has looked at, where
        the user must say.
      default_clip_norm: The clip of mechanisms that have one, where none is given.

    Raises:
      InputError: A flag for a component that is not selected, or a value out of range.
    """
    settings = {f.name for f in dataclasses.fields(mechanisms.load(FLAGS.mechanism).Config)}
    private = "noise_multiplier" in settings
    mechanism_parameters = selected_flags("mechanism")
    if "clip_norm" in settings:
        mechanism_parameters.setdefault("clip_norm", default_clip_norm)
    return ExperimentConfig(
        training=_training(private, default_delta),
        seed=FLAGS.seed,
        sampling=FLAGS.sampling,
        clients_per_round=FLAGS.clients_per_round,
        sampling_rate=_sampling_rate(),
        min_separation=FLAGS.min_separation,
        max_participations=FLAGS.max_participations,
        mechanism=FLAGS.mechanism,
        mechanism_parameters=mechanism_parameters,
        noise_multiplier=FLAGS.noise_multiplier,
        model=FLAGS.model,
        model_parameters=_model_parameters(),
        client_update=ClientUpdateConfig(
            local_epochs=FLAGS.local_epochs,
            local_steps=FLAGS.local_steps,
            batch_size=FLAGS.batch_size,
            weighting=FLAGS.weighting,
            execution=FLAGS.client_execution,
        ),
        client_optimizer=_optimizer("client"),
        server_optimizer=_optimizer("server"),
        baselines=FLAGS.baselines,
        noise_seed=FLAGS.noise_seed,
        audit_canaries=FLAGS.audit_canaries,
        projection_population=FLAGS.projection_population,
        private_metrics=_private_metrics(),
    )


def _training(private: bool, default_delta: float | None) -> TrainingConfig:
    """Rounds, evaluation and budget, with the defaults of a private run."""
    target, delta = FLAGS.target_epsilon, FLAGS.delta
    if private and target is None and FLAGS.noise_multiplier is None:
        target = _DEFAULT_TARGET_EPSILON
    if private and delta is None:
        delta = default_delta
    return TrainingConfig(
        rounds=_DEFAULT_ROUNDS if FLAGS.rounds is None else FLAGS.rounds,
        seed=FLAGS.seed,
        num_blocks=_default_blocks() if FLAGS.num_blocks is None else FLAGS.num_blocks,
        evaluate_every=FLAGS.evaluate_every,
        early_finish_patience=FLAGS.early_finish_patience,
        target_epsilon=target,
        delta=delta,
    )


def _private_metrics() -> PrivateMetrics | None:
    """Share and bound of private metrics, where they were asked for."""
    names = ("share", "loss_bound")
    given = {name: FLAGS[f"private_metrics_{name}"].value for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if FLAGS.private_metrics:
        return PrivateMetrics(**given)
    for name, value in given.items():
        raise InputError(
            f"--private_metrics_{name}={value} belongs to --private_metrics, which is not set; "
            "set it or leave the flag out"
        )
    return None


def _default_blocks() -> int:
    """One block for each core that trains; on other machines their number is not known."""
    if FLAGS.workers is None:
        return available_cores()
    return worker_addresses.BLOCKS_PER_WORKER * len(FLAGS.workers)


def _sampling_rate() -> float | None:
    """The rate that was given, or the default where the cohort's size is not given either."""
    if FLAGS.sampling == "full" or FLAGS.clients_per_round is not None:
        return FLAGS.sampling_rate
    return _DEFAULT_SAMPLING_RATE if FLAGS.sampling_rate is None else FLAGS.sampling_rate


def _model_parameters() -> dict[str, Any]:
    """The settings of the selected model."""
    parameters = selected_flags("model")
    for name, values in parameters.items():
        if isinstance(values, list):
            try:
                parameters[name] = tuple(int(value) for value in values)
            except ValueError as error:
                raise InputError(
                    f"--{FLAGS.model}_{name}={as_typed(values)}: give whole numbers, such as 64,32"
                ) from error
    return parameters


def _optimizer(role: str) -> OptimizerConfig:
    """The settings of the client's or the server's optimizer."""
    settings = {
        "name": FLAGS[f"{role}_optimizer"].value,
        "learning_rate": FLAGS[f"{role}_learning_rate"].value,
    }
    if FLAGS[f"{role}_momentum"].value is not None:
        settings["momentum"] = FLAGS[f"{role}_momentum"].value
    try:
        return OptimizerConfig(**settings)
    except InputError as error:
        raise InputError(f"--{role}_{error}") from error
