"""The flag that names a finished run, for the tools that look at one. Only absl is imported."""

from absl import flags

flags.DEFINE_string("run", None, "Folder of a finished run.")
