"""UCI Online Retail as it was known day by day: purchases, and cancellations on their own day.

`online_retail` takes cancelled units off the purchases that they cancel. A purchase is then
smaller because of something that happened later, which a feature from before a cut date must not
know. Here every line stands on its own day: a purchase has an amount above zero, a cancellation
one below. The rules, in order, each with its count in `cleaning`:

1. No customer number: left out.
2. The stock code is no product (postage, manual entries, discounts, ...): left out.
3. A price of zero or less: left out.

Chen, Sain, Guo 2012, "Data mining for the online retail industry", CC BY 4.0.
"""

import dataclasses

import numpy as np
import pandas as pd

from fl_research.data.datasets import online_retail
from fl_research.data.loaded_records import LoadedRecords
from fl_research.errors import InputError

COLUMNS = ("customer", "time", "invoice", "item", "amount", "country")


def load(*, path: str | None, seed: int) -> LoadedRecords:
    """Returns the lines of known customers, `COLUMNS`, in order of time.

    Args:
      path: As for `online_retail.load`.
      seed: Not used.

    Raises:
      InputError: As `online_retail.load`.
    """
    del seed
    raw = online_retail.read_raw(path)
    records, cleaning = signed_lines(raw.records)
    return dataclasses.replace(raw, records=records, cleaning=cleaning)


def signed_lines(raw: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Returns purchases and cancellations by the rules of this module.

    Args:
      raw: The shop's lines, every cell a text, as for `online_retail.clean_lines`.

    Returns:
      Rows in order of time with `COLUMNS` (`amount` float64, below zero for a cancellation), and
      how many lines each rule left out.

    Raises:
      InputError: A column is missing, a cell is no date or number, or no line is left.
    """
    lines = online_retail.typed_lines(raw)
    named = (lines["customer"] != "").to_numpy()
    product = online_retail.is_product(lines["item"])
    priced = (lines["price"] > 0).to_numpy()
    kept = lines[named & product & priced].sort_values("time", kind="stable", ignore_index=True)
    if kept.empty:
        raise InputError("online_retail: no line is left after cleaning; give the shop's own lines")
    cancels = (kept["invoice"].str.startswith("C") | (kept["quantity"] < 0)).to_numpy()
    worth = (kept["quantity"].abs() * kept["price"]).to_numpy()
    kept["amount"] = np.where(cancels, -worth, worth)
    cleaning = {
        "lines read": len(raw),
        "lines without a customer left out": int((~named).sum()),
        "lines of no product left out": int((named & ~product).sum()),
        "lines with a price of zero or less left out": int((named & product & ~priced).sum()),
        "lines left": len(kept),
        "cancellation lines among them": int(cancels.sum()),
    }
    return kept[list(COLUMNS)], cleaning
