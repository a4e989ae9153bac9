"""Flags of series in time: how they are cut and what is forecast; `load_series` reads them.

Only absl is imported, so that `--help` answers at once.
"""

from absl import flags

flags.DEFINE_enum("period", "week", ["day", "week", "month"], "What one value is about.")
flags.DEFINE_integer(
    "lags", None, "Periods that the model sees before a forecast (13; synthetic: 26)."
)
flags.DEFINE_integer("horizon", 4, "Periods that are forecast.")
flags.DEFINE_integer(
    "season",
    None,
    "Periods after which demand repeats, such as 7 days; without it no season is known (synthetic: "
    "13).",
)
flags.DEFINE_integer(
    "min_history", None, "Periods that a client has before a window (default: --lags)."
)
flags.DEFINE_integer("min_active", 2, "Of them, periods with a value that is not zero.")
flags.DEFINE_enum(
    "loss",
    "pinball",
    ["squared", "absolute", "pinball"],
    "squared forecasts the mean (by RMSE), absolute the median (by WMAPE), pinball --quantiles.",
)
flags.DEFINE_list("quantiles", None, "Quantiles of --loss=pinball, 0.5 among them (0.1,0.5,0.9).")
flags.DEFINE_bool(
    "history_inputs",
    False,
    "Give the model the quantiles of the client's own history too; for intermittent demand, of "
    "which a few lags say little.",
)
flags.DEFINE_list(
    "covariate_columns", None, "Further columns of numbers that the model sees, averaged a period."
)
flags.DEFINE_list(
    "scaled_bounds",
    ["0", "10"],
    "Public bounds of a value as a multiple of the client's own past mean: inputs, targets of the "
    "training and forecasts are clipped to them; metrics are of whole values.",
)
flags.DEFINE_float(
    "scale_floor", 0.01, "The least past mean that values are divided by, in units of the value."
)
