"""A population on disk as the clients of a task; its records are not read whole. No TensorFlow.

A population is typed like any table, `--dataset=table --data=FOLDER`; the folder says that it is
one. Its records are encoded already, so that no flag about columns goes with it.
"""

from absl import flags

from experiments.build_task import LoadedClients
from experiments.component_flags import selected_flags
from experiments.experiment_flags import as_typed
from fl_research.data.population import Population, is_population, open_population
from fl_research.errors import InputError

FLAGS = flags.FLAGS

_INPUTS = "inputs"
_MOST_POOLED_BYTES = 1 << 30  # The central baseline trains on all rows at once.


def is_selected() -> bool:
    """Returns whether the flags name a population."""
    return FLAGS.dataset == "table" and bool(FLAGS.data) and is_population(FLAGS.data)


def load_population() -> LoadedClients:
    """Opens the population that --data names.

    Raises:
      InputError: A flag does not go with a population, or its files are not what was written.
    """
    for name, value in selected_flags("dataset").items():
        raise InputError(
            f"--{name}={as_typed(value)}: {FLAGS.data} is a population, whose records are encoded "
            "already; leave the flag out"
        )
    if FLAGS.partition != "natural":
        raise InputError(
            f"--partition={FLAGS.partition}: {FLAGS.data} is a population, which has its own "
            "clients; leave the flag out"
        )
    population = open_population(FLAGS.data)
    shape = _input_shape(population)
    if FLAGS.baselines:
        _check_pooled_size(population)
    description = population.description
    names = description.feature_names or tuple(f"{_INPUTS}[{i}]" for i in range(shape[0]))
    unit, contains = _unit(population)
    return LoadedClients(
        clients=population.clients,
        unit=unit,
        unit_contains=contains,
        feature_names=names,
        facts={
            "source": str(FLAGS.data),
            "sha256": population.sha256,
            "terms": "the user's own data",
            "notes": _notes(population),
            "schema_inferred": description.encoding_from_records,
            "schema": description.schema,
            "cleaning": dict(description.cleaning),
        },
    )


def _unit(population: Population) -> tuple[str, str]:
    """One unit of privacy in words, and what it contains; worded as for any other table."""
    client, clients = population.description.client, population.clients
    if client is not None:
        return f"one client ({client})", f"all rows with the same {client}"
    if clients.num_rows == clients.num_clients:
        return "one row", "one row of the population, taken to be one customer"
    return "one client", "all rows of one client of the population"


def _input_shape(population: Population) -> tuple[int, ...]:
    """The shape of one row of `inputs`, which must be one column of numbers a feature."""
    types = population.clients.row_types
    if _INPUTS not in types or len(types[_INPUTS][0]) != 1:
        found = {name: list(shape) for name, (shape, _) in types.items()}
        raise InputError(
            f"--data={FLAGS.data} has the features {found}; this use case takes rows of numbers "
            f"under the name {_INPUTS!r}"
        )
    return types[_INPUTS][0]


def _check_pooled_size(population: Population) -> None:
    """Refuses --baselines where all rows do not go into one message to the worker."""
    shape, dtype = population.clients.row_types[_INPUTS]
    pooled = population.clients.num_rows * shape[0] * dtype.itemsize
    if pooled > _MOST_POOLED_BYTES:
        raise InputError(
            f"--baselines trains on all rows at once, which are {pooled / 2**30:.1f} GiB of "
            f"{FLAGS.data}; leave it out, or take a population of at most "
            f"{_MOST_POOLED_BYTES / 2**30:.0f} GiB"
        )


def _notes(population: Population) -> list[str]:
    """What the report should say of where the encoding came from."""
    description = population.description
    notes = [f"read from {description.source}"] if description.source else []
    if description.schema is None:
        how = "from the records" if description.encoding_from_records else "from public knowledge"
        notes.append(
            "the features came encoded; that their bounds, scales and categories were chosen "
            f"{how} is what the population's writer stated"
        )
    return notes
