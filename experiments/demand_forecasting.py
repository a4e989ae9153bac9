"""Demand forecasting: how much each customer or store will buy in the next periods.

Trains one model for all series, which stay with their customers or stores, and tests it on later
periods of theirs: the split is by time, never at random. Values are divided by the client's own
past mean, so that small and large ones can share a model. The default forecasts three quantiles of
the demand of the next four weeks, on generated stores whose expected demand is known:

    python -m experiments.demand_forecasting
    python -m experiments.demand_forecasting --loss=squared --model=gru
    python -m experiments.demand_forecasting \\
        --flagfile=experiments/flagfiles/demand_online_retail.flags

On your own records (client, time, value, and covariates if you like), from a file, a database or an
address, summed by --period:

    python -m experiments.demand_forecasting --dataset=table --data=sales.csv --period=day \\
        --client_column=store --time_column=date --value_column=units --season=7 --lags=14 \\
        --covariate_columns=price --delta=1e-5

Models: linear_regression (a linear autoregression), mlp and gru. The same flags again go on with
an interrupted run.
"""

from typing import TYPE_CHECKING

from absl import flags

from experiments import data_flags, experiment_flags, series_flags
from experiments.command_line import run_binary
from experiments.use_case import UseCase

if TYPE_CHECKING:
    from fl_research.task import FederatedTask

flags.adopt_module_key_flags(experiment_flags)
flags.adopt_module_key_flags(data_flags)
flags.adopt_module_key_flags(series_flags)


def load(seed: int) -> "FederatedTask":
    """Loads the data that the flags name."""
    from experiments.load_series import load_series_task  # Slow to import; --help needs none.

    return load_series_task(USE_CASE, seed)


USE_CASE = UseCase(
    name="demand_forecasting",
    datasets={"synthetic": "synthetic_demand", "online_retail": "online_retail"},
    load=load,
    defaults={
        "model": "linear_regression",
        "client_learning_rate": 0.1,
        "server_learning_rate": 4.0,
    },
    default_clip_norm=0.05,
)


def main(argv: list[str]) -> None:
    """Runs the use case that the flags describe."""
    from experiments.run_experiment import run_experiment  # Slow to import; --help needs none.

    del argv
    run_experiment(USE_CASE)


if __name__ == "__main__":
    run_binary(main, USE_CASE)
