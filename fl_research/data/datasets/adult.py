"""UCI Adult: 48,842 adults of the 1994 census with the official split; income above 50,000 or not.

The client is the occupation, copied to a column `department`, since a department knows which one it
is; `?` (unknown) becomes the value `unknown`. The official files have no header, cells that begin
with a blank, and in `adult.test` a first line that is no record and labels that end with a dot.

Becker and Kohavi 1996, "Adult", UCI Machine Learning Repository, data set 2, CC BY 4.0.
"""

import pandas as pd

from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.public_files import FileOfIt, PublicFiles, locate
from fl_research.data.schema import Column, Schema
from fl_research.data.sources.delimited_text import parse_delimited
from fl_research.data.sources.source_options import SourceOptions
from fl_research.errors import InputError

FILES = PublicFiles(
    name="adult",
    terms="CC BY 4.0 (Becker and Kohavi 1996, UCI Machine Learning Repository, data set 2)",
    files=(
        FileOfIt(
            name="adult.data",
            sha256s=("5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",),
            address="https://archive.ics.uci.edu/ml/machine-learning-databases/adult/adult.data",
        ),
        FileOfIt(
            name="adult.test",
            sha256s=("a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",),
            address="https://archive.ics.uci.edu/ml/machine-learning-databases/adult/adult.test",
        ),
    ),
    origin="https://archive.ics.uci.edu/static/public/2/adult.zip",
)
UNKNOWN = "unknown"
SPLIT_COLUMN = "split"
CLIENT_COLUMN = "department"


def _values(listed: str) -> tuple[str, ...]:
    """The values of a category, listed as in the official description."""
    return tuple(listed.split(", "))


OCCUPATIONS = _values(
    "Adm-clerical, Armed-Forces, Craft-repair, Exec-managerial, Farming-fishing, "
    "Handlers-cleaners, Machine-op-inspct, Other-service, Priv-house-serv, Prof-specialty, "
    "Protective-serv, Sales, Tech-support, Transport-moving"
)
_COUNTRIES = _values(
    "United-States, Cambodia, Canada, China, Columbia, Cuba, Dominican-Republic, Ecuador, "
    "El-Salvador, England, France, Germany, Greece, Guatemala, Haiti, Holand-Netherlands, "
    "Honduras, Hong, Hungary, India, Iran, Ireland, Italy, Jamaica, Japan, Laos, Mexico, "
    "Nicaragua, Outlying-US(Guam-USVI-etc), Peru, Philippines, Poland, Portugal, Puerto-Rico, "
    "Scotland, South, Taiwan, Thailand, Trinadad&Tobago, Vietnam, Yugoslavia"
)
_EDUCATION = _values(
    "Preschool, 1st-4th, 5th-6th, 7th-8th, 9th, 10th, 11th, 12th, HS-grad, Some-college, "
    "Assoc-voc, Assoc-acdm, Bachelors, Masters, Prof-school, Doctorate"
)
_WORKCLASSES = _values(
    "Private, Self-emp-not-inc, Self-emp-inc, Federal-gov, Local-gov, State-gov, Without-pay, "
    "Never-worked"
)
_MARITAL = _values(
    "Married-civ-spouse, Divorced, Never-married, Separated, Widowed, Married-spouse-absent, "
    "Married-AF-spouse"
)
_RELATIONSHIPS = _values("Wife, Own-child, Husband, Not-in-family, Other-relative, Unmarried")
_RACES = _values("White, Asian-Pac-Islander, Amer-Indian-Eskimo, Other, Black")
COLUMNS = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
)


def load(*, path: str | None = None, seed: int = 0) -> LoadedRecords:
    """Returns the records of both files with their public schema and the official split.

    Args:
      path: A folder with adult.data and adult.test; None: found or downloaded.
      seed: Not used: the records are published.

    Raises:
      InputError: The files cannot be had or read, or a checksum is wrong.
    """
    del seed
    located = locate(FILES, path)
    train, test = (_read(str(at)) for at in located.paths)
    train[SPLIT_COLUMN], test[SPLIT_COLUMN] = "train", "test"
    records = pd.concat([train, test], ignore_index=True)
    unknown = (records == "?").sum()
    records = records.replace("?", UNKNOWN)
    records[CLIENT_COLUMN] = records["occupation"]
    return LoadedRecords(
        records=records,
        schema=schema(),
        source=located.source,
        sha256=located.sha256,
        terms=FILES.terms,
        notes=located.notes,
        cleaning={
            f"{name}: ? -> {UNKNOWN}": int(count) for name, count in unknown.items() if count
        },
        split_column=SPLIT_COLUMN,
    )


def schema() -> Schema:
    """Adult by hand from its public documentation (adult.names); encodes to 107 features.

    Bounds: ages were cut off at 90 by the census, and the extraction took those above 16; losses
    stay below 5,000, a week's hours below 100. A capital gain above 20,000 counts as 20,000, which
    was chosen by validation on the training file (99,999 is the code for all that is more). The
    sampling weight `fnlwgt` says nothing of a person. The column of the split is not described: it
    is taken out before records are encoded.
    """
    return Schema(
        columns=(
            Column(name="age", kind="number", minimum=17, maximum=90),
            _category("workclass", *_WORKCLASSES, UNKNOWN),
            Column(name="fnlwgt", kind="ignore"),
            _category("education", *_EDUCATION),
            Column(name="education-num", kind="number", minimum=1, maximum=16),
            _category("marital-status", *_MARITAL),
            _category("occupation", *OCCUPATIONS, UNKNOWN),
            _category("relationship", *_RELATIONSHIPS),
            _category("race", *_RACES),
            _category("sex", "Female", "Male"),
            Column(name="capital-gain", kind="number", minimum=0, maximum=20_000),
            Column(name="capital-loss", kind="number", minimum=0, maximum=5_000),
            Column(name="hours-per-week", kind="number", minimum=1, maximum=99),
            _category("native-country", *_COUNTRIES, UNKNOWN),
            Column(name="income", kind="label", values=("<=50K", ">50K"), positive=">50K"),
            Column(name=CLIENT_COLUMN, kind="client"),
        )
    )


def _category(name: str, *values: str) -> Column:
    """A category column with these values."""
    return Column(name=name, kind="category", values=values)


def _read(path: str) -> pd.DataFrame:
    """One official file as stripped text, without the line that is no record and blank lines."""
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give the folder with adult.data and "
            "adult.test as --data"
        ) from None
    # Of a first line "|1x3 Cross validator", and an empty last line.
    content = b"\n".join(line for line in lines if line.strip() and not line.startswith(b"|"))
    if not content:
        raise InputError(f"{path} holds no record; give the official file")
    options = SourceOptions(header=False, columns=COLUMNS)
    records = parse_delimited(content + b"\n", ",", path, options)
    records = records.apply(lambda column: column.str.strip())
    records["income"] = records["income"].str.removesuffix(".")
    return records
