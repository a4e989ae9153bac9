"""Flags that say how texts become features and which labels there are; `load_text` reads them.

Only absl is imported, so that `--help` answers at once. `--buckets` is declared with the models.
"""

from absl import flags

flags.DEFINE_integer(
    "text_word_ngrams", None, "Longest run of words that is a feature of a text; 0: none (2)."
)
flags.DEFINE_list(
    "text_char_ngrams",
    None,
    "Lengths of the runs of characters that are features, such as 3,4 (4).",
)
flags.DEFINE_integer("text_max_features", None, "Features that are kept of a text (160).")
flags.DEFINE_string(
    "classes",
    None,
    "File with the public list of the label's values: JSON, or one a line. Without it, "
    "--infer_schema reads them off the data.",
)
