"""Generated ratings of customers; see `data.synthetic.ratings`."""

from fl_research.data.loaded_records import LoadedRecords, generated_records
from fl_research.data.synthetic import ratings

_CONFIG = ratings.RatingsConfig()


def load(*, path: str | None = None, seed: int = 0) -> LoadedRecords:
    """Returns generated ratings.

    Args:
      path: Not used: the records are generated.
      seed: Of the generator.
    """
    del path
    return generated_records(
        ratings.generate(_CONFIG, seed).records,
        generator=f"ratings: {_CONFIG}",
        seed=seed,
    )
