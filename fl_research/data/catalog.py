"""Named data sets: address, checksums, terms and schema, and how the records are found.

A public file is looked for at the path the user gives, then in the folder of shared data beside
the repository, then in the cache (`$FL_RESEARCH_DATA`, else `~/.cache/fl_research`), and is
downloaded there otherwise. Its bytes must have a known checksum, except where the user gave the
path: then another checksum is accepted and noted. Other data sets are generated from a seed.
"""

import dataclasses
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fl_research.argument_checks import require_choice
from fl_research.data.schema import Column, Schema
from fl_research.data.sources import checksum, read_records, redact
from fl_research.data.synthetic import telecom
from fl_research.errors import InputError

_LOGGER = logging.getLogger(__name__)
_REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_DATA = _REPOSITORY.parent / "shared" / "data"
CACHE_VARIABLE = "FL_RESEARCH_DATA"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """What is known of a named data set.

    Attributes:
      name: What the user types.
      terms: Under which terms it may be used, as far as they are established.
      schema: What is publicly known of its columns.
      origin: Where the file is published, or the generator and its settings.
      sha256s: Checksums of the file's known copies.
      generate: Makes the records from a seed; None where the data is a file.
    """

    name: str
    terms: str
    schema: Schema
    origin: str
    sha256s: tuple[str, ...] = ()
    generate: Callable[[int], pd.DataFrame] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LoadedRecords:
    """The records of a data set, not yet encoded, and where they came from.

    Attributes:
      records: The rows as read.
      schema: The public schema to encode them with.
      source: The file or the generator, in words.
      sha256: Checksum of the file; None for generated data.
      terms: As in the catalog.
      notes: What a report should add, such as a checksum that is not a known one.
      facts: Further facts for run.json, such as how many clients a person is in.
    """

    records: pd.DataFrame
    schema: Schema
    source: str
    sha256: str | None
    terms: str
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def entry(name: str) -> CatalogEntry:
    """Returns what is known of a data set.

    Raises:
      InputError: If the name is unknown.
    """
    require_choice("dataset", name, _ENTRIES)
    return _ENTRIES[name]


def load(name: str, *, path: str | None = None, seed: int = 0) -> LoadedRecords:
    """Returns the records of a data set.

    Args:
      name: As in `entry`.
      path: A copy of the file that the user has; None: found or downloaded.
      seed: Of the generator, where the data is generated.

    Raises:
      InputError: If the name is unknown, the file cannot be had or read, its checksum is wrong, or
        a path is given for generated data.
    """
    found = entry(name)
    if found.generate is not None:
        if path is not None:
            raise InputError(
                f"data={redact(path)} does not go with dataset={name!r}, which is generated; "
                "leave it out"
            )
        return LoadedRecords(
            records=found.generate(seed),
            schema=found.schema,
            source=f"generated with seed {seed} by {found.origin}",
            sha256=None,
            terms=found.terms,
        )
    notes: tuple[str, ...] = ()
    if path is None:
        path = str(_find(found))
        sha256: str | None = _checked(found, Path(path))
    else:
        sha256 = checksum(path)
        if sha256 not in found.sha256s:
            notes = (
                f"data={redact(path)} has sha256 {sha256}, which is not that of a known copy of "
                f"{name} ({' or '.join(found.sha256s)}); it is used as it is",
            )
            _LOGGER.warning(notes[0])
    return LoadedRecords(
        records=read_records(path),
        schema=found.schema,
        source=redact(path),
        sha256=sha256,
        terms=found.terms,
        notes=notes,
    )


def cache_folder() -> Path:
    """Returns the folder that downloads go to."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/fl_research").expanduser()


def _find(found: CatalogEntry) -> Path:
    """Returns the file in the shared folder or the cache, downloading it where there is none."""
    shared = sorted((SHARED_DATA / found.name).glob("*.csv"))
    if shared:
        return shared[0]
    cached = cache_folder() / found.name / found.origin.rsplit("/", maxsplit=1)[-1]
    if not cached.exists():
        _download(found, cached)
    return cached


def _checked(found: CatalogEntry, path: Path) -> str:
    """Returns the file's checksum, or raises InputError where it is not a known one."""
    sha256 = str(checksum(str(path)))
    if sha256 not in found.sha256s:
        raise InputError(
            f"dataset={found.name!r}: {path} has sha256 {sha256}, expected "
            f"{' or '.join(found.sha256s)}; replace or delete the file, or give your copy as "
            "--data=PATH"
        )
    return sha256


def _download(found: CatalogEntry, target: Path) -> None:
    """Downloads to a file beside the target, which appears only once its checksum is right."""
    import pooch  # here, because it costs a fraction of a second that --help must not pay

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            partial = Path(folder) / target.name
            pooch.HTTPDownloader(timeout=30)(found.origin, partial, None)
            sha256 = checksum(str(partial))
            if sha256 not in found.sha256s:
                raise InputError(
                    f"dataset={found.name!r}: {found.origin} now has sha256 {sha256}, expected "
                    f"{' or '.join(found.sha256s)}; give a copy you trust as --data=PATH"
                )
            partial.replace(target)
    except OSError as error:  # that of requests is one too
        raise InputError(
            f"dataset={found.name!r}: could not download {found.origin} to {target} "
            f"({type(error).__name__}); get the file with sha256 {' or '.join(found.sha256s)} "
            "elsewhere and give it as --data=PATH"
        ) from error


def _category(name: str, *values: str) -> Column:
    """A category column with these values."""
    return Column(name=name, kind="category", values=values)


def _telco_schema() -> Schema:
    """IBM Telco customer churn, by hand from its public documentation; encodes to 46 features.

    Bounds: contracts run up to 72 months, a plan costs at most 120 a month, and so the total is at
    most 72 * 120 = 8,640, rounded up. A total is blank for customers in their first month, who
    have paid nothing yet.
    """
    no_yes = ("No", "Yes")
    internet_extra = ("No", "Yes", "No internet service")
    return Schema(
        columns=(
            Column(name="customerID", kind="client"),
            _category("gender", "Female", "Male"),
            _category("SeniorCitizen", "0", "1"),
            _category("Partner", *no_yes),
            _category("Dependents", *no_yes),
            Column(name="tenure", kind="number", minimum=0, maximum=72),
            _category("PhoneService", *no_yes),
            _category("MultipleLines", "No", "Yes", "No phone service"),
            _category("InternetService", "DSL", "Fiber optic", "No"),
            _category("OnlineSecurity", *internet_extra),
            _category("OnlineBackup", *internet_extra),
            _category("DeviceProtection", *internet_extra),
            _category("TechSupport", *internet_extra),
            _category("StreamingTV", *internet_extra),
            _category("StreamingMovies", *internet_extra),
            _category("Contract", "Month-to-month", "One year", "Two year"),
            _category("PaperlessBilling", *no_yes),
            _category(
                "PaymentMethod",
                "Bank transfer (automatic)",
                "Credit card (automatic)",
                "Electronic check",
                "Mailed check",
            ),
            Column(name="MonthlyCharges", kind="number", minimum=0, maximum=120),
            Column(name="TotalCharges", kind="number", minimum=0, maximum=9000, if_missing=0.0),
            Column(name="Churn", kind="label", values=no_yes, positive="Yes"),
        )
    )


_TELECOM = telecom.TelecomConfig()
_ENTRIES = {
    "synthetic": CatalogEntry(
        name="synthetic",
        terms="generated by this project; no person's data",
        schema=telecom.build_schema(_TELECOM),
        origin=f"fl_research.data.synthetic.telecom: {_TELECOM}",
        generate=lambda seed: telecom.generate(_TELECOM, seed).records,
    ),
    "telco_churn": CatalogEntry(
        name="telco_churn",
        terms=(
            "the repository that publishes it is under Apache-2.0; none are stated for the CSV; "
            "the company and its customers are fictional"
        ),
        schema=_telco_schema(),
        origin=(
            "https://raw.githubusercontent.com/IBM/telco-customer-churn-on-icp4d/master/data/"
            "Telco-Customer-Churn.csv"
        ),
        sha256s=(
            "16320c9c1ec72448db59aa0a26a0b95401046bef5d02fd3aeb906448e3055e91",  # LF, as published
            "88be4b93fbe0cc83421af1c503794c97c342eca914c1576db7c276e61d61358a",  # CRLF copies
        ),
    ),
}
