"""Preparation `series`: records in time into one window a client, which ends with the last period.

The forecast is of the periods after the last whole one in the records. A client whose history is
too short, or has too few active periods, is left out and counted, as in training.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from fl_research.data.datasets import online_retail
from fl_research.data.panel import PanelConfig, build_panel
from fl_research.data.prepared import Prepared
from fl_research.data.windows import WindowConfig, cut_windows
from fl_research.errors import InputError

KIND = "series"
NAMES = "client"
"""What `ids` name: one row a client, not one a record."""
_AS_PUBLISHED = "InvoiceNo"


def settings_of(panel: PanelConfig, windows: WindowConfig, reader: str) -> dict[str, Any]:
    """Returns the preparation as a task and a saved model have it, plain JSON.

    Args:
      panel: Columns and period of the records.
      windows: How windows were cut.
      reader: `"online_retail"`, for lines that may come as that shop publishes them; `"table"`
        otherwise.
    """
    columns = dataclasses.asdict(panel)
    columns["covariate_columns"] = list(panel.covariate_columns)
    return {"kind": KIND, "reader": reader, "panel": columns, "windows": windows.to_dict()}


def prepare(records: pd.DataFrame, settings: Mapping[str, Any]) -> Prepared:
    """Returns the features of each client's newest window; `ids` are the clients' names.

    Args:
      records: The history of the clients; for the reader `online_retail` also as published.
      settings: From `settings_of`.

    Raises:
      InputError: The records are no panel, or no client has enough history.
    """
    if settings["reader"] == "online_retail" and _AS_PUBLISHED in records.columns:
        records, _ = online_retail.clean_lines(records)
    panel = build_panel(records, PanelConfig(**settings["panel"]))
    config = WindowConfig(**settings["windows"])
    too_few = InputError(
        f"none of the {len(panel.client_ids)} clients has min_history={config.history} whole "
        f"{settings['panel']['period']}s with min_active={config.min_active} of them active; "
        "give a longer history"
    )
    if panel.num_periods < config.history:
        raise too_few
    windows = cut_windows(panel, config, [panel.num_periods])
    if not len(windows.clients):
        raise too_few
    too_short = len(panel.client_ids) - len(windows.clients)
    dropped = {"clients with too little history left out": too_short}
    dropped |= {rule: n for rule, n in panel.cleaning.items() if rule.endswith("left out")}
    return Prepared(
        features=windows.features,
        ids=panel.client_ids[windows.clients],
        dropped={rule: count for rule, count in dropped.items() if count},
    )
