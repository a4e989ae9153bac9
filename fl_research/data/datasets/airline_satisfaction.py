"""Airline passenger survey: 25,976 passengers, one row each, who rated 14 aspects of a flight.

The file is the test half of a collection that is handed around; its own split means nothing here,
and it is split by passenger like any other table. Its first column has no name and is a running
number; `id` names the answer. Ratings are 0 to 5, where 0 means that the aspect does not apply or
was not rated, so they are categories and not numbers: as numbers a linear model loses 0.05 of AUC.
"""

from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.public_files import FileOfIt, PublicFiles, locate
from fl_research.data.schema import Column, Schema
from fl_research.data.sources import read_records

RATED = (
    "Inflight wifi service",
    "Departure/Arrival time convenient",
    "Ease of Online booking",
    "Gate location",
    "Food and drink",
    "Online boarding",
    "Seat comfort",
    "Inflight entertainment",
    "On-board service",
    "Leg room service",
    "Baggage handling",
    "Checkin service",
    "Inflight service",
    "Cleanliness",
)
FILES = PublicFiles(
    name="airline_satisfaction",
    terms="not established; for runs of your own, do not pass the records on",
    files=(
        FileOfIt(
            name="test.csv",
            sha256s=("0f4b7f70b29f62a6c83233e9efc3ecb45d83445a63a3484749e9a33403233aa6",),
        ),
    ),
    origin="https://www.kaggle.com/datasets/teejmahal20/airline-passenger-satisfaction",
)


def load(*, path: str | None = None, seed: int = 0) -> LoadedRecords:
    """Returns the records with their public schema.

    Args:
      path: The user's copy of the file; None: found.
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


def schema() -> Schema:
    """The survey's columns, by hand from its public description; encodes to 97 features.

    Bounds: nobody flies further than 10,000 miles at a stretch, and a delay of more than a day is a
    cancellation. An arrival delay is blank where it is not known; zero, which most passengers
    have, stands in. The label's other value is "neutral or dissatisfied".
    """
    return Schema(
        columns=(
            Column(name="column_0", kind="ignore"),
            Column(name="id", kind="client"),
            Column(name="Gender", kind="category", values=("Female", "Male")),
            Column(
                name="Customer Type",
                kind="category",
                values=("Loyal Customer", "disloyal Customer"),
            ),
            Column(name="Age", kind="number", minimum=0, maximum=100),
            Column(
                name="Type of Travel",
                kind="category",
                values=("Business travel", "Personal Travel"),
            ),
            Column(name="Class", kind="category", values=("Eco", "Eco Plus", "Business")),
            Column(name="Flight Distance", kind="number", minimum=0, maximum=10_000),
            *(
                Column(name=name, kind="category", values=("0", "1", "2", "3", "4", "5"))
                for name in RATED
            ),
            Column(
                name="Departure Delay in Minutes",
                kind="number",
                minimum=0,
                maximum=1440,
                scale="log1p",
            ),
            Column(
                name="Arrival Delay in Minutes",
                kind="number",
                minimum=0,
                maximum=1440,
                scale="log1p",
                if_missing=0.0,
            ),
            Column(
                name="satisfaction",
                kind="label",
                values=("neutral or dissatisfied", "satisfied"),
                positive="satisfied",
            ),
        )
    )
