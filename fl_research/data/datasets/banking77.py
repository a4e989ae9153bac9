"""Banking77: customers' questions to a bank in English, each with one of 77 intents.

The published files are an official split, 10,003 questions for training and 3,080 for the test (40
an intent), and the list of the intents. Nobody knows who asked: there are no customers in it, so
that clients have to be simulated (--partition).

Paper: Casanueva et al. 2020, "Efficient Intent Detection with Dual Sentence Encoders".
"""

import json

import pandas as pd

from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.public_files import FileOfIt, PublicFiles, locate
from fl_research.data.sources.delimited_text import parse_delimited
from fl_research.data.sources.source_options import SourceOptions
from fl_research.errors import InputError

TEXT, LABEL, SPLIT = "text", "category", "split"

_FOLDER = "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/master/banking_data/"
_FILES = PublicFiles(
    name="banking77",
    terms="CC BY 4.0 (Casanueva, Temcinas, Gerz, Henderson, Vulic 2020)",
    origin=_FOLDER,
    files=tuple(
        FileOfIt(name=name, sha256s=(sha256,), address=_FOLDER + name)
        for name, sha256 in (
            ("train.csv", "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b"),
            ("test.csv", "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d"),
            (
                "categories.json",
                "53261da888122daf2d120d925458631d9619e15d82e56052e7a42e535ce32b63",
            ),
        )
    ),
)


def load(*, path: str | None, seed: int) -> LoadedRecords:
    """Returns the questions with their intents: columns text, category, and split.

    Args:
      path: The user's folder with train.csv, test.csv and categories.json; None: found or
        downloaded.
      seed: Not used.

    Returns:
      Records whose facts have `classes`, the public list of the intents.

    Raises:
      InputError: A file cannot be had, or is not as published.
    """
    del seed
    located = locate(_FILES, path)
    train, test, categories = located.paths
    parts = []
    for split, file in (("train", train), ("test", test)):
        questions = parse_delimited(file.read_bytes(), ",", str(file), SourceOptions())
        if list(questions.columns) != [TEXT, LABEL]:
            raise InputError(
                f"{file} has the columns {', '.join(questions.columns)}; give the file as "
                f"published, with {TEXT} and {LABEL}"
            )
        parts.append(questions.assign(**{SPLIT: split}))
    return LoadedRecords(
        records=pd.concat(parts, ignore_index=True),
        schema=None,
        source=located.source,
        sha256=located.sha256,
        terms=_FILES.terms,
        notes=located.notes,
        facts={"classes": _classes(categories.read_text(encoding="utf-8"), str(categories))},
        split_column=SPLIT,
    )


def _classes(text: str, where: str) -> list[str]:
    """The list of the intents."""
    try:
        classes = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON ({error.msg}); give it as published") from None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise InputError(f"{where} is no list of names; give it as published")
    return classes
