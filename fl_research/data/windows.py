"""Windows of a panel: what was bought in the last periods, and what in the next ones.

A window of a client stands before a period, its origin: the inputs are the `lags` periods before,
the targets the `horizon` periods from there on. Both are divided by the client's own scale, the
mean absolute value of its history up to the origin and never below `scale_floor`, so that small
and large clients can share a model and a public bound makes sense. Splits are by time alone: test
targets are the last `horizon` periods, validation targets those before, and the targets of
training end before that.

The channels of a step are the scaled value (clipped to the public bounds, and less one, about its
mean, so that training is well conditioned), whether it is zero, and the covariates (likewise, by
their own history). What is the same for a whole window stands at its last step only: with a season
the sines and cosines of the origin's place in it, and with `history_inputs` the quantiles of the
client's history, scaled as values are: for intermittent demand, of which a few lags say little.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fl_research.argument_checks import (
    is_finite_number,
    require_at_least,
    require_positive,
)
from fl_research.data.panel import Panel
from fl_research.errors import InputError

INPUTS, SCALE, NAIVE, OWN_QUANTILES = "inputs", "scale", "naive", "own_quantiles"
"""Features: float32 [lags, channels]; []; [baselines, horizon] and [quantiles], not scaled."""
_MAX_HARMONICS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How windows are cut.

    Attributes:
      lags: Periods that the model sees, 1 or more.
      horizon: Periods that it forecasts, 1 or more.
      season: Periods after which demand repeats, 2 or more; None: none is known.
      min_history: Periods that a client has before a window, at least `lags`; None: `lags`.
      min_active: Of them, periods with a value that is not zero, 0 or more.
      clip: Public bounds (low, high) of scaled values, low <= 0 < high.
      scale_floor: The least scale, above 0, in units of the value.
      quantiles: Of the client's own history, for a baseline.
      history_inputs: Whether these quantiles are inputs too.

    Raises:
      InputError: A value is out of range.
    """

    lags: int
    horizon: int
    season: int | None = None
    min_history: int | None = None
    min_active: int = 1
    clip: tuple[float, float] = (-1.0, 10.0)
    scale_floor: float = 0.01
    quantiles: tuple[float, ...] = ()
    history_inputs: bool = False

    def __post_init__(self) -> None:
        require_at_least("lags", self.lags, 1)
        require_at_least("horizon", self.horizon, 1)
        if self.season is not None:
            require_at_least("season", self.season, 2)
        if self.min_history is None:
            object.__setattr__(self, "min_history", self.lags)
        require_at_least("min_history", self.min_history, 1)
        if self.history < self.lags:
            raise InputError(
                f"min_history={self.min_history} is less than lags={self.lags}, which a window "
                "needs; give more, or fewer lags"
            )
        require_at_least("min_active", self.min_active, 0)
        if self.history_inputs and not self.quantiles:
            raise InputError(
                "history_inputs=True needs quantiles, which only loss='pinball' has; leave it out"
            )
        require_positive("scale_floor", self.scale_floor)
        object.__setattr__(self, "clip", tuple(self.clip))
        object.__setattr__(self, "quantiles", tuple(self.quantiles))
        low, high = self.clip
        if not (is_finite_number(low) and is_finite_number(high) and low <= 0 < high):
            raise InputError(
                f"clip={self.clip} are no bounds of scaled values; give low,high with "
                "low <= 0 < high, such as -1,10"
            )

    @property
    def history(self) -> int:
        """`min_history`, as a number."""
        return self.lags if self.min_history is None else self.min_history

    @property
    def naive_names(self) -> tuple[str, ...]:
        """Baselines of the feature `naive`, in order; seasonal_naive needs a season of history."""
        names = ("last_value", "moving_average", "historical_mean")
        with_season = self.season is not None and self.history >= self.season
        return (*names, "seasonal_naive") if with_season else names

    @property
    def harmonics(self) -> int:
        """How many pairs of sine and cosine say where in the season a window stands."""
        return 0 if self.season is None else min(_MAX_HARMONICS, self.season // 2)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain JSON."""
        fields = dataclasses.asdict(self)
        return {n: list(v) if isinstance(v, tuple) else v for n, v in fields.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """Windows of some clients.

    Attributes:
      features: By the names of this module, rows along the first axis.
      targets: float32 [rows, horizon], scaled, not clipped; None where the origin is the end.
      clients: int64 [rows], index into the panel's clients.
      origins: int64 [rows], the first target period.
    """

    features: Mapping[str, np.ndarray]
    targets: np.ndarray | None
    clients: np.ndarray
    origins: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class TimeSplit:
    """Windows by time; validation and test are of the clients that train.

    Attributes:
      train: All windows whose targets end before the validation targets begin.
      validation: One window a client.
      test: One window a client: the last `horizon` periods.
      clients_without_training: Clients that had too little history to train; left out.
    """

    train: Windows
    validation: Windows
    test: Windows
    clients_without_training: int


def split_by_time(panel: Panel, config: WindowConfig) -> TimeSplit:
    """Cuts windows for training, validation and test.

    Raises:
      InputError: There are too few periods, or no client has enough history.
    """
    periods, horizon = panel.num_periods, config.horizon
    needed = config.history + 3 * horizon
    if periods < needed:
        raise InputError(
            f"the records hold {periods} whole periods; min_history={config.history} and three "
            f"times horizon={horizon} (train, validation, test) need {needed}: give fewer lags, a "
            "smaller horizon or min_history, or more records"
        )
    train = cut_windows(panel, config, range(config.history, periods - 3 * horizon + 1))
    if not len(train.clients):
        raise InputError(
            f"none of the {len(panel.client_ids)} clients has min_history={config.history} "
            f"periods with min_active={config.min_active} of them active before the validation "
            "periods; ask for less"
        )
    trained = np.unique(train.clients)
    return TimeSplit(
        train=train,
        validation=cut_windows(panel, config, [periods - 2 * horizon], trained),
        test=cut_windows(panel, config, [periods - horizon], trained),
        clients_without_training=len(panel.client_ids) - len(trained),
    )


def cut_windows(
    panel: Panel,
    config: WindowConfig,
    origins: Sequence[int],
    clients: np.ndarray | None = None,
) -> Windows:
    """Cuts one window a client and origin, of clients that have the history.

    Args:
      panel: The panel.
      config: How to cut.
      origins: First target periods; the number of periods for a forecast of what comes next.
      clients: Indices of clients; None: all.
    """
    among = np.arange(len(panel.client_ids)) if clients is None else clients
    parts = [_windows_at(panel, config, origin, among) for origin in origins]
    names = parts[0].features
    targets = [part.targets for part in parts if part.targets is not None]
    return Windows(
        features={n: np.concatenate([part.features[n] for part in parts]) for n in names},
        targets=np.concatenate(targets) if targets else None,
        clients=np.concatenate([part.clients for part in parts]),
        origins=np.concatenate([part.origins for part in parts]),
    )


def _windows_at(panel: Panel, config: WindowConfig, origin: int, among: np.ndarray) -> Windows:
    """The windows before one period."""
    past = panel.values[among, :origin]
    lived = np.arange(origin) >= panel.first[among, None]
    length = origin - panel.first[among]
    kept = (length >= config.history) & ((past != 0).sum(axis=1) >= config.min_active)
    clients, past, lived, length = among[kept], past[kept], lived[kept], length[kept]
    scale = np.maximum(np.abs(past).sum(axis=1) / length, config.scale_floor)
    own = _own_quantiles(past, lived, config.quantiles)
    of_window = np.tile(_season(panel, config, origin), (len(clients), 1))
    if config.history_inputs:
        of_window = np.concatenate([of_window, _scaled(own, scale, config)], axis=1)
    at_last = np.zeros([len(clients), config.lags, of_window.shape[1]])
    at_last[:, -1] = of_window
    by_step = _by_step(panel, config, origin, clients, scale)
    features = {
        INPUTS: np.concatenate([by_step, at_last], axis=-1),
        SCALE: scale,
        NAIVE: _naive(config, past, length),
    }
    if config.quantiles:
        features[OWN_QUANTILES] = own
    if not all(np.isfinite(values.astype(np.float32)).all() for values in features.values()):
        raise InputError(
            "a value of the records is beyond 3e38, which the model cannot hold; give it in larger "
            "units or correct it"
        )
    future = panel.values[clients, origin : origin + config.horizon]
    whole = future.shape[1] == config.horizon
    return Windows(
        features={name: values.astype(np.float32) for name, values in features.items()},
        targets=(future / scale[:, None]).astype(np.float32) if whole else None,
        clients=clients,
        origins=np.full(len(clients), origin),
    )


def _by_step(
    panel: Panel, config: WindowConfig, origin: int, clients: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """The channels that differ from step to step, [rows, lags, channels]."""
    lags = slice(origin - config.lags, origin)
    seen = panel.values[clients, lags]
    channels = [_scaled(seen, scale, config), (seen == 0).astype(float)]
    lived = np.arange(origin) >= panel.first[clients, None]
    for column in range(panel.covariates.shape[-1]):
        past = panel.covariates[clients, :origin, column]
        size = np.abs(past).sum(axis=1, where=lived) / lived.sum(axis=1)
        size = np.where(size > 0, size, 1.0)
        channels.append(_scaled(past[:, lags], size, config))
    return np.stack(channels, axis=-1)


def _season(panel: Panel, config: WindowConfig, origin: int) -> np.ndarray:
    """Sines and cosines of a period's place in the season, [2 * harmonics].

    By the calendar, so that other records are told the same of the same day.
    """
    number = int(panel.numbers[0]) + origin
    angle = 2 * np.pi * np.arange(1, config.harmonics + 1) * number / (config.season or 1)
    return np.stack([np.sin(angle), np.cos(angle)], axis=1).ravel()


def _scaled(values: np.ndarray, scale: np.ndarray, config: WindowConfig) -> np.ndarray:
    """Values [rows, ...] as multiples of each row's scale, within the bounds, less one."""
    return np.clip(values / scale[:, None], *config.clip) - 1


def _naive(config: WindowConfig, past: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The forecasts of baselines in units of the value, [rows, baselines, horizon]."""
    constant = {
        "last_value": past[:, -1],
        "moving_average": past[:, -config.lags :].mean(axis=1),
        "historical_mean": past.sum(axis=1) / length,
    }
    forecasts = [np.tile(values[:, None], config.horizon) for values in constant.values()]
    if "seasonal_naive" in config.naive_names:
        assert config.season is not None
        # The newest known period at the same place in the season.
        back = config.season - np.arange(config.horizon) % config.season
        forecasts.append(past[:, past.shape[1] - back])
    return np.stack(forecasts, axis=1)


def _own_quantiles(past: np.ndarray, lived: np.ndarray, quantiles: tuple[float, ...]) -> np.ndarray:
    """Quantiles of each client's history, interpolated linearly, [rows, quantiles]."""
    ordered = np.sort(np.where(lived, past, np.inf), axis=1)
    at = np.asarray(quantiles) * (lived.sum(axis=1)[:, None] - 1)
    below = np.floor(at).astype(np.int64)
    low = np.take_along_axis(ordered, below, axis=1)
    high = np.take_along_axis(ordered, np.ceil(at).astype(np.int64), axis=1)
    return low + (at - below) * (high - low)
