"""Tables of orders with the quirks of real ones, for tests of churn by inactivity."""

from pathlib import Path

import numpy as np
import pandas as pd

CUT = "2023-09-01"


def orders(customers: int = 240, seed: int = 0) -> pd.DataFrame:
    """A year of orders; who orders rarely is likely to have left at the cut.

    Quirks: lines without a customer, cancellations, free gifts, two lines an order, customers as
    text of floats, shops of different sizes.
    """
    generator = np.random.default_rng(seed)
    parts = []
    for number in range(customers):
        gap = float(generator.choice([12.0, 70.0]))
        # Rare customers stop at a random day, others hardly ever.
        stops = generator.uniform(100, 400) if gap > 50 else generator.uniform(240, 900)
        days = np.cumsum(generator.exponential(gap, 60))
        days = days[days < min(stops, 364)]
        parts.append(
            pd.DataFrame({"customer": f"{10_000 + number}.0", "day": days, "shop": number % 3})
        )
    lines = pd.concat(parts, ignore_index=True)
    lines = lines.loc[lines.index.repeat(2)].reset_index(drop=True)
    rows = len(lines)
    moments = pd.Timestamp("2023-01-01") + pd.to_timedelta(lines["day"], unit="D")
    amounts = np.round(generator.lognormal(2.5, 0.8, rows), 2)
    amounts[generator.random(rows) < 0.04] *= -1
    amounts[generator.random(rows) < 0.02] = 0.0
    table = pd.DataFrame(
        {
            "customer": lines["customer"],
            "ordered": moments.dt.floor("s").astype(str),
            "number": pd.factorize(lines["customer"] + moments.astype(str))[0],
            "item": [f"item {n}" for n in generator.integers(0, 30, rows)],
            "amount": amounts,
            "shop": [f"shop {n}" for n in lines["shop"]],
        }
    )
    table.loc[generator.random(rows) < 0.05, "customer"] = ""
    return table


def write_orders(folder: Path, **made: int) -> Path:
    """Writes `orders` as a CSV file and returns its path."""
    path = folder / "orders.csv"
    orders(**made).to_csv(path, index=False)
    return path


def flags_of(path: Path, **changed: str | None) -> list[str]:
    """Flags of churn by inactivity on a table, with some changed, or left out where None."""
    given: dict[str, str | None] = {
        "dataset": "table",
        "data": str(path),
        "client_column": "customer",
        "time_column": "ordered",
        "value_column": "amount",
        "cut_date": CUT,
        "delta": "1e-5",
    }
    return [f"--{name}={value}" for name, value in (given | changed).items() if value is not None]
