"""Flags of satisfaction analysis: levels of a label, and what is computed to say why.

Only absl is imported, so that `--help` answers at once.
"""

from absl import flags

flags.DEFINE_list(
    "label_levels",
    None,
    "Values of the label in order, the lowest first, such as 1,2,3,4,5 or bad,fair,good; the label "
    "is then ordinal. A schema lists them itself.",
)
flags.DEFINE_bool(
    "feature_effects",
    True,
    "After training, measure on the test clients what each column of the table adds, and how its "
    "values move the prediction.",
)
flags.DEFINE_integer(
    "feature_effects_repeats", 5, "Draws of each column for --feature_effects, 2 or more."
)
flags.DEFINE_list(
    "group_columns",
    None,
    "Category columns whose values, in every combination, are groups that the report compares "
    "(synthetic: branch; airline_satisfaction: Class,Type of Travel).",
)
