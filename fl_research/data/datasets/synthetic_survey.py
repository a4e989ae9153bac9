"""Generated answers of customers to a survey; see `data.synthetic.survey`."""

from fl_research.data.loaded_records import LoadedRecords, generated_records
from fl_research.data.synthetic import survey

_CONFIG = survey.SurveyConfig()


def load(*, path: str | None = None, seed: int = 0) -> LoadedRecords:
    """Returns generated answers with their public schema.

    Args:
      path: Not used: the records are generated.
      seed: Of the generator.
    """
    del path
    return generated_records(
        survey.generate(_CONFIG, seed).records,
        generator=f"survey: {_CONFIG}",
        seed=seed,
        schema=survey.build_schema(_CONFIG),
    )
