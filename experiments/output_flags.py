"""Flags of the tools that write files beside runs, and the check that nothing is overwritten.

Only absl is imported, so that `--help` answers at once.
"""

from pathlib import Path

from absl import flags

from fl_research.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string("out", None, "Where to write; it must not be there yet.")
flags.DEFINE_bool("overwrite", False, "Write over what is there.")


def refuse_existing(*names: str) -> None:
    """Refuses flags that name a file or folder that is there already.

    Args:
      names: Flags with a path, or None.

    Raises:
      InputError: One is there, and --overwrite is not set.
    """
    for name in names:
        path = FLAGS[name].value
        if path and Path(path).exists() and not FLAGS.overwrite:
            raise InputError(f"--{name}={path} is there already; choose another, or --overwrite")
