"""What a table holds: hand-counted columns and clients, skew against brute force, speed."""

import time

import numpy as np
import pandas as pd
import pytest

from fl_research.data.column_description import describe_column
from fl_research.data.description import QUANTILES, describe
from fl_research.data.schema import Schema, encode
from fl_research.data.suggested_schema import suggest_schema
from fl_research.errors import InputError

# Quirks of the real tables: blanks, 0/1 beside Yes/No, ids as floats.
TABLE = pd.DataFrame(
    {
        "column_1": [str(n / 4) for n in range(8)],
        "customer": ["17850.0", "17850.0", "", "13047.0", "13047.0", "13047.0", "12583.0", " "],
        "senior": ["0", "1", "0", "0", "1", "0", "0", "0"],
        "charges": ["1.5", " ", "2.5", "3.5", "4.5", "5.5", "6.5", "7.5"],
        "plan": ["basic", "gold", "basic ", "?", "gold", "gold", "basic", "gold"],
        "since": ["2010-12-01", "2010-12-02 08:26:00", "", *["2011-01-01"] * 5],
        "said": ["what is my balance", "card lost again please", "where is it", *["ok ok ok"] * 5],
        "same": ["x"] * 8,
        "none": [""] * 8,
        "left": ["Yes", "No", "No", "No", "", "Yes", "No", "No"],
    }
)


def described(**changed):
    """The description of TABLE."""
    given = {"client_column": "customer", "label_column": "left", "missing_values": ("", "?")}
    return describe(TABLE, **(given | changed))


def test_columns_by_hand():
    columns = {column.name: column for column in described().columns}
    assert {name: column.kind for name, column in columns.items()} == {
        "column_1": "number",
        "customer": "category",
        "senior": "category",
        "charges": "number",
        "plan": "category",
        "since": "time",
        "said": "category",
        "same": "constant",
        "none": "empty",
        "left": "category",
    }
    assert columns["charges"].missing == 1
    assert columns["charges"].quartiles == (1.5, 3.0, 4.5, 6.0, 7.5)
    assert columns["plan"].missing == 1 and columns["plan"].values == ("basic", "gold")
    assert columns["plan"].frequent == (("gold", 4), ("basic", 3))
    assert columns["since"].first == "2010-12-01 00:00:00" and columns["since"].missing == 1
    assert columns["none"].missing == 8 and columns["none"].distinct == 0
    assert columns["customer"].missing == 2 and columns["customer"].distinct == 3


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([f"C{n:05d}" for n in range(300)], "identifier"),
        ([f"where is my card number {n}" for n in range(300)], "text"),
        (["12/1/2010"] * 5 + ["13/1/2010"], "category"),  # Which is the day? Nobody knows.
        (["2010-02-30"] * 5 + ["2010-02-01"], "category"),
        (list(range(300)), "number"),
        ([0, 1, 2, 5], "category"),
        ([0.5, 1.0, 2.0, 2.0], "number"),
        ([True, False, True, True], "category"),
        ([None, None], "empty"),
        (pd.Series(pd.to_datetime(["2011-01-01", None, "2010-01-01"])), "time"),
        ([np.nan, 3.25, 4.5], "number"),
    ],
)
def test_kinds(values, kind):
    assert describe_column(pd.Series(values), "c", ("",)).kind == kind


def test_clients_and_label_by_hand():
    found = described()
    assert found.rows == 8 and found.duplicates == 0
    assert found.clients.number == 3 and found.clients.rows_without == 2
    assert found.clients.mean == 2 and found.clients.quantiles[0] == 1
    assert found.clients.histogram == ((1, 1, 1), (2, 3, 2))
    assert found.label.kind == "classes" and found.label.rows_without == 1
    assert found.label.classes == (("No", 5), ("Yes", 2)) and found.label.num_classes == 2


def skew_by_loops(clients, labels) -> float:
    """Mean total variation distance of each client's labels from all, weighted by rows."""
    values = sorted(set(labels))
    overall = np.array([np.mean([x == v for x in labels]) for v in values])
    total = 0.0
    for client in set(clients):
        own = [x for x, c in zip(labels, clients, strict=True) if c == client]
        mix = np.array([np.mean([x == v for x in own]) for v in values])
        total += len(own) * 0.5 * np.abs(mix - overall).sum()
    return total / len(labels)


@pytest.mark.parametrize("seed", range(3))
def test_skew_equals_a_loop(seed: int):
    generator = np.random.default_rng(seed)
    clients = generator.integers(0, 12, 200)
    labels = np.where(generator.random(200) < 0.5, "a", (clients % 4).astype(str))
    table = pd.DataFrame({"who": clients.astype(str), "what": labels})
    label = describe(table, client_column="who", label_column="what").label
    assert label.skew == pytest.approx(skew_by_loops(clients.tolist(), labels.tolist()))
    assert label.skew_at_random < label.skew
    assert label.distances[0] <= label.skew <= label.distances[-1]


def test_skew_of_numbers_is_the_share_between_clients():
    generator = np.random.default_rng(0)
    clients = np.repeat(np.arange(50), 20)
    values = generator.normal(0, 1, 50)[clients] + generator.normal(0, 1, 1000)
    table = pd.DataFrame({"who": clients.astype(str), "spend": values})
    label = describe(table, client_column="who", label_column="spend").label
    groups = table.groupby("who")["spend"].transform("mean")
    assert label.kind == "number" and len(label.quantiles) == len(QUANTILES)
    assert label.skew == pytest.approx(groups.var(ddof=0) / table["spend"].var(ddof=0))
    assert label.skew > 0.35 and label.skew_at_random < 0.1


def test_clients_of_one_row_have_no_mix():
    table = pd.DataFrame({"who": ["a", "b", "c"], "what": ["x", "y", "x"]})
    label = describe(table, client_column="who", label_column="what").label
    assert label.skew is None and label.distances == ()


def test_the_suggested_schema_encodes_the_table():
    schema = suggest_schema(described())
    kinds = {column.name: column.kind for column in schema.columns}
    assert kinds["customer"] == "client" and kinds["left"] == "label"
    assert {kinds[name] for name in ("since", "same", "none")} == {"ignore"}
    assert schema.inferred and schema.label_column.positive == "Yes"
    assert Schema.from_dict(schema.to_dict()) == schema
    whole = TABLE.replace({"plan": {"?": ""}})
    encoded = encode(whole, schema)
    assert encoded.cleaning["rows kept"] == 5  # Two rows name no client, one has no label.
    assert np.abs(encoded.inputs).max() <= 1


def test_no_schema_without_classes():
    with pytest.raises(InputError, match=r"needs a label; give --label_column"):
        suggest_schema(described(label_column=None))
    with pytest.raises(InputError, match=r"label_column='same' does not vary"):
        suggest_schema(described(label_column="same"))
    spend = pd.DataFrame({"a": range(300), "spend": np.linspace(0, 1, 300)})
    with pytest.raises(InputError, match=r"label_column='spend' is a number"):
        suggest_schema(describe(spend, label_column="spend"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"client_column": "client"}, r"client_column='client' is not in the table; .*there are"),
        ({"label_column": "Left"}, r"label_column='Left' is not in the table; did you mean 'left'"),
        ({"label_column": "customer"}, r"client_column and label_column are both 'customer'"),
        ({"client_column": "none"}, r"client_column='none' names no client in any row"),
    ],
)
def test_wrong_columns(changed, message):
    with pytest.raises(InputError, match=message):
        described(**changed)


def test_an_empty_table():
    with pytest.raises(InputError, match="the table is empty"):
        describe(TABLE.iloc[:0])


@pytest.mark.slow
def test_half_a_million_rows_in_a_few_seconds():
    generator = np.random.default_rng(0)
    rows = 500_000
    table = pd.DataFrame(
        {
            "who": generator.integers(0, 4000, rows).astype(str),
            "when": pd.Series(
                pd.Timestamp("2011-01-01")
                + pd.to_timedelta(generator.integers(0, 3000, rows), unit="h")
            ).astype(str),
            "worth": generator.random(rows).round(4).astype(str),
            "what": generator.choice(["tea", "cup", "bag"], rows),
        }
    )
    started = time.process_time()
    found = describe(table, client_column="who", label_column="what")
    assert time.process_time() - started < 10
    assert found.clients.number == 4000 and found.label.num_classes == 3
