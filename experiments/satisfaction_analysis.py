"""Satisfaction analysis: how satisfied customers are, and why, from surveys that stay with them.

Learns satisfaction from the answers of a survey with DP-FedAvg on TensorFlow Federated, evaluates
the model on customers it has never seen, and measures federatedly what each column adds and how its
values move the prediction. A label with levels in order, such as one to five stars, makes it
ordinal regression (proportional odds with --model=logistic_regression); a label with one positive
value makes it classification. Without any flag it runs on a generated survey:

    python -m experiments.satisfaction_analysis
    python -m experiments.satisfaction_analysis \\
        --flagfile=experiments/flagfiles/satisfaction_airline.flags
    python -m experiments.satisfaction_analysis --dataset=table --data=survey.csv \\
        --label_column=stars --client_column=customer --infer_schema --delta=1e-5

With --text_column it learns from a free text instead: --model=embedding_bag on hashed words and
runs of characters, without any vocabulary.

    python -m experiments.satisfaction_analysis \\
        --flagfile=experiments/flagfiles/satisfaction_text.flags
    python -m experiments.satisfaction_analysis --dataset=table --data=reviews.csv \\
        --text_column=review --label_column=stars --label_levels=1,2,3,4,5 \\
        --client_column=customer --model=embedding_bag --delta=1e-5

The same flags again go on with an interrupted run.
"""

from typing import TYPE_CHECKING

from absl import flags

from experiments import data_flags, experiment_flags, satisfaction_flags, text_flags
from experiments.command_line import run_binary
from experiments.use_case import UseCase

if TYPE_CHECKING:
    from fl_research.task import FederatedTask

flags.adopt_module_key_flags(experiment_flags)
flags.adopt_module_key_flags(data_flags)
flags.adopt_module_key_flags(text_flags)
flags.adopt_module_key_flags(satisfaction_flags)


def load(seed: int) -> "FederatedTask":
    """Loads the data that the flags name."""
    from experiments.load_satisfaction import load_satisfaction_task  # Slow to import.

    return load_satisfaction_task(USE_CASE, seed)


USE_CASE = UseCase(
    name="satisfaction_analysis",
    datasets={
        "synthetic": "synthetic_survey",
        "synthetic_text": "synthetic_survey",
        "airline_satisfaction": "airline_satisfaction",
    },
    load=load,
    defaults={"rounds": 200, "server_momentum": 0.9, "server_learning_rate": 0.5},
    default_clip_norm=0.5,
)


def main(argv: list[str]) -> None:
    """Runs the use case that the flags describe."""
    from experiments.run_experiment import run_experiment  # Slow to import; --help needs none.

    del argv
    run_experiment(USE_CASE)


if __name__ == "__main__":
    run_binary(main, USE_CASE)
