"""Generated telecom customers with monthly records; see `data.synthetic.telecom`."""

from fl_research.data.loaded_records import LoadedRecords, generated_records
from fl_research.data.synthetic import telecom

_CONFIG = telecom.TelecomConfig()


def load(*, path: str | None = None, seed: int = 0) -> LoadedRecords:
    """Returns generated records with their public schema.

    Args:
      path: Not used: the records are generated.
      seed: Of the generator.
    """
    del path
    return generated_records(
        telecom.generate(_CONFIG, seed).records,
        generator=f"telecom: {_CONFIG}",
        seed=seed,
        schema=telecom.build_schema(_CONFIG),
    )
