"""Personalized recommendation: what will a customer want next, learned where the purchases are.

Matrix factorisation by federated reconstruction: what the model knows of a customer is rebuilt on
the customer's own device from its own ratings or purchases and never leaves it; clients send
updates of the items only. It predicts ratings (explicit feedback) or ranks the items that a
customer does not have yet (implicit feedback). Without any flag it runs on generated ratings:

    python -m experiments.personalized_recommendation
    python -m experiments.personalized_recommendation --dataset=synthetic_baskets
    python -m experiments.personalized_recommendation \\
        --flagfile=experiments/flagfiles/recommendation_online_retail.flags
    python -m experiments.personalized_recommendation --dataset=movielens_100k --data=ml-100k
    python -m experiments.personalized_recommendation --dataset=table --data=sales.csv \\
        --user_column=customer --item_column=article --time_column=day --delta=1e-5

The same flags again go on with an interrupted run.
"""

from typing import TYPE_CHECKING

from absl import flags

from experiments import data_flags, experiment_flags, recommendation_flags
from experiments.command_line import run_binary
from experiments.use_case import UseCase

if TYPE_CHECKING:
    from fl_research.task import FederatedTask

flags.adopt_module_key_flags(experiment_flags)
flags.adopt_module_key_flags(data_flags)
flags.adopt_module_key_flags(recommendation_flags)


def load(seed: int) -> "FederatedTask":
    """Loads the data that the flags name."""
    # Slow to import; --help needs none.
    from experiments.load_interactions import load_interactions_task

    return load_interactions_task(USE_CASE, seed)


USE_CASE = UseCase(
    name="personalized_recommendation",
    datasets={
        "synthetic": "synthetic_ratings",
        "synthetic_baskets": "synthetic_baskets",
        "online_retail": "online_retail",
        "movielens_100k": "movielens_100k",
    },
    load=load,
    defaults={
        "model": "matrix_factorization",
        "client_learning_rate": 1.0,
        "server_optimizer": "adam",
        "server_learning_rate": 0.02,
        # A client has one row; the batch is that of the central baseline.
        "client_execution": "loop",
    },
    default_clip_norm=0.02,
)


def main(argv: list[str]) -> None:
    """Runs the use case that the flags describe."""
    from experiments.run_experiment import run_experiment  # Slow to import; --help needs none.

    del argv
    run_experiment(USE_CASE)


if __name__ == "__main__":
    run_binary(main, USE_CASE)
