"""From the flags of service_automation to its task: intents or answers, foreign questions aside."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from experiments import load_text
from experiments.flags_without_effect import refuse_flags
from experiments.load_text import LabelValues, TextColumns
from experiments.read_source import read_source
from fl_research import randomness
from fl_research.analyses.out_of_scope import OutOfScope
from fl_research.argument_checks import require_choice
from fl_research.data.datasets import banking77, synthetic_questions
from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.preparation import text as text_preparation
from fl_research.errors import InputError
from fl_research.objectives.answer_retrieval import AnswerRetrieval
from fl_research.objectives.multiclass import MulticlassClassification
from fl_research.objectives.objective import Objective
from fl_research.task import FederatedTask

if TYPE_CHECKING:
    from experiments.use_case import UseCase
    from fl_research.data.hashed_text import HashedText

FLAGS = flags.FLAGS

TASKS = ("intents", "answers")
_NOT_HERE = {"positive_label": "every label is a class of its own"}


def load_service(use_case: "UseCase", seed: int) -> FederatedTask:
    """Reads, hashes, partitions and splits the questions that the flags name.

    Args:
      use_case: Names the data sets.
      seed: Seed of partition and split, and of the choice of held-out intents.

    Raises:
      InputError: Wrong flags or wrong records; says which and the way out.
    """
    require_choice("--task", FLAGS.task, TASKS)
    refuse_flags(load_text.NOT_WITH_TEXTS | _NOT_HERE, "questions in words")
    settings = load_text.text_settings()
    loaded = read_source(use_case, seed)
    columns = _columns(loaded)
    known = load_text.label_values(loaded, columns.label)
    foreign_labels = _foreign_labels(loaded, known, seed)
    values = tuple(value for value in known.values if value not in foreign_labels)
    all_labels = load_text.label_indices(
        loaded.records, columns.label, (*values, *sorted(foreign_labels))
    )
    is_foreign = all_labels >= len(values)
    if foreign_labels and not is_foreign.any():
        raise InputError(
            f"--out_of_scope_label={FLAGS.out_of_scope_label}: no row of {columns.label!r} has it; "
            "name the label of the foreign questions, or leave the flag out"
        )
    in_scope = _kept(loaded, ~is_foreign)
    clients = load_text.encoded_texts(
        in_scope,
        columns,
        all_labels[~is_foreign],
        settings,
        seed=seed,
        inferred=known.inferred,
    )
    if foreign_labels:
        held = ", ".join(sorted(foreign_labels))
        facts = {**clients.facts, "foreign": f"questions with {columns.label} {held}"}
        clients = dataclasses.replace(clients, facts=facts)
    task = load_text.text_task(
        use_case,
        clients,
        preparation=text_preparation.settings_of(columns.text, settings),
        objective=_objective(loaded, known, values, settings),
        seed=seed,
        analyses=(_out_of_scope(loaded, columns, is_foreign, settings),),
    )
    if not task.validation.num_rows:
        raise InputError(
            f"--validation_fraction={FLAGS.validation_fraction:g} leaves no clients that could set "
            "the confidence below which a question goes to a person; give a larger one"
        )
    return task


def _columns(loaded: LoadedRecords) -> TextColumns:
    """Which column is what."""
    if FLAGS.dataset == "banking77":
        columns = TextColumns(text=banking77.TEXT, label=banking77.LABEL)
    elif FLAGS.dataset == "synthetic":
        names = synthetic_questions
        columns = TextColumns(text=names.TEXT, label=names.LABEL, client=names.CLIENT)
    else:
        # The answers themselves are what is to be found: they take the label's place.
        by_answer = FLAGS.answer_column is not None
        if by_answer and FLAGS.task != "answers":
            raise InputError(
                f"--answer_column={FLAGS.answer_column} belongs to --task=answers, but "
                f"--task={FLAGS.task} is selected; leave the flag out or select that task"
            )
        if by_answer:
            refuse_flags({"label_column": "the answers are the labels"}, "--answer_column")
        flag = "answer_column" if by_answer else "label_column"
        return load_text.table_columns(loaded.records, flag)
    for flag in ("answer_column", "out_of_scope_label"):
        if FLAGS[flag].value is not None:
            raise InputError(
                f"--{flag}={FLAGS[flag].value} belongs to --dataset=table, but "
                f"--dataset={FLAGS.dataset} is selected; leave the flag out"
            )
    return columns


def _foreign_labels(loaded: LoadedRecords, known: LabelValues, seed: int) -> set[str]:
    """The labels of the questions that are foreign."""
    number, named = FLAGS.out_of_scope_intents, FLAGS.out_of_scope_label
    if "foreign_label" in loaded.facts:
        named = loaded.facts["foreign_label"]
    if named is not None and number is not None:
        raise InputError(
            f"--out_of_scope_intents={number}: there are foreign questions already (label "
            f"{named}); leave the flag out"
        )
    if number is None:
        return set() if named is None else {named}
    if not 1 <= number <= len(known.values) - 2:
        raise InputError(
            f"--out_of_scope_intents={number} is not possible with {len(known.values)} intents; "
            f"give 1 to {len(known.values) - 2}"
        )
    generator = randomness.generator(seed, "out_of_scope_intents")
    chosen = generator.choice(len(known.values), number, replace=False)
    return {known.values[place] for place in chosen}


def _kept(loaded: LoadedRecords, rows: np.ndarray) -> LoadedRecords:
    """The records without the foreign ones."""
    if rows.all():
        return loaded
    return dataclasses.replace(
        loaded,
        records=loaded.records[rows].reset_index(drop=True),
        cleaning={**loaded.cleaning, "foreign questions set aside": int((~rows).sum())},
    )


def _objective(
    loaded: LoadedRecords, known: LabelValues, values: tuple[str, ...], settings: "HashedText"
) -> Objective:
    """What the outputs mean: a class each, or an answer each."""
    if FLAGS.task == "intents":
        return MulticlassClassification(classes=values)
    text_of = {value: value.replace("_", " ") for value in values}
    if "answers" in loaded.facts:
        text_of = dict(zip(known.values, loaded.facts["answers"], strict=True))
    return AnswerRetrieval(
        names=values, answers=tuple(text_of[value] for value in values), encoding=settings
    )


def _out_of_scope(
    loaded: LoadedRecords, columns: TextColumns, is_foreign: np.ndarray, settings: "HashedText"
) -> OutOfScope:
    """The analysis with the foreign questions, of the official test where there is one."""
    if loaded.split_column is not None:
        is_foreign = is_foreign & (loaded.records[loaded.split_column] == "test").to_numpy()
    if not is_foreign.any():
        return OutOfScope(keep=FLAGS.keep_in_scope)
    rows = text_preparation.encode_column(
        loaded.records[is_foreign].reset_index(drop=True), columns.text, settings
    )
    foreign = {text_preparation.FEATURE: rows.ids}
    words = "questions with intents that were held out of the training"
    if FLAGS.out_of_scope_intents is None:
        words = "questions of foreign topics"
    return OutOfScope(keep=FLAGS.keep_in_scope, foreign=foreign, foreign_from=words)
