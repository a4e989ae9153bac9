"""IBM Telco customer churn: 7,043 customers of a fictional company, one row each."""

from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.public_files import FileOfIt, PublicFiles, locate
from fl_research.data.schema import Column, Schema
from fl_research.data.sources import read_records

FILES = PublicFiles(
    name="telco_churn",
    terms=(
        "the repository that publishes it is under Apache-2.0; none are stated for the CSV; "
        "the company and its customers are fictional"
    ),
    files=(
        FileOfIt(
            name="Telco-Customer-Churn.csv",
            sha256s=(
                # LF, as published; and copies with CRLF.
                "16320c9c1ec72448db59aa0a26a0b95401046bef5d02fd3aeb906448e3055e91",
                "88be4b93fbe0cc83421af1c503794c97c342eca914c1576db7c276e61d61358a",
            ),
            address=(
                "https://raw.githubusercontent.com/IBM/telco-customer-churn-on-icp4d/master/data/"
                "Telco-Customer-Churn.csv"
            ),
        ),
    ),
    origin="https://github.com/IBM/telco-customer-churn-on-icp4d",
)


def load(*, path: str | None = None, seed: int = 0) -> LoadedRecords:
    """Returns the records with their public schema.

    Args:
      path: The user's copy of the file; None: found or downloaded.
      seed: Not used: the records are published.

    Raises:
      InputError: The file cannot be had or read, or its checksum is wrong.
    """
    del seed
    located = locate(FILES, path)
    return LoadedRecords(
        records=read_records(str(located.paths[0])),
        schema=schema(),
        source=located.source,
        sha256=located.sha256,
        terms=FILES.terms,
        notes=located.notes,
    )


def _category(name: str, *values: str) -> Column:
    """A category column with these values."""
    return Column(name=name, kind="category", values=values)


def schema() -> Schema:
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
