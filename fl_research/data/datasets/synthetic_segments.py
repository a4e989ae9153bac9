"""Generated customers of known segments in departments; see `data.synthetic.segments`."""

from fl_research.data.loaded_records import LoadedRecords, generated_records
from fl_research.data.synthetic import segments

_CONFIG = segments.SegmentsConfig()


def load(*, path: str | None = None, seed: int = 0) -> LoadedRecords:
    """Returns generated customers with their public schema.

    Args:
      path: Not used: the records are generated.
      seed: Of the generator.
    """
    del path
    return generated_records(
        segments.generate(_CONFIG, seed).records,
        generator=f"segments: {_CONFIG}",
        seed=seed,
        schema=segments.build_schema(),
    )
