"""Refuses flags that a task would not read: who sets one would believe that it had an effect."""

from collections.abc import Mapping

from absl import flags

from experiments.experiment_flags import as_typed
from fl_research.errors import InputError

FLAGS = flags.FLAGS

PERSONS_ONLY_DECLARED = (
    "it bounds a person's clients only where a table has a schema; declare in how many clients a "
    "person may be by --clients_per_person alone"
)


def refuse_flags(reasons: Mapping[str, str], what: str) -> None:
    """Refuses flags that have no effect.

    Args:
      reasons: Name of a flag -> why it has none here, or what to give instead.
      what: What the flags do not go with, such as `"forecasts"`.

    Raises:
      InputError: One of them is given, with another value than its default.
    """
    for name, reason in reasons.items():
        # A run's own flag file holds every flag that has a value; a default refuses nothing.
        if FLAGS[name].value != FLAGS[name].default:
            raise InputError(
                f"--{name}={as_typed(FLAGS[name].value)} does not go with {what}; leave it out: "
                f"{reason}"
            )
