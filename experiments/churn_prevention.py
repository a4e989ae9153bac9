"""Churn prevention: who will leave, learned from customers' records that stay with the customers.

Trains a churn model with DP-FedAvg on TensorFlow Federated, evaluates it on customers it has never
seen, and writes a report with an epsilon that follows from the rounds that ran. Without any flag it
runs on generated telecom records:

    python -m experiments.churn_prevention
    python -m experiments.churn_prevention --flagfile=experiments/flagfiles/churn_telco.flags
    python -m experiments.churn_prevention --dataset=table --data=customers.csv \\
        --label_column=churned --client_column=customer --infer_schema --delta=1e-5

Where customers leave without giving notice, a table of orders says who left: who placed no order in
the 90 days after a cut date. Features come from before the cut only. `--time_column` says that a
table is one of orders:

    python -m experiments.churn_prevention --dataset=online_retail
    python -m experiments.churn_prevention \\
        --flagfile=experiments/flagfiles/churn_online_retail.flags
    python -m experiments.churn_prevention --dataset=table --data=orders.csv \\
        --client_column=customer --time_column=ordered --value_column=amount \\
        --cut_date=2025-06-01 --delta=1e-5

Where a client is a shop, `--client_column=shop --user_column=customer` makes a row of each customer
of a shop, from the orders there alone: who buys in two shops has a row in each, and may leave one.

The run's folder also holds customers_to_keep.csv: the test customers by their calibrated risk. It
names persons, and epsilon does not cover it.

The same flags again go on with an interrupted run.
"""

from typing import TYPE_CHECKING

from absl import flags

from experiments import churn_flags, data_flags, experiment_flags
from experiments.command_line import run_binary
from experiments.use_case import UseCase

if TYPE_CHECKING:
    from fl_research.task import FederatedTask

flags.adopt_module_key_flags(experiment_flags)
flags.adopt_module_key_flags(data_flags)
flags.adopt_module_key_flags(churn_flags)


def load(seed: int) -> "FederatedTask":
    """Loads the data that the flags name."""
    # Slow to import; --help needs none.
    from experiments import load_inactivity, load_population
    from experiments.load_task import load_table_task
    from fl_research.analyses.customers_to_keep import CustomersToKeep

    is_population = load_population.is_selected()
    if load_inactivity.is_selected() and not is_population:
        return load_inactivity.load_inactivity_task(USE_CASE, seed)
    # The list of a population that is larger than memory would not fit into it either.
    analyses = () if is_population else (CustomersToKeep(),)
    return load_table_task(USE_CASE, seed, analyses=analyses)


USE_CASE = UseCase(
    name="churn_prevention",
    datasets={
        "synthetic": "synthetic_telecom",
        "telco_churn": "telco_churn",
        "online_retail": "online_retail_orders",
    },
    load=load,
)


def main(argv: list[str]) -> None:
    """Runs the use case that the flags describe."""
    from experiments.run_experiment import run_experiment  # Slow to import; --help needs none.

    del argv
    run_experiment(USE_CASE)


if __name__ == "__main__":
    run_binary(main, USE_CASE)
