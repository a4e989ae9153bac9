"""From the data flags to the task of a forecast: panel, windows, split by time. No TensorFlow.

The client is who the series is of: a customer or a store. Validation and test are later periods of
the clients that train.
"""

import dataclasses
from typing import Any

import numpy as np
from absl import flags

from experiments import build_task
from experiments.build_task import LoadedClients
from experiments.component_flags import selected_flags
from experiments.flags_without_effect import refuse_flags
from experiments.read_source import read_source, required_column
from experiments.use_case import UseCase
from fl_research.data.client_data import ClientData
from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.panel import Panel, PanelConfig, build_panel
from fl_research.data.preparation import series
from fl_research.data.windows import TimeSplit, WindowConfig, Windows, split_by_time
from fl_research.errors import InputError
from fl_research.objectives.regression import Regression
from fl_research.task import FederatedTask

FLAGS = flags.FLAGS

_COLUMNS = {
    "synthetic": ("store", "week", "units"),
    "online_retail": ("customer", "time", "amount"),
}
_UNITS = {"synthetic": "one store", "online_retail": "one customer"}
_LAGS = 13
_OF_SYNTHETIC = {"lags": 26, "season": 13}
_QUANTILES = (0.1, 0.5, 0.9)
_NOT_HERE = {
    "test_fraction": "the split is by time: test is the last --horizon periods",
    "validation_fraction": "the split is by time: validation is the --horizon periods before test",
    "schema": "name --client_column, --time_column and --value_column",
    "infer_schema": "name --client_column, --time_column and --value_column",
    "label_column": "give --value_column",
    "positive_label": "a forecast is a number",
    "person_column": "the client is who the series is of",
    "clients_per_person": "the client is who the series is of",
    "drop_columns": "columns that are not named are not read",
}


def load_series_task(use_case: UseCase, seed: int) -> FederatedTask:
    """Reads the records that the flags name, cuts windows and splits them by time.

    Args:
      use_case: Names the data sets.
      seed: Of generated data, and of the choice of rows where they are capped.

    Raises:
      InputError: Wrong flags or wrong records; says which and the way out.
    """
    _refuse_flags_of_other_use_cases()
    if FLAGS.mechanism == "client_dpsgd":
        raise InputError(
            "--mechanism=client_dpsgd protects one row, and here a row is a window: one purchase "
            "is in many of them; choose a mechanism for whole clients, such as gaussian"
        )
    windows = _window_config()
    objective = _objective(windows)
    loaded = read_source(use_case, seed)
    columns = _panel_config(loaded)
    panel = build_panel(loaded.records, columns)
    split = split_by_time(panel, windows)
    train = _clients(panel, split.train)
    contains = f"the whole series of one {columns.client_column}"
    if FLAGS.max_rows_per_client is not None:
        train = train.cap_rows(FLAGS.max_rows_per_client, seed)
        contains += f"; at most {FLAGS.max_rows_per_client} windows of it are trained on"
    splits = (train, _clients(panel, split.validation), _clients(panel, split.test))
    unit = _UNITS.get(FLAGS.dataset, f"one client ({columns.client_column})")
    known = LoadedClients(
        clients=train,
        unit=unit,
        unit_contains=contains,
        feature_names=(),
        facts=_facts(loaded, panel, split, windows),
    )
    reader = "online_retail" if FLAGS.dataset == "online_retail" else "table"
    return FederatedTask(
        name=use_case.name,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        objective=dataclasses.replace(objective, value=columns.value_column),
        unit=unit,
        unit_contains=contains,
        feature_names=(),
        preparation=series.settings_of(columns, windows, reader),
        data_facts=build_task.data_facts(known, splits),
        evaluated_on="later periods of the clients that trained",
        test_clients_train=True,
    )


def _refuse_flags_of_other_use_cases() -> None:
    """Refuses flags that would have no effect."""
    refuse_flags(_NOT_HERE, "forecasts")
    selected_flags("partition")
    if FLAGS.partition != "natural":
        raise InputError(
            f"--partition={FLAGS.partition} does not go with forecasts: the client is who the "
            "series is of; leave the flag out"
        )


def _window_config() -> WindowConfig:
    """How windows are cut, by the flags."""
    defaults = _OF_SYNTHETIC if FLAGS.dataset == "synthetic" else {}
    return WindowConfig(
        lags=defaults.get("lags", _LAGS) if FLAGS.lags is None else FLAGS.lags,
        horizon=FLAGS.horizon,
        season=defaults.get("season") if FLAGS.season is None else FLAGS.season,
        min_history=FLAGS.min_history,
        min_active=FLAGS.min_active,
        clip=_bounds(),
        scale_floor=FLAGS.scale_floor,
        quantiles=_quantiles(),
        history_inputs=FLAGS.history_inputs,
    )


def _objective(windows: WindowConfig) -> Regression:
    """What is forecast, by the flags."""
    return Regression(
        horizon=windows.horizon,
        loss=FLAGS.loss,
        quantiles=windows.quantiles,
        clip=windows.clip,
        naive=windows.naive_names,
    )


def _quantiles() -> tuple[float, ...]:
    """The quantiles of the pinball loss; others have none."""
    if FLAGS.quantiles is None:
        return _QUANTILES if FLAGS.loss == "pinball" else ()
    return _numbers("quantiles", "0.1,0.5,0.9")


def _bounds() -> tuple[float, float]:
    """The bounds of scaled values."""
    bounds = _numbers("scaled_bounds", "0,10")
    if len(bounds) != 2:
        raise InputError(
            f"--scaled_bounds={','.join(FLAGS.scaled_bounds)} is not two numbers; give such as 0,10"
        )
    return bounds[0], bounds[1]


def _numbers(flag: str, example: str) -> tuple[float, ...]:
    """The numbers of a list flag."""
    given = FLAGS[flag].value
    try:
        return tuple(float(value) for value in given)
    except ValueError:
        raise InputError(
            f"--{flag}={','.join(given)} has something that is no number; give such as {example}"
        ) from None


def _panel_config(loaded: LoadedRecords) -> PanelConfig:
    """Which columns there are, by the data set or by the flags."""
    covariates = tuple(FLAGS.covariate_columns or ())
    if FLAGS.dataset == "table":
        client, time, value = (
            required_column(f"{part}_column", loaded.records)
            for part in ("client", "time", "value")
        )
    else:
        client, time, value = _COLUMNS[FLAGS.dataset]
    return PanelConfig(
        client_column=client,
        time_column=time,
        value_column=value,
        covariate_columns=covariates,
        period=FLAGS.period,
    )


def _clients(panel: Panel, windows: Windows) -> ClientData:
    """The windows of each client."""
    assert windows.targets is not None
    return ClientData.from_rows(
        windows.features, windows.targets, panel.client_ids[windows.clients]
    )


def _facts(
    loaded: LoadedRecords, panel: Panel, split: TimeSplit, config: WindowConfig
) -> dict[str, Any]:
    """What run.json says of the series, beside what it says of any data."""
    facts = build_task.source_facts(loaded)
    notes = list(facts["notes"])
    if "seasonal_naive" not in config.naive_names:
        why = (
            "no --season is given"
            if config.season is None
            else f"--season={config.season} is longer than min_history={config.history}"
        )
        notes.append(f"the seasonal naive baseline is left out: {why}")
    targets, (low, high) = split.test.targets, config.clip
    assert targets is not None
    outside = float(np.mean((targets < low) | (targets > high)))
    public = [
        f"bounds {low:g} to {high:g} of a value as a multiple of the client's own past mean",
        "the period, and which periods are whole",
    ]
    rule = "clients with too short or too inactive a history to train left out"
    return facts | {
        "notes": notes,
        "cleaning": facts["cleaning"]
        | dict(panel.cleaning)
        | {rule: split.clients_without_training},
        "public": public,
        "periods": {
            "period": FLAGS.period,
            "first": str(panel.starts[0]),
            "last": str(panel.starts[-1]),
            "whole": panel.num_periods,
        },
        "windows": config.to_dict(),
        "test_targets_outside_bounds": outside,
        "disclosed": [
            "the first and the last period of the records, and the share of test values outside "
            "the public bounds"
        ],
    }
