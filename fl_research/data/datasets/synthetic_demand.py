"""Generated weekly demand of a chain of stores, with known expected demand."""

from fl_research.data.loaded_records import LoadedRecords, generated_records
from fl_research.data.synthetic import demand


def load(*, path: str | None = None, seed: int = 0) -> LoadedRecords:
    """Returns the records: store, week, units.

    Args:
      path: Not used: the records are generated.
      seed: Of the generator.
    """
    del path
    config = demand.DemandConfig()
    return generated_records(
        demand.generate(config, seed).records,
        generator=f"demand: {config}",
        seed=seed,
    )
