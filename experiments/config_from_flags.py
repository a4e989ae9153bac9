"""From the parsed flags to the experiment's config."""

import dataclasses
from typing import Any

from absl import flags

from experiments.experiment_flags import as_typed
from fl_research.errors import InputError
from fl_research.experiment_config import ExperimentConfig
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.optimizers import OptimizerConfig
from fl_research.privacy.mechanisms import registry as mechanisms
from fl_research.run.run_status import available_cores
from fl_research.training_config import TrainingConfig

FLAGS = flags.FLAGS

_DEFAULT_ROUNDS = 100
_DEFAULT_TARGET_EPSILON = 2.0
_DEFAULT_SAMPLING_RATE = 0.1

_COMPONENT_FLAGS: dict[str, dict[str, tuple[str, ...]]] = {
    "mechanism": {
        "clip_norm": ("gaussian", "adaptive_gaussian"),
        "adaptive_gaussian_target_quantile": ("adaptive_gaussian",),
        "adaptive_gaussian_clip_learning_rate": ("adaptive_gaussian",),
        "adaptive_gaussian_clipped_count_stddev": ("adaptive_gaussian",),
    },
    "model": {"mlp_hidden_sizes": ("mlp",)},
}


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
    mechanism_parameters = _component_parameters("mechanism")
    if "clip_norm" in settings:
        mechanism_parameters.setdefault("clip_norm", default_clip_norm)
    target = FLAGS.target_epsilon
    if private and target is None and FLAGS.noise_multiplier is None:
        target = _DEFAULT_TARGET_EPSILON
    rate = FLAGS.sampling_rate
    if rate is None and FLAGS.clients_per_round is None and FLAGS.sampling != "full":
        rate = _DEFAULT_SAMPLING_RATE
    return ExperimentConfig(
        training=TrainingConfig(
            rounds=_DEFAULT_ROUNDS if FLAGS.rounds is None else FLAGS.rounds,
            seed=FLAGS.seed,
            num_blocks=available_cores() if FLAGS.num_blocks is None else FLAGS.num_blocks,
            evaluate_every=FLAGS.evaluate_every,
            early_finish_patience=FLAGS.early_finish_patience,
            target_epsilon=target,
            delta=default_delta if private and FLAGS.delta is None else FLAGS.delta,
        ),
        seed=FLAGS.seed,
        sampling=FLAGS.sampling,
        clients_per_round=FLAGS.clients_per_round,
        sampling_rate=rate,
        mechanism=FLAGS.mechanism,
        mechanism_parameters=mechanism_parameters,
        noise_multiplier=FLAGS.noise_multiplier,
        model=FLAGS.model,
        model_parameters=_component_parameters("model"),
        client_update=ClientUpdateConfig(
            local_epochs=FLAGS.local_epochs,
            local_steps=FLAGS.local_steps,
            batch_size=FLAGS.batch_size,
            weighting=FLAGS.weighting,
        ),
        client_optimizer=_optimizer("client"),
        server_optimizer=_optimizer("server"),
        baselines=FLAGS.baselines,
        noise_seed=FLAGS.noise_seed,
    )


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


def _component_parameters(kind: str) -> dict[str, Any]:
    """The set flags of the selected component; a set flag of another one is an error."""
    selected = FLAGS[kind].value
    parameters: dict[str, Any] = {}
    for name, owners in _COMPONENT_FLAGS[kind].items():
        value = FLAGS[name].value
        if value is None:
            continue
        if selected not in owners:
            raise InputError(
                f"--{name}={as_typed(value)} belongs to --{kind}={' or '.join(owners)}, but "
                f"--{kind}={selected} is selected; leave the flag out or select that {kind}"
            )
        parameters[name.removeprefix(f"{selected}_")] = _parsed(name, value)
    return parameters


def _parsed(name: str, value: Any) -> Any:
    """The value of a component's flag in the type that its config wants."""
    if name != "mlp_hidden_sizes":
        return value
    try:
        return tuple(int(size) for size in value)
    except ValueError as error:
        raise InputError(
            f"--{name}={as_typed(value)}: give whole numbers, such as 64,32"
        ) from error
