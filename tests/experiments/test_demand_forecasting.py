"""The forecast binary as a user meets it: wrong input, what is loaded, a whole run."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import demand_forecasting
from fl_research.data.preparation import series
from fl_research.errors import InputError
from fl_research.task import FederatedTask


def _parsed(*arguments: str) -> None:
    """Sets the flags as the binary does."""
    demand_forecasting.USE_CASE.set_defaults()
    flags.FLAGS(["demand_forecasting", *arguments])


def _load(*arguments: str, seed: int = 0) -> FederatedTask:
    """The task that these flags describe."""
    with flagsaver.flagsaver():
        _parsed(*arguments)
        return demand_forecasting.USE_CASE.load(seed)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty shops over sixty days with a weekly season, prices, and a day off each week."""
    path = tmp_path_factory.mktemp("table") / "sales.csv"
    generator = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["shop", "day", "sold", "price", "note"])
        for shop in range(40):
            level = 20 * generator.gamma(4.0)
            for number, day in enumerate(pd.date_range("2024-01-01", periods=60)):
                if number % 7 == 6:
                    continue
                mean = level * (1 + 0.5 * np.sin(2 * np.pi * number / 7))
                sold = max(generator.normal(mean, 0.1 * mean), 0)
                writer.writerow([f"s{shop:02d}", day.date(), f"{sold:.1f}", "2.5", "x"])
    return path


def _of_table(path: Path, *further: str) -> list[str]:
    """Flags of a good run on the table."""
    return [
        "--dataset=table",
        f"--data={path}",
        "--client_column=shop",
        "--time_column=day",
        "--value_column=sold",
        "--period=day",
        "--lags=14",
        "--season=7",
        *further,
    ]


WRONG_FLAGS = {
    "no lags": (["--lags=0"], r"lags=0 is not possible"),
    "negative horizon": (["--horizon=-1"], r"horizon=-1 is not possible"),
    "season of one": (["--season=1"], r"season=1 is not possible"),
    "too long": (["--lags=70"], r"78 whole periods.*give fewer lags"),
    "short history": (["--min_history=5"], r"min_history=5 is less than lags=26"),
    "quantiles of a point": (["--loss=squared", "--quantiles=0.5"], r"do not go with loss"),
    "no median": (["--quantiles=0.1,0.9"], r"0\.5 among them"),
    "no number": (["--quantiles=low"], r"--quantiles=low has something that is no number"),
    "one bound": (["--scaled_bounds=10"], r"--scaled_bounds=10 is not two numbers"),
    "bounds": (["--scaled_bounds=3,10"], r"clip=\(3\.0, 10\.0\)"),
    "split": (["--test_fraction=0.3"], r"--test_fraction=0\.3 does not go with forecasts"),
    "partition": (["--partition=iid", "--partition_clients=9"], r"the client is who the series"),
    "schema": (["--schema=x.json"], r"--schema=x\.json does not go with forecasts"),
    "windows": (["--mechanism=client_dpsgd"], r"one purchase is in many of them"),
    "table's flag": (["--value_column=v"], r"--value_column=v belongs to --dataset=table"),
    "covariate": (["--covariate_columns=price"], r"no column 'price'; .*store, week, units"),
}


@pytest.mark.parametrize("case", WRONG_FLAGS)
def test_wrong_flags_are_one_clear_line(case: str) -> None:
    arguments, message = WRONG_FLAGS[case]
    with pytest.raises(InputError, match=message) as error:
        _load(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("flag", ["--early_finish_patience=3", "--search=s"])
def test_the_protected_choose_nothing(tmp_path: Path, table: Path, flag: str) -> None:
    """Validation is of the clients that epsilon is for, and has no noise."""
    with flagsaver.flagsaver():
        _parsed(*_of_table(table, flag, "--delta=1e-3", f"--output_dir={tmp_path / 'runs'}"))
        with pytest.raises(InputError, match=f"{flag} would choose by the validation metric"):
            demand_forecasting.main([])
    assert not (tmp_path / "runs").exists()


def test_wrong_tables_are_one_clear_line(tmp_path: Path, table: Path) -> None:
    frame = pd.read_csv(table, dtype=str)
    cases = [
        (frame.assign(day=frame["day"].str.replace("-", "/")), r"'day' has '2024/01/01'.*no date"),
        (frame.assign(sold="few"), r"'sold' has 'few' where a number must be"),
        (frame.drop(columns="shop"), r"--client_column=shop is no column of"),
        (
            frame[frame["day"].isin(["2024-01-01", "2024-01-15", "2024-01-29"])],
            r"come every 14 days",
        ),
        (frame[frame["day"] < "2024-01-20"], r"hold 19 whole periods.*need 26"),
    ]
    for number, (changed, message) in enumerate(cases):
        path = tmp_path / f"{number}.csv"
        changed.to_csv(path, index=False)
        with pytest.raises(InputError, match=message) as error:
            _load(*_of_table(path))
        assert "\n" not in str(error.value)


def test_the_task_of_a_table(table: Path) -> None:
    task = _load(
        *_of_table(table, "--covariate_columns=price", "--max_rows_per_client=20"),
        "--history_inputs",
    )
    # 60 days: 14 of history, then 35 windows before the twice four of validation and test.
    assert task.data_facts["periods"]["whole"] == 60
    assert task.train.num_clients == task.test.num_clients == task.test.num_rows == 40
    assert task.train.rows_per_client.tolist() == [20] * 40
    # Value, zero or not, price; three pairs of waves; three quantiles.
    assert task.train.row_types["inputs"][0] == (14, 3 + 6 + 3)
    assert task.unit == "one client (shop)" and "at most 20 windows" in task.unit_contains
    assert (
        task.test_clients_train and task.evaluated_on == "later periods of the clients that trained"
    )
    assert task.objective.describe()["quantiles"] == [0.1, 0.5, 0.9]
    json.dumps([task.data_facts, task.preparation])


def test_without_a_season_the_report_says_what_is_left_out(table: Path) -> None:
    arguments = [flag for flag in _of_table(table) if not flag.startswith("--season")]
    task = _load(*arguments, "--loss=absolute")
    assert "seasonal naive baseline is left out: no --season" in task.data_facts["notes"][-1]
    assert task.primary_metric == "wmape"


def test_online_retail_lines_become_weekly_spend(tmp_path: Path) -> None:
    lines = ["InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"]
    for number, day in enumerate(pd.date_range("2011-01-03", "2011-07-31")):
        for customer in (17850, 12346):
            if (number + customer) % 5 == 0:
                row = f"{number},22423,THING,{1 + number % 3},{day} 00:00:00,2,{customer}.0,France"
                lines.append(row.replace(" 00:00:00 00:00:00", " 00:00:00"))
    lines.append("C9,22423,THING,-1,2011-07-31 10:00:00,2,17850.0,France")
    path = tmp_path / "lines.csv"
    path.write_text("\n".join(lines) + "\n")
    task = _load("--dataset=online_retail", f"--data={path}")
    assert task.unit == "one customer"
    assert task.data_facts["cleaning"]["cancellation lines netted"] == 1
    assert task.data_facts["periods"] == {
        "period": "week", "first": "2011-01-03", "last": "2011-07-25", "whole": 30,
    }  # fmt: skip
    assert "which is not that of the known copy" in task.data_facts["notes"][0]


@pytest.mark.slow
def test_a_run_beats_its_baselines_and_its_model_forecasts(tmp_path: Path, table: Path) -> None:
    """Without privacy, so that nothing is left to luck: the season is there to be learned."""
    with flagsaver.flagsaver():
        _parsed(
            *_of_table(table, "--mechanism=none", "--rounds=25", "--clients_per_round=20"),
            f"--output_dir={tmp_path}",
            "--run_name=shops",
            "--noise_seed=1",
        )
        demand_forecasting.main([])
    folder = tmp_path / "shops"
    report = json.loads((folder / "report.json").read_text())
    of_test = report["utility"]["test"]
    assert {"mae", "rmse", "wmape", "pinball_loss", "coverage_80"} <= set(of_test)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    errors = evaluation["findings"]["forecast"]["errors"]
    of_model = np.mean(errors.pop("model"))
    assert of_model == pytest.approx(of_test["pinball_loss"])
    assert all(of_model < np.mean(values) for values in errors.values()), errors
    assert (folder / "plots" / "forecast.png").stat().st_size > 10_000
    assert "not above the forecast that 90 %" in (folder / "report.md").read_text()

    import tensorflow as tf

    description = json.loads((folder / "final_model" / "model.json").read_text())
    prepared = series.prepare(pd.read_csv(table, dtype=str), description["preparation"])
    model = tf.saved_model.load(str(folder / "final_model" / "saved_model"))
    features = {name: tf.constant(values) for name, values in prepared.features.items()}
    answers = model.predict(**features)
    assert len(prepared.ids) == 40 and answers["forecast"].shape == (40, 4)
    # The sixty-first day is a Friday; the mean of each shop is far from nothing.
    level = prepared.features["scale"]
    assert np.abs(answers["forecast"].numpy() / level[:, None] - 1).mean() < 0.6
