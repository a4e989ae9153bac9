"""UCI Online Retail: the lines of a shop's invoices over a year, cleaned for one customer each.

The shop's export is one line an article and invoice. A line is kept if it is what a known customer
bought of a product; cancellations are taken off the purchases they cancel. The rules, in order,
each with its count in `cleaning`:

1. No customer number: left out.
2. The stock code is no product (it does not begin with five digits: postage, manual entries,
   discounts, bank charges, samples, ...): left out.
3. A price of zero or less (gifts, adjustments): left out.
4. A cancellation (invoice `C...`, or a negative quantity) takes its units off the latest earlier
   purchases of the same customer and stock code, at whatever price; units for which there is none
   (bought before the first day) are left out. Purchases of which nothing stays are left out.

Stock codes are written in capitals: the shop mixes 85123a and 85123A. Lines that an invoice repeats
stay: they may be two scans of the same article. Netting looks ahead:
a purchase is smaller where it is cancelled later. For what was known on a day, clean the lines up
to that day.

Chen, Sain, Guo 2012, "Data mining for the online retail industry", CC BY 4.0.
"""

import dataclasses
import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.public_files import SHARED_DATA, cache_folder
from fl_research.data.sources import redact
from fl_research.data.sources.delimited_text import parse_delimited
from fl_research.data.sources.source_options import SourceOptions
from fl_research.errors import InputError

TERMS = "CC BY 4.0 (Chen, Sain, Guo 2012, UCI Machine Learning Repository, data set 352)"
ORIGIN = "https://archive.ics.uci.edu/static/public/352/online+retail.zip"
SHA256 = "c35975c40d0e1e105090fbb11188a409393055f873841bd012915475fc84e69f"
COLUMNS = ("customer", "time", "invoice", "item", "quantity", "price", "amount", "country")
_RAW = (
    "InvoiceNo",
    "StockCode",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
_TIME_FORMATS = ("%Y-%m-%d %H:%M:%S", "%m/%d/%Y %H:%M", "%Y-%m-%d %H:%M")
_PRODUCT = r"\d{5}"


_LOOKS_AHEAD = (
    "cancelled units are taken off the purchases that they cancel, also where the cancellation "
    "comes later: a past purchase may be smaller than it was known to be on its day"
)


def load(*, path: str | None, seed: int) -> LoadedRecords:
    """Returns what customers bought, one row a line: `COLUMNS`, in order of time.

    Args:
      path: A CSV file with all lines, or a folder of daily CSV files (or the folder that holds
        one called by-day); None: the shared folder beside the repository, or the cache.
      seed: Not used.

    Raises:
      InputError: No such file, columns missing, a cell that is no date or number, or no line left.
    """
    del seed
    raw = read_raw(path)
    records, cleaning = clean_lines(raw.records)
    return dataclasses.replace(
        raw, records=records, cleaning=cleaning, notes=(*raw.notes, _LOOKS_AHEAD)
    )


def read_raw(path: str | None) -> LoadedRecords:
    """Returns the shop's lines as published, every cell a text.

    Args:
      path: As in `load`.

    Raises:
      InputError: No such file, or a checksum that is wrong.
    """
    where = Path(path).expanduser() if path is not None else _known_place()
    content = _joined(where)
    digest = hashlib.sha256(content).hexdigest()
    notes: tuple[str, ...] = ()
    if digest != SHA256:
        known = f"which is not that of the known copy of online_retail ({SHA256})"
        if path is None:
            raise InputError(
                f"dataset='online_retail': {where} has sha256 {digest}, {known}; replace or "
                "delete it, or give your copy as --data=PATH"
            )
        notes = (f"data={redact(path)} has sha256 {digest}, {known}; it is used as it is",)
    options = SourceOptions(encoding=_encoding(content))
    return LoadedRecords(
        records=parse_delimited(content, ",", str(where), options),
        schema=None,
        source=redact(path) if path is not None else str(where),
        sha256=digest,
        terms=TERMS,
        notes=notes,
        facts={"sha256_of": "the files joined in the order of their names under one header"},
    )


def clean_lines(raw: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Returns what known customers bought, by the rules of this module.

    Args:
      raw: The shop's lines, every cell a text: InvoiceNo, StockCode, Quantity, InvoiceDate,
        UnitPrice, CustomerID (such as `17850.0`; blank: unknown), Country.

    Returns:
      Rows in order of time with `COLUMNS` (customer, invoice, item, country text; time datetime64;
      quantity int64, 1 or more; price and amount float64, above 0), and how many lines, or units,
      each rule acted on.

    Raises:
      InputError: A column is missing, a cell is no date or number, or no line is left.
    """
    lines = typed_lines(raw)
    named = (lines["customer"] != "").to_numpy()
    product = is_product(lines["item"])
    priced = (lines["price"] > 0).to_numpy()
    kept = lines[named & product & priced].sort_values("time", kind="stable", ignore_index=True)
    cancels = (kept["invoice"].str.startswith("C") | (kept["quantity"] < 0)).to_numpy()
    quantity, unmatched = net_cancellations(kept, cancels)
    purchases = kept.assign(quantity=quantity)[~cancels]
    records = purchases[purchases["quantity"] > 0].reset_index(drop=True)
    if records.empty:
        raise InputError("online_retail: no line is left after cleaning; give the shop's own lines")
    records["amount"] = records["quantity"] * records["price"]
    cleaning = {
        "lines read": len(raw),
        "lines without a customer left out": int((~named).sum()),
        "lines of no product left out": int((named & ~product).sum()),
        "lines with a price of zero or less left out": int((named & product & ~priced).sum()),
        "cancellation lines netted": int(cancels.sum()),
        "units taken off earlier purchases": int(
            kept["quantity"][~cancels].sum() - purchases["quantity"].sum()
        ),
        "cancelled units without an earlier purchase left out": unmatched,
        "purchase lines cancelled whole": len(purchases) - len(records),
        "lines left": len(records),
    }
    return records[list(COLUMNS)], cleaning


def net_cancellations(lines: pd.DataFrame, cancels: np.ndarray) -> tuple[np.ndarray, int]:
    """Takes cancelled units off the latest earlier purchases of the same customer and item.

    Args:
      lines: customer, item, quantity, in order of time; at the same time, a purchase comes before
        a cancellation.
      cancels: bool [rows], which of them are cancellations; the size of their quantity counts.

    Returns:
      int64 [rows], the quantity of each purchase that stays (of a cancellation as it was), and how
      many cancelled units found no earlier purchase.
    """
    quantity = lines["quantity"].to_numpy(np.int64).copy()
    keys = lines.groupby(["customer", "item"], sort=False).ngroup().to_numpy()
    concerned = np.flatnonzero(np.isin(keys, keys[cancels]))
    # Stable: purchases of the same minute first, as the docstring promises.
    times = lines["time"].to_numpy()
    concerned = concerned[np.lexsort((cancels[concerned], times[concerned]))]
    open_purchases: defaultdict[int, list[int]] = defaultdict(list)
    unmatched = 0
    for row in concerned:
        stack = open_purchases[keys[row]]
        if not cancels[row]:
            stack.append(row)
            continue
        units = abs(int(quantity[row]))
        while units and stack:
            taken = min(units, int(quantity[stack[-1]]))
            quantity[stack[-1]] -= taken
            units -= taken
            if not quantity[stack[-1]]:
                stack.pop()
        unmatched += units
    return quantity, unmatched


def typed_lines(raw: pd.DataFrame) -> pd.DataFrame:
    """Returns all lines under our names, with types, none left out; see `clean_lines`.

    Raises:
      InputError: A column is missing, or a cell is no date or number.
    """
    missing = [name for name in _RAW if name not in raw.columns]
    if missing:
        raise InputError(
            f"online_retail: the columns {', '.join(missing)} are missing; give the lines as "
            f"published, with {', '.join(_RAW)}"
        )
    text = raw[list(_RAW)].apply(lambda column: column.astype(str).str.strip())
    quantity = _numbers(text["Quantity"])
    if (quantity != np.round(quantity)).any():
        bad = text["Quantity"][quantity != np.round(quantity)].iloc[0]
        raise InputError(f"online_retail: Quantity has {bad!r}; give whole numbers")
    return pd.DataFrame(
        {
            # 17850.0 is what a spreadsheet makes of 17850 in a column with blanks.
            "customer": text["CustomerID"].str.replace(r"\.0$", "", regex=True).replace("nan", ""),
            "time": _times(text["InvoiceDate"]),
            "invoice": text["InvoiceNo"],
            "item": text["StockCode"].str.upper(),
            "quantity": quantity.astype(np.int64),
            "price": _numbers(text["UnitPrice"]),
            "country": text["Country"],
        }
    )


def is_product(item: "pd.Series[str]") -> np.ndarray:
    """Returns bool [rows]: whether a stock code is that of a product, and no fee or adjustment."""
    return item.str.match(_PRODUCT).to_numpy(dtype=bool)


def _numbers(column: "pd.Series[str]") -> "pd.Series[float]":
    """The cells as float64."""
    values = pd.to_numeric(column, errors="coerce").astype(np.float64)
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise InputError(
            f"online_retail: {column.name} has {column[wrong].iloc[0]!r}; give finite numbers"
        )
    return values


def _times(column: "pd.Series[str]") -> "pd.Series[pd.Timestamp]":
    """The cells as datetime64, all in one of the known formats."""
    for form in _TIME_FORMATS:
        times = pd.to_datetime(column, format=form, errors="coerce")
        if not times.isna().any():
            return times
        if not times.isna().all():
            raise InputError(
                f"online_retail: {column.name} has {column[times.isna()].iloc[0]!r} among times "
                "of another form; give all as 2010-12-01 08:26:00"
            )
    raise InputError(
        f"online_retail: {column.name} has {column.iloc[0]!r}, which is no time; give times such "
        "as 2010-12-01 08:26:00"
    )


def _known_place() -> Path:
    """The shared folder or the cache."""
    for folder in (SHARED_DATA, cache_folder()):
        if (folder / "online_retail").is_dir():
            return folder / "online_retail"
    raise InputError(
        f"dataset='online_retail' is not there, and cannot be downloaded as it is (a spreadsheet); "
        f"get {ORIGIN}, save its sheet as CSV and give the file as --data=PATH"
    )


def _joined(where: Path) -> bytes:
    """The bytes of a file, or of a folder's CSV files joined under the header of the first."""
    if (where / "by-day").is_dir():
        where = where / "by-day"
    files = sorted(where.glob("*.csv")) if where.is_dir() else [where]
    if not files:
        raise InputError(f"data={redact(str(where))} is a folder without CSV files; give another")
    try:
        parts = [file.read_bytes() for file in files]
    except OSError as error:
        raise InputError(
            f"data={redact(str(where))} cannot be read ({error.strerror}); give the CSV file or "
            "the folder of daily files"
        ) from None
    header = parts[0].partition(b"\n")[0]
    bodies = []
    for file, part in zip(files, parts, strict=True):
        first, _, body = part.partition(b"\n")
        if first != header:
            raise InputError(
                f"{file} has another header than {files[0].name}; give all files the same"
            )
        bodies.append(body if not body or body.endswith(b"\n") else body + b"\n")
    return header + b"\n" + b"".join(bodies) if len(parts) > 1 else parts[0]


def _encoding(content: bytes) -> str:
    """UTF-8 where the bytes are that, else Latin-1, as in a copy that is handed around."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"
