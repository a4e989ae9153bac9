"""Generated baskets of customers; see `data.synthetic.baskets`."""

from fl_research.data.loaded_records import LoadedRecords, generated_records
from fl_research.data.synthetic import baskets

_CONFIG = baskets.BasketsConfig()


def load(*, path: str | None = None, seed: int = 0) -> LoadedRecords:
    """Returns generated baskets.

    Args:
      path: Not used: the records are generated.
      seed: Of the generator.
    """
    del path
    return generated_records(
        baskets.generate(_CONFIG, seed).records,
        generator=f"baskets: {_CONFIG}",
        seed=seed,
    )
