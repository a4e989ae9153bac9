"""What the loaders of all use cases share: who a client is, the splits, the facts of the data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags

from experiments.component_flags import selected_flags
from fl_research.data import partitioning
from fl_research.data.client_data import ClientData
from fl_research.data.clients import Clients
from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.population_clients import PopulationClients
from fl_research.errors import InputError

FLAGS = flags.FLAGS

_PARTITIONS = ("natural", "iid", "dirichlet", "quantity")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedClients:
    """All clients of a task, not yet capped and split, and what is known of them.

    Attributes:
      clients: The clients.
      unit: One privacy unit in words.
      unit_contains: What one unit contains, in words.
      feature_names: Names of the columns of the feature `inputs`; empty where there are none.
      facts: What run.json says of source, schema and cleaning.
      official_test: Clients of an official test split, which are then the test clients.
    """

    clients: ClientData | PopulationClients
    unit: str
    unit_contains: str
    feature_names: tuple[str, ...]
    facts: Mapping[str, Any]
    official_test: ClientData | None = None


def source_facts(loaded: LoadedRecords) -> dict[str, Any]:
    """Returns what run.json says of where records came from."""
    schema = loaded.schema
    return {
        "source": loaded.source,
        "sha256": loaded.sha256,
        "terms": loaded.terms,
        "notes": list(loaded.notes),
        "schema_inferred": schema is not None and schema.inferred,
        "schema": None if schema is None else schema.to_dict(),
        "cleaning": dict(loaded.cleaning),
        **loaded.facts,
    }


def partition_ids(labels: np.ndarray, natural: np.ndarray | None, seed: int) -> np.ndarray | None:
    """Returns the client of each row by --partition: `natural`, or simulated ids.

    Args:
      labels: One a row, for the label skew of --partition=dirichlet.
      natural: The ids that the data has; None: each row is a client.
      seed: Seed of a simulated partition.

    Raises:
      InputError: Unknown or contradicting flags.
    """
    if FLAGS.partition not in _PARTITIONS:
        raise InputError(
            f"--partition={FLAGS.partition} is unknown; choose from {', '.join(_PARTITIONS)}"
        )
    settings = selected_flags("partition")
    if FLAGS.partition == "natural":
        return natural
    if "partition_clients" not in settings:
        raise InputError(f"--partition={FLAGS.partition} needs --partition_clients")
    clients, rows = FLAGS.partition_clients, len(labels)
    if FLAGS.partition == "iid":
        return partitioning.iid(rows, clients, seed)
    if FLAGS.partition == "dirichlet":
        concentration = FLAGS.dirichlet_concentration
        return partitioning.dirichlet_label_skew(
            labels, clients, 0.5 if concentration is None else concentration, seed
        )
    sigma = FLAGS.quantity_sigma
    return partitioning.quantity_skew(rows, clients, 1.0 if sigma is None else sigma, seed)


def unit_words(client_column: str | None, natural_unit: str = "one customer") -> tuple[str, str]:
    """Returns one privacy unit in words, and what it contains, by --partition.

    Args:
      client_column: The column that names the clients; None: each row is one.
      natural_unit: What a client of a named data set is.
    """
    if FLAGS.partition != "natural":
        return (
            f"one simulated client ({FLAGS.partition} partition)",
            f"the rows dealt to one of {FLAGS.partition_clients} simulated clients; a real "
            "customer's rows may lie in several of them",
        )
    if client_column is None:
        return "one row", "one row of the table, taken to be one customer"
    if FLAGS.dataset == "table":
        return f"one client ({client_column})", f"all rows with the same {client_column}"
    return natural_unit, f"all rows of {natural_unit} ({client_column})"


def split_clients(
    loaded: LoadedClients, seed: int
) -> tuple[LoadedClients, tuple[Clients, Clients, Clients]]:
    """Caps the rows of a client and splits the clients by the flags.

    Returns:
      The clients as they were capped, and (train, validation, test).

    Raises:
      InputError: A fraction or a cap that is not possible.
    """
    data, contains = loaded.clients, loaded.unit_contains
    if FLAGS.max_rows_per_client is not None:
        data = data.cap_rows(FLAGS.max_rows_per_client, seed)
        contains += f"; at most {FLAGS.max_rows_per_client} rows a client are kept"
    official = loaded.official_test
    train, validation, test = data.split(
        validation_fraction=FLAGS.validation_fraction,
        test_fraction=FLAGS.test_fraction if official is None else 0.0,
        seed=seed,
    )
    capped = dataclasses.replace(loaded, clients=data, unit_contains=contains)
    return capped, (train, validation, test if official is None else official)


def data_facts(loaded: LoadedClients, splits: tuple[Clients, Clients, Clients]) -> dict[str, Any]:
    """Returns what run.json says of the data.

    Args:
      loaded: All clients, capped.
      splits: Train, validation and test.
    """
    inferred = loaded.facts["schema_inferred"]
    public = [
        "column names" if inferred else "column names and kinds",
        "the number of clients" if FLAGS.sampling != "poisson" else "the expected cohort size",
    ]
    if not inferred and loaded.facts.get("schema"):
        public.append("bounds of number columns and values of category columns (from the schema)")
    public += loaded.facts.get("public", [])
    data = loaded.clients
    return {
        "dataset": FLAGS.dataset,
        "clients_per_person": FLAGS.clients_per_person,
        **loaded.facts,
        "clients": data.num_clients,
        "examples": data.num_rows,
        "features": len(loaded.feature_names) or None,
        "split": {
            f"{name}_clients": split.num_clients
            for name, split in zip(("train", "validation", "test"), splits, strict=True)
        },
        "max_rows_per_client": FLAGS.max_rows_per_client,
        "largest_client_rows": int(data.rows_per_client.max(initial=0)),
        "public": public,
    }
