"""Churn prevention: who will leave, learned from customers' records that stay with the customers.

Trains a churn model with DP-FedAvg on TensorFlow Federated, evaluates it on customers it has never
seen, and writes a report with an epsilon that follows from the rounds that ran. Without any flag it
runs on generated telecom records:

    python -m experiments.churn_prevention
    python -m experiments.churn_prevention --flagfile=experiments/flagfiles/churn_telco.flags
    python -m experiments.churn_prevention --dataset=table --data=customers.csv \\
        --label_column=churned --client_column=customer --infer_schema --delta=1e-5

The same flags again go on with an interrupted run.
"""

from absl import flags

from experiments import data_flags, experiment_flags
from experiments.command_line import run_binary

flags.adopt_module_key_flags(experiment_flags)
flags.adopt_module_key_flags(data_flags)

USE_CASE = "churn_prevention"
NAMED_DATASETS = ("synthetic", "telco_churn")


def main(argv: list[str]) -> None:
    """Runs the use case that the flags describe."""
    from experiments.run_experiment import run_experiment  # Slow to import; --help needs none.

    del argv
    run_experiment(USE_CASE, named_datasets=NAMED_DATASETS, default_clip_norm=1.0)


if __name__ == "__main__":
    run_binary(main)
