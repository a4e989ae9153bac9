"""Flags that say what a recommendation learns from; `load_interactions` reads them.

Only absl is imported, so that `--help` answers at once.
"""

from absl import flags

flags.DEFINE_string(
    "feedback",
    None,
    "explicit: ratings are predicted; implicit: the next items are ranked (default: explicit where "
    "the data has ratings).",
)
flags.DEFINE_integer(
    "max_items_per_client",
    None,
    "Most items of a customer that are trained on, the newest where there are times, and most that "
    "are held out (200).",
)
flags.DEFINE_string(
    "held_out",
    None,
    "What tests the model: random, a share of each customer's items, or last_basket, what was "
    "bought last and not before (default: last_basket for implicit feedback with a time).",
)
flags.DEFINE_float(
    "held_out_fraction", None, "Share of each customer's items that --held_out=random takes (0.2)."
)
flags.DEFINE_list(
    "rating_range",
    None,
    "Lowest and highest rating possible, such as 1,5; without it they are read off the table, "
    "which epsilon does not cover.",
)
flags.DEFINE_string(
    "catalogue",
    None,
    "File with the public list of all items, one a line; without it they are read off the table, "
    "which epsilon does not cover.",
)
flags.DEFINE_string(
    "basket_column", None, "Column of the order or invoice; without it, what has the same time."
)
