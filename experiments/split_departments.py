"""Splits the rows of departments that are clients; departments that are too small are left out.

The rows of each department are split, so that what is learned for a department can be tried on
other customers of its own; an official test split keeps its rows. A department with fewer training
rows than --min_rows_per_department gives no validation or test row either: those of the report are
of departments that train. No TensorFlow.
"""

import dataclasses

import numpy as np
from absl import flags

from experiments.build_task import LoadedClients
from fl_research.data.client_data import ClientData
from fl_research.data.row_split import split_rows
from fl_research.errors import InputError

FLAGS = flags.FLAGS

Splits = tuple[ClientData, ClientData, ClientData]


def split_departments(loaded: LoadedClients, seed: int) -> tuple[LoadedClients, Splits]:
    """Caps the training rows of each department and splits its rows by the flags.

    Args:
      loaded: The departments; those of an official test split are tested.
      seed: Of the split and the cap.

    Returns:
      The departments that train, with the counts of what was left out among the cleaning rules,
      and (train, validation, test).

    Raises:
      InputError: A fraction or a cap that is not possible, or no department is left.
    """
    data, contains, official = loaded.clients, loaded.unit_contains, loaded.official_test
    assert isinstance(data, ClientData)
    train, validation, test = split_rows(
        data,
        validation_fraction=FLAGS.validation_fraction,
        test_fraction=FLAGS.test_fraction if official is None else 0.0,
        seed=seed,
    )
    test = test if official is None else official
    if FLAGS.max_rows_per_client is not None:
        train = train.cap_rows(FLAGS.max_rows_per_client, seed)
        contains += f"; at most {FLAGS.max_rows_per_client} rows a client are trained on"
    splits, cleaning = _of_departments_that_train((train, validation, test))
    loaded = dataclasses.replace(
        loaded,
        clients=_chosen(data, splits[0].client_ids),
        unit_contains=contains,
        facts={**loaded.facts, "cleaning": {**loaded.facts["cleaning"], **cleaning}},
    )
    return loaded, splits


def _of_departments_that_train(splits: Splits) -> tuple[Splits, dict[str, int]]:
    """The splits of departments with --min_rows_per_department training rows, and the counts."""
    train, *others = splits
    fewest = FLAGS.min_rows_per_department or 1
    large = np.flatnonzero(train.rows_per_client >= fewest)
    if not large.size:
        raise InputError(
            f"--min_rows_per_department={fewest} leaves no department to train; the largest has "
            f"{int(train.rows_per_client.max())} training rows"
        )
    kept = train.select(large)
    validation, test = (_chosen(part, kept.client_ids) for part in others)
    if not test.num_rows:
        raise InputError(
            "no test row is of a department that trains; give a larger --test_fraction, or records "
            "with the same departments in both splits"
        )
    others_left_out = sum(o.num_rows for o in others) - validation.num_rows - test.num_rows
    left_out = {
        f"departments with fewer than {fewest} training rows left out of all splits": (
            train.num_clients - kept.num_clients
        ),
        "validation and test rows of departments that do not train left out": others_left_out,
    }
    return (kept, validation, test), {rule: count for rule, count in left_out.items() if count}


def _chosen(data: ClientData, client_ids: np.ndarray) -> ClientData:
    """The clients with these ids."""
    return data.select(np.flatnonzero(np.isin(data.client_ids.astype(str), client_ids.astype(str))))
