"""What a private federated model is compared with: the same without privacy, and one central table.

Each is trained on the training clients and scored on the test clients with the same evaluation.
`central` pools all rows with one client and trains with Adam until the validation metric stops
rising; it uses the same model and the same client update as the federated run.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.data.blocks import cut_into_blocks
from fl_research.data.client_sampling import ClientSampling, FullParticipation
from fl_research.data.clients import Clients
from fl_research.learning.aggregation import update_specs
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.learning_process import build_learning_process
from fl_research.learning.optimizers import OptimizerConfig, build_optimizer
from fl_research.metric_table import sign
from fl_research.objectives.objective import Objective
from fl_research.privacy.mechanisms import none
from fl_research.privacy.plan import PlanSetting

_CENTRAL_EPOCHS_PER_LOOK = 5
_CENTRAL_LOOKS = 30
_CENTRAL_PATIENCE = 4
_CENTRAL_LEARNING_RATE = 0.003

Score = Callable[[Any], Mapping[str, float]]


def train_without_privacy(
    model: tff.learning.models.FunctionalModel,
    *,
    clients: Clients,
    sampling: ClientSampling,
    client_update: ClientUpdateConfig,
    client_optimizer: tff.learning.optimizers.Optimizer,
    server_optimizer: tff.learning.optimizers.Optimizer,
    rounds: Iterable[int],
    seed: int,
    num_blocks: int,
) -> Any:
    """Trains with the run's own settings but neither clip nor noise.

    Args:
      model: The run's model, at its start.
      clients: Training clients.
      sampling: The run's sampler: the same cohorts.
      client_update: The run's local training.
      client_optimizer: The run's client optimizer.
      server_optimizer: The run's server optimizer.
      rounds: The rounds that the private run was planned for, 1 and up.
      seed: The run's seed.
      num_blocks: Blocks of a cohort.

    Returns:
      The model weights after the last round.
    """
    process = build_learning_process(
        model,
        client_update=client_update,
        client_optimizer=client_optimizer,
        query=_query_without_privacy(model, sampling, client_update.weighting),
        server_optimizer=server_optimizer,
    )
    state = process.initialize()
    for round_number in rounds:
        blocks = cut_into_blocks(
            clients,
            sampling.cohort(seed, round_number),
            num_blocks=num_blocks,
            seed=seed,
            round_number=round_number,
        )
        state = process.next(state, blocks).state
    return process.get_model_weights(state)


def central_weights(
    model: tff.learning.models.FunctionalModel,
    *,
    objective: Objective,
    clients: Clients,
    validate: Score | None,
    batch_size: int,
    seed: int,
) -> tff.learning.models.ModelWeights:
    """Returns the weights of the same model trained on all rows pooled.

    Args:
      model: The run's model, at its start.
      objective: What its outputs mean; it may have a way of its own.
      clients: Training clients, pooled into one.
      validate: Weights -> validation metrics; None trains for a fixed number of epochs.
      batch_size: Rows in a batch.
      seed: The run's seed.
    """
    own = objective.central_weights(model, clients, seed)
    if own is not None:
        return tff.learning.models.ModelWeights(own, model.initial_weights[1])
    return train_central(
        model,
        clients=clients,
        validate=validate,
        metric=objective.primary_metric,
        batch_size=batch_size,
        seed=seed,
    )


def train_central(
    model: tff.learning.models.FunctionalModel,
    *,
    clients: Clients,
    validate: Score | None,
    metric: str,
    batch_size: int,
    seed: int,
) -> Any:
    """Trains on all rows pooled with one client, as if data could be gathered.

    Args:
      model: The run's model, at its start.
      clients: Training clients, pooled into one.
      validate: Weights -> validation metrics; None trains for a fixed number of epochs.
      metric: The metric that decides which weights are kept, a name of `metric_table`.
      batch_size: Rows in a batch.
      seed: Seed of the shuffling.

    Returns:
      The best model weights by the validation metric, or the last.
    """
    sampling = FullParticipation(population=1)
    process = build_learning_process(
        model,
        client_update=ClientUpdateConfig(
            local_epochs=_CENTRAL_EPOCHS_PER_LOOK, batch_size=batch_size
        ),
        client_optimizer=build_optimizer(
            OptimizerConfig(name="adam", learning_rate=_CENTRAL_LEARNING_RATE)
        ),
        query=_query_without_privacy(model, sampling, "uniform"),
        server_optimizer=build_optimizer(OptimizerConfig(name="sgd", learning_rate=1.0)),
    )
    everybody = clients.select(np.arange(clients.num_clients))
    pooled = dataclasses.replace(
        everybody,
        row_splits=np.array([0, everybody.num_rows], np.int64),
        client_ids=np.array(["all rows"]),
    )
    state = process.initialize()
    best, best_value, since = process.get_model_weights(state), -np.inf, 0
    for look in range(1, _CENTRAL_LOOKS + 1):
        blocks = cut_into_blocks(pooled, np.array([0]), num_blocks=1, seed=seed, round_number=look)
        state = process.next(state, blocks).state
        weights = process.get_model_weights(state)
        value = math.nan if validate is None else sign(metric) * float(validate(weights)[metric])
        if math.isnan(value):  # Nothing to choose by: the last weights.
            value = float(look)
        since = 0 if value > best_value else since + 1
        if since == 0:
            best, best_value = weights, value
        if since >= _CENTRAL_PATIENCE:
            break
    return best


def _query_without_privacy(
    model: tff.learning.models.FunctionalModel, sampling: ClientSampling, weighting: str
) -> tfp.DPQuery:
    """The query of the mechanism `none`; its noise key is never used."""
    setting = PlanSetting(sampling=sampling, noise_key=(0, 0), weighting=weighting)
    return none.make_plan(none.Config(), setting).query(update_specs(model))
