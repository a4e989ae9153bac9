"""Generated questions of a phone company's customers; see `data.synthetic.questions`."""

import dataclasses

from fl_research.data.loaded_records import LoadedRecords, generated_records
from fl_research.data.synthetic import questions

TEXT, LABEL, CLIENT = "question", "intent", "customer"

_CONFIG = questions.QuestionConfig()


def load(*, path: str | None = None, seed: int = 0) -> LoadedRecords:
    """Returns generated questions; facts have `classes`, `answers` and `foreign_label`.

    Args:
      path: Not used: the records are generated.
      seed: Of the generator.
    """
    del path
    generated = questions.generate(_CONFIG, seed)
    loaded = generated_records(generated.records, generator=f"questions: {_CONFIG}", seed=seed)
    facts = {
        "classes": list(questions.CLASSES),
        "answers": list(questions.ANSWERS),
        "foreign_label": questions.FOREIGN_INTENT,
        "best_accuracy": generated.best_accuracy,
    }
    return dataclasses.replace(loaded, facts=facts)
