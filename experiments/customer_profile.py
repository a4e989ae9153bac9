"""Customer profiles: which kinds of customers there are, and what they are worth.

Segments are found by federated k-means: each client sends the sums and counts of its rows, which
are clipped and noised as an update; the server moves the centres. The unit is one customer: each
row is a client, with Gaussian noise on the sums. Without any flag it runs on generated customers
whose true segments are known:

    python -m experiments.customer_profile
    python -m experiments.customer_profile \\
        --flagfile=experiments/flagfiles/profile_adult_segments.flags

Worth is predicted from the label by a model that all departments train together, and each
department then trains a last layer of its own, which never leaves it. Departments are few: noise
that hides a whole department would leave nothing to learn. So they train by DP-SGD
(--mechanism=client_dpsgd), and the unit is one record of one department:

    python -m experiments.customer_profile --profile_task=worth
    python -m experiments.customer_profile --flagfile=experiments/flagfiles/profile_adult.flags

--profile_client=customer makes each row a client, with --mechanism=gaussian, for worth too. On your
own table (a file, a database or an address) the unit is then one row, right only where a row is a
customer. With departments in the column `branch`, say which of the two is a client:

    python -m experiments.customer_profile --dataset=table --data=customers.csv --infer_schema \\
        --label_column=high_value --client_column=branch --profile_client=customer --delta=1e-5 \\
        --segments=4
    python -m experiments.customer_profile --dataset=table --data=customers.csv --infer_schema \\
        --label_column=high_value --client_column=branch --delta=1e-5 --profile_task=worth

The same flags again go on with an interrupted run.
"""

from typing import TYPE_CHECKING

from absl import flags

from experiments import data_flags, experiment_flags, profile_flags
from experiments.command_line import run_binary
from experiments.use_case import UseCase

if TYPE_CHECKING:
    from fl_research.task import FederatedTask

flags.adopt_module_key_flags(experiment_flags)
flags.adopt_module_key_flags(data_flags)
flags.adopt_module_key_flags(profile_flags)


def load(seed: int) -> "FederatedTask":
    """Loads the data that the flags name."""
    from experiments.load_profile import load_profile_task  # Slow to import; --help needs none.

    return load_profile_task(USE_CASE, seed)


USE_CASE = UseCase(
    name="customer_profile",
    datasets={"synthetic": "synthetic_segments", "adult": "adult"},
    load=load,
    settle=profile_flags.set_task_defaults,
)


def main(argv: list[str]) -> None:
    """Runs the use case that the flags describe."""
    from experiments.run_experiment import run_experiment  # Slow to import; --help needs none.

    del argv
    run_experiment(USE_CASE)


if __name__ == "__main__":
    run_binary(main, USE_CASE)
