"""Records come out as they were written, from real files, databases and servers."""

import csv
import io
import json
import sqlite3
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from fl_research.data.sources import (
    SourceOptions,
    checksum,
    http_records,
    read_records,
    record_formats,
    redact,
)
from fl_research.errors import InputError
from tests.data import http_api, postgresql

LARGE = 2**53 + 1  # The first whole number that a float changes.
ROWS = [
    {"id": LARGE, "plan": "Gold", "spend": 1.5, "active": True},
    {"id": None, "plan": None, "spend": None, "active": None},
    {"id": 7, "plan": "01", "spend": 2.0, "active": False},
]


def check_rows(records: pd.DataFrame, names: tuple[str, ...] = ("id", "plan", "spend", "active")):
    """The values of ROWS, exactly, with their types."""
    assert tuple(records.columns) == names
    for name in names:
        for got, wanted in zip(records[name], [row[name] for row in ROWS], strict=True):
            assert pd.isna(got) if wanted is None else (got == wanted), (name, got, wanted)
    assert str(records["plan"][2]) == "01" and int(records["id"][0]) == LARGE


def refusal(address: object, **options: object) -> str:
    """The one line of the error."""
    with pytest.raises(InputError) as caught:
        read_records(str(address), SourceOptions(**options))
    message = str(caught.value)
    assert "\n" not in message
    return message


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=8)


@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    # The writer leaves a lone carriage return bare where its line end has none.
    style=st.sampled_from([("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL)]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    header=st.booleans(),
)
def test_delimited_text_comes_back_cell_by_cell(rows, delimiter, style, encoding, header):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=style[0], quoting=style[1])
    writer.writerows([("a", "b", "c")] * header + rows)
    options = SourceOptions(
        delimiter=delimiter,
        header=header,
        encoding="utf-16" if encoding == "utf-16" else "utf-8",
        columns=("a", "b", "c"),
    )
    content = text.getvalue().encode(encoding)
    records = record_formats.parse(content, "csv", "a.csv", options)
    assert list(records.columns) == ["a", "b", "c"]
    assert list(records.itertuples(index=False, name=None)) == rows


def test_junk_first_line_comma_space_and_nameless_columns(tmp_path):
    (tmp_path / "adult.test").write_bytes(b"|1x3 Cross validator\r\n25, ?, <=50K.\r\n\r\n")
    options = SourceOptions(delimiter=",", header=False, skip_rows=1)
    records = read_records(str(tmp_path / "adult.test"), options)
    assert records.to_dict("list") == {
        "column_0": ["25"],
        "column_1": [" ?"],
        "column_2": [" <=50K."],
    }
    (tmp_path / "survey.tsv").write_bytes(b"\xef\xbb\xbf\t note \n0\t\n")
    assert read_records(str(tmp_path / "survey.tsv")).to_dict("list") == {
        "column_0": ["0"],
        "note": [""],
    }


def test_typed_files_keep_types_and_exact_ids(tmp_path):
    lines = "\n".join(json.dumps(row) for row in ROWS)
    (tmp_path / "a.jsonl").write_text(lines + "\n\n")
    (tmp_path / "a.json").write_text(json.dumps({"data": {"items": ROWS}}))
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    check_rows(read_records(str(tmp_path / "a.jsonl")))
    check_rows(read_records(str(tmp_path / "a.json"), SourceOptions(json_path="data.items")))
    check_rows(read_records(str(tmp_path / "a.parquet")))
    chosen = read_records(str(tmp_path / "a.parquet"), SourceOptions(columns=("plan", "id")))
    check_rows(chosen.assign(spend=[1.5, None, 2.0]), ("plan", "id", "spend"))


def test_parquet_decimals_indexes_and_folder_names(tmp_path):
    table = pa.table({"price": pa.array([1, None], pa.decimal128(5, 2)), "kind": ["a", "b"]})
    frame = table.to_pandas().set_index("kind")
    folder = tmp_path / "year=2020"
    folder.mkdir()
    frame.to_parquet(folder / "named.parquet")
    named = read_records(str(folder / "named.parquet"))
    assert sorted(named.columns) == ["kind", "price"] and named["price"].dtype == np.float64
    frame.reset_index(drop=True).iloc[[0]].to_parquet(tmp_path / "unnamed.parquet")
    assert list(read_records(str(tmp_path / "unnamed.parquet")).columns) == ["price"]


def test_folder_is_read_in_name_order_under_one_header(tmp_path):
    (tmp_path / "2.csv").write_text("a,b\n3,4\n")
    (tmp_path / "1.csv").write_text("b,a\n2,1\n")
    (tmp_path / "3.csv").write_text("a,b\n")  # A day without records.
    (tmp_path / "README.md").write_text("not records")
    records = read_records(str(tmp_path))
    assert records.to_dict("list") == {"b": ["2", "4"], "a": ["1", "3"]}
    assert list(records.index) == [0, 1]
    (tmp_path / "4.csv").write_text("a,c\n3,4\n")
    message = refusal(tmp_path)
    assert "4.csv has other columns than 1.csv (lacks 'b' and adds 'c')" in message
    (tmp_path / "4.csv").rename(tmp_path / "4.tsv")
    assert "4.tsv is not csv like 1.csv" in refusal(tmp_path)


def test_checksum_is_of_the_bytes(tmp_path):
    (tmp_path / "b.csv").write_bytes(b"lo")
    (tmp_path / "a.csv").write_bytes(b"hel")
    (tmp_path / "notes.txt").write_bytes(b"!")
    hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert checksum(str(tmp_path)) == hello
    assert checksum("sqlite:///any.db") is None
    with pytest.raises(InputError, match="no file or folder"):
        checksum(str(tmp_path / "c.csv"))


@pytest.mark.parametrize(
    ("name", "content", "options", "wanted"),
    [
        ("a.csv", b"", {}, ["is empty"]),
        ("a.csv", b"a,b\n", {}, ["has no records"]),
        ("a.jsonl", b"\n", {}, ["has no records"]),
        ("a.csv", b"a,b\n1,2\n3\n", {}, ["row 3", "1 cells", "has 2", "'3'", "delimiter"]),
        ("a.csv", b"a,b\n" + b"1,2\n" * 9 + b"3,4,5\n", {}, ["row 11", "3 cells"]),
        ("a.csv", b"a,a\n1,2\n", {}, ["two columns named 'a'"]),
        ("a.csv", b'a,b\n1,"x\n2,y\n3,z\n', {}, ["row 2", "quote that is not closed"]),
        ("a.csv", b'a,b\n1,"x\n2,y\n3,"z"\n', {}, ["row 2", "quote that is not closed"]),
        ("a.csv", b"a,b\n1,caf\xe9\n", {}, ["not utf-8", "0xe9", "position 9", "--encoding"]),
        ("a.csv", b"a,b\xe9\n1,c\n", {}, ["not utf-8", "position 3", "--encoding"]),
        ("a.csv", "a,b\n".encode("utf-16"), {}, ["position 0", "--encoding=utf-16"]),
        ("a.jsonl", b'{"a": "\xe9"}', {}, ["not utf-8", "position 7", "--encoding"]),
        ("a.csv", b"a,b\n1,2\n", {"encoding": "ebcdic"}, ["'ebcdic' is not known"]),
        ("a.csv", b"a,b\n1,2\n", {"delimiter": ",,"}, ["delimiter=',,'"]),
        ("a.csv", b"a,b\n1,2\n", {"skip_rows": 9}, ["fewer lines than skip_rows=9"]),
        ("a.csv", b"plan,b\n1,2\n", {"columns": ("paln",)}, ["'paln'", "mean 'plan'", "plan, b"]),
        ("a.csv", b"1,2\n", {"header": False, "columns": ("x",)}, ["2 columns", "names 1"]),
        ("a.csv", b"a,b\n1,2\n", {"query": "SELECT 1"}, ["query='SELECT 1'", "not apply"]),
        ("a.jsonl", b'{"a": 1}', {"delimiter": ";"}, ["delimiter=';' does not apply"]),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', {}, ["line 2 is not JSON"]),
        ("a.jsonl", b"[1]\n", {}, ["line 1 is a list"]),
        ("a.json", b'{"data": [{"a": 1}]}', {}, ["is an object", "list is at data"]),
        ("a.json", b'{"data": 1}', {"json_path": "dat.x"}, ["'dat.x'", "mean 'data'"]),
        ("a.json", b"[1]", {}, ["not a list of objects"]),
        ("a.json", b"{", {}, ["is not JSON"]),
        ("a.parquet", b"PAR1", {}, ["not a Parquet file"]),
        ("a.xlsx", b"PK", {}, ["a.xlsx has no suffix", ".csv"]),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, name, content, options, wanted):
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(path, **options)
    for part in wanted:
        assert part in message
    assert name in message or "delimiter" in message or "encoding" in message or "query" in message


def test_missing_addresses_are_refused(tmp_path):
    (tmp_path / "churn.csv").write_text("a\n1\n")
    assert "did you mean 'churn.csv'?" in refusal(tmp_path / "chrun.csv")
    assert "nor a folder" in refusal(tmp_path / "nowhere" / "a.csv")
    (tmp_path / "empty").mkdir()
    assert "no readable file" in refusal(tmp_path / "empty")
    assert "unknown scheme s3://" in refusal("s3://user:hush@bucket/a.csv")


def test_sqlite_is_read_and_never_written(tmp_path):
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER, plan TEXT, spend REAL, active)")
        values = [tuple(row.values()) for row in ROWS]
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", values)
    connection.close()
    before = path.read_bytes()
    address = f"sqlite:///{path}"
    check_rows(read_records(address, SourceOptions(query="SELECT * FROM orders")))
    assert "query is missing" in refusal(address)
    assert "no such table: nope" in refusal(address, query="SELECT * FROM nope")
    assert "readonly" in refusal(address, query="DELETE FROM orders")
    assert "no records" in refusal(address, query="SELECT * FROM orders WHERE spend > 9")
    assert "two columns named 'a'" in refusal(address, query="SELECT 1 AS a, 2 AS a")
    assert path.read_bytes() == before
    assert "no SQLite file" in refusal(f"sqlite:///{tmp_path}/no.db", query="SELECT 1")
    assert not (tmp_path / "no.db").exists()
    (tmp_path / "text.db").write_text("not a database, but long enough to look like one" * 9)
    assert "not a database" in refusal(f"sqlite:///{tmp_path}/text.db", query="SELECT * FROM t")


def test_postgresql_types_come_exact(postgresql_server):
    query = f"""
        SELECT {LARGE}::bigint AS id, 'Gold' AS plan, 1.5::numeric(10, 2) AS spend, true AS active,
               {LARGE}::numeric AS wide, 1.25::float8 AS float,
               '3f2504e0-4f89-11d3-9a0c-0305e82c3301'::uuid AS uuid, '{{"a": 1}}'::jsonb AS json
        UNION ALL SELECT null, null, null, null, null, null, null, null
        UNION ALL SELECT 7, '01', 2, false, 7, 2, null, null"""
    records = read_records(postgresql_server.address(), SourceOptions(query=query))
    check_rows(records[["id", "plan", "spend", "active"]])
    assert records["spend"].dtype == np.float64
    assert records["wide"].tolist()[::2] == [LARGE, 7]
    assert records["uuid"][0] == "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    assert records["json"][0] == '{"a": 1}'
    repeated = "SELECT g AS n, g * 0.5::numeric AS h FROM generate_series(1, 100000) AS g"
    many = read_records(postgresql_server.address(), SourceOptions(query=repeated))
    assert many["h"].sum() == 0.5 * many["n"].sum() == 0.5 * 100_000 * 100_001 / 2


def test_postgresql_refusals_never_tell_the_password(postgresql_server):
    query = "SELECT 1 AS a"
    unescaped = f"postgresql://{postgresql.USER}:{postgresql.PASSWORD}@127.0.0.1:1/postgres"
    refused = {
        "password authentication failed": (postgresql_server.address(password="wr0ng/pw"), query),
        'database "nope" does not exist': (postgresql_server.address(database="nope"), query),
        'relation "nope" does not exist': (postgresql_server.address(), "SELECT * FROM nope"),
        "syntax error": (postgresql_server.address(), f"SELEC '{postgresql.PASSWORD}'"),
        "give a SELECT": (postgresql_server.address(), "CREATE TABLE t (a int)"),
        "two columns named 'a'": (postgresql_server.address(), "SELECT 1 AS a, 2 AS a"),
        "Connection refused": (postgresql.Server(1).address(), query),
        "not a PostgreSQL address": (unescaped, query),
        "%40 for @": (f"postgresql://u:12/{postgresql.PASSWORD}@h/db", query),
        "has no records": (postgresql_server.address(), "SELECT 1 AS a WHERE false"),
        "query is missing": (postgresql_server.address(), ""),
    }
    secrets = (postgresql.PASSWORD, "s3cr", "wr0ng", "t%40", "x#y")
    for wanted, (address, sql) in refused.items():
        with pytest.raises(InputError) as caught:
            read_records(address, SourceOptions(query=sql))
        shown = "".join(traceback.format_exception_only(caught.value)) + repr(caught.value)
        assert wanted in shown and "\n" not in str(caught.value)
        assert not [secret for secret in secrets if secret in shown], shown
    # The table of the refused query was never committed.
    assert 'relation "t" does not exist' in refusal(
        postgresql_server.address(), query="SELECT * FROM t"
    )


def test_redact_hides_every_secret():
    for address, redacted in {
        "data/a.csv": "data/a.csv",
        "postgresql://u:p@h:5/d": "postgresql://u:***@h:5/d",
        "postgresql://u:p/@#:@h/d?sslmode=require": "postgresql://u:***@h/d?sslmode=require",
        "postgresql://u@h/d?password=x&a=b": "postgresql://u@h/d?password=***&a=b",
        "https://token@h/a.csv": "https://***@h/a.csv",
        "https://h/a@b.csv?api_key=1&page=2": "https://h/a@b.csv?api_key=***&page=2",
    }.items():
        assert redact(address) == redacted


@pytest.fixture(scope="module")
def api():
    """The server with the same rows in every format."""
    table = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(ROWS), table)
    items = json.dumps({"data": {"items": ROWS}}).encode()
    lines = "\n".join(json.dumps(row) for row in ROWS).encode()
    documents = {
        "/rows.parquet": ("application/octet-stream", table.getvalue()),
        "/rows.jsonl": ("text/plain", lines),
        "/stream": ("application/x-ndjson; charset=utf-8", lines),
        "/api/rows": ("application/json; charset=utf-8", items),
        "/open/rows": ("application/json", items),
        "/table": ("text/csv; charset=utf-8", b"id;plan\n1;Gold\n"),
        "/table.tsv": ("text/plain", b"id\tplan\n1\tGold\n"),
        "/login.csv": ("text/html", b"<html>please log in</html>"),
        "/thing": ("image/png", b"\x89PNG"),
    }
    with http_api.running_api(documents) as server:
        yield server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Loopback addresses are reached directly."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def test_http_formats_by_suffix_and_content_type(api):
    for path in ("/rows.parquet", "/rows.jsonl", "/stream"):
        check_rows(read_records(api.address(path)))
    for path, options in (("/table", {"delimiter": ";"}), ("/table.tsv", {})):
        records = read_records(api.address(path), SourceOptions(**options))
        assert records.to_dict("list") == {"id": ["1"], "plan": ["Gold"]}


def test_http_token_goes_to_its_host_only(api, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password wrong\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))  # Must not replace the token.
    monkeypatch.setenv("SHOP_TOKEN", http_api.TOKEN + "\n")
    options = SourceOptions(bearer_token_env="SHOP_TOKEN", json_path="data.items")
    check_rows(read_records(api.address("/api/rows"), options))
    assert api.authorizations["/api/rows"] == f"Bearer {http_api.TOKEN}"
    monkeypatch.delenv("NETRC")
    elsewhere = api.address("/open/rows", host="localhost")
    check_rows(read_records(api.address(f"/moved?{elsewhere}"), options))
    assert api.authorizations["/moved"] == f"Bearer {http_api.TOKEN}"
    assert api.authorizations["/open/rows"] is None


def test_http_refusals_never_tell_the_token(api, monkeypatch):
    monkeypatch.setattr(http_records, "_TIMEOUTS", (5.0, 0.3))
    monkeypatch.setenv("GOOD", http_api.TOKEN)
    monkeypatch.setenv("WRONG", "not-" + http_api.TOKEN)
    monkeypatch.setenv("TWO_LINES", http_api.TOKEN + "\nX-Other: 1")
    token = {"bearer_token_env": "GOOD"}
    refused = [
        ("/api/rows", {}, "refuses access (HTTP 401); name the environment variable"),
        ("/api/rows", {"bearer_token_env": "WRONG"}, "check the token in $WRONG"),
        ("/api/rows", {"bearer_token_env": "TWO_LINES"}, "set it to the token alone"),
        ("/api/rows", {"bearer_token_env": "UNSET_TOKEN"}, "is no environment variable"),
        ("/api/rows", token, "an object, not a list of objects"),
        ("/api/rows", token | {"json_path": "data.item"}, "did you mean 'items'"),
        ("/api/rows", token | {"query": "SELECT 1"}, "query='SELECT 1' does not apply"),
        ("/api/none", token, "HTTP 404"),
        ("/broken", token, "HTTP 503; try again later"),
        ("/slow", token, "did not answer in 0.3 s"),
        ("/login.csv", token, "web page"),
        ("/thing", token, "'image/png'"),
        ("/table?api_key=hush-hush", {"columns": ("x",)}, "api_key=*** has no column 'x'"),
    ]
    for path, options, wanted in refused:
        message = refusal(api.address(path), **options)
        assert wanted in message
        assert http_api.TOKEN not in message and "hush" not in message
    assert "connection refused" in refusal("http://127.0.0.1:1/a.csv")
    assert "cannot be reached" in refusal("http://no-such-host.invalid/a.csv")


def test_development_data_is_read(development_data):
    adult = SourceOptions(delimiter=",", header=False)
    for path, options, shape in (
        ("telco_churn/Telco-Customer-Churn.csv", SourceOptions(), (7043, 21)),
        ("adult/adult.data", adult, (32561, 15)),
        ("adult/adult.test", SourceOptions(delimiter=",", header=False, skip_rows=1), (16281, 15)),
        ("banking77/train.csv", SourceOptions(), (10003, 2)),
        ("online_retail/by-day", SourceOptions(), (541909, 8)),
    ):
        assert read_records(str(development_data / Path(path)), options).shape == shape
    telco = str(development_data / "telco_churn" / "Telco-Customer-Churn.csv")
    assert checksum(telco).startswith("16320c9c1ec72448")
    assert (read_records(telco)["TotalCharges"] == " ").sum() == 11
