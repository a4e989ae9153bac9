"""What a search tries: the grid, which flags may be in it, and the trials drawn from it.

Settings that decide who is in which split, or which noise is drawn, are the same in all trials or
the accounting would not hold; so are the unit, the relation and delta, which epsilon is stated for.
"""

import itertools
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from experiments import data_flags
from fl_research.errors import InputError
from fl_research.privacy.selection import FixedTrials, RandomTrials, draw_trials

Grid = dict[str, list[str]]

MOST_POINTS = 1000
_GIVEN_BY_THE_SEARCH = ("search", "output_dir", "run_name", "plan_only")
_SAME_IN_ALL_TRIALS = ("seed", "delta")
_NAME_BITS = 48


def parse_grid(text: str) -> Grid:
    """Returns the values of each flag of a grid.

    Args:
      text: Such as "client_learning_rate=0.1,0.5;clip_norm=1"; values that hold commas themselves
        are separated by "|".

    Raises:
      InputError: If the text is no grid, or a flag cannot be searched over.
    """
    grid: Grid = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, listed = part.partition("=")
        name = name.strip().lstrip("-")
        values = [value.strip() for value in listed.split("|" if "|" in listed else ",")]
        if not equals or not name.isidentifier() or not all(values):
            raise InputError(f"--grid: {part!r} is no flag with values; write name=value,value")
        if name in grid or len(set(values)) < len(values):
            raise InputError(f"--grid: {part!r} repeats a flag or a value; give each once")
        _require_searchable(name)
        grid[name] = values
    points = math.prod(map(len, grid.values())) if grid else 0
    if not 1 <= points <= MOST_POINTS:
        raise InputError(f"--grid={text!r} has {points:,} points; give 1 to {MOST_POINTS:,}")
    return grid


def points_of(grid: Grid) -> list[dict[str, str]]:
    """Returns every combination of the grid's values, the last flag changing first."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def common_flags(arguments: Sequence[str], grid: Grid) -> list[str]:
    """Returns the flags of all trials with the content of flag files in their place.

    Args:
      arguments: The binary's flags, as typed after `--`.
      grid: The grid, whose flags they must not hold.

    Raises:
      InputError: If a flag is one that the search gives, or that differs between trials.
    """
    try:
        expanded: list[str] = flags.FLAGS.read_flags_from_files(list(arguments), force_gnu=False)
    except flags.Error as error:
        raise InputError(" ".join(str(error).split())) from None
    for argument in expanded:
        name = argument.lstrip("-").partition("=")[0]
        if argument.startswith("-") and name in grid:
            raise InputError(f"--{name} is given and in --grid too; leave one of them out")
        if argument.startswith("-") and name in _GIVEN_BY_THE_SEARCH:
            raise InputError(f"--{name} is given to trials by the search; write it before --")
        if argument.startswith("-") and name == "noise_seed":
            _require_searchable(name)
    return expanded


def planned_trials(
    name: str, points: int, trials: FixedTrials | RandomTrials
) -> list[dict[str, Any]]:
    """Returns each trial's folder and point: all of them in order, or drawn with a secret number.

    A random number, and each point, are drawn from fresh system entropy. Names are random then,
    because one that counted would tell how many trials there were at least.

    Args:
      name: Of the search.
      points: Points of the grid.
      trials: How many trials there are.
    """
    if isinstance(trials, FixedTrials):
        width = max(3, len(str(points)))
        return [{"run": f"{name}-{i + 1:0{width}}", "point": i} for i in range(points)]
    generator = np.random.default_rng(secrets.randbits(128))
    count = draw_trials(generator, trials.mean, trials.shape)
    names: set[str] = set()
    while len(names) < count:
        names.add(f"{name}-{secrets.token_hex(_NAME_BITS // 8)}")
    return [{"run": run, "point": secrets.randbelow(points)} for run in names]


def settings_text(settings: Mapping[str, str]) -> str:
    """Returns the settings of a point as they are typed."""
    return " ".join(f"--{name}={value}" for name, value in settings.items())


def _require_searchable(name: str) -> None:
    """Raises for a flag that must be the same in all trials."""
    if name == "noise_seed":
        raise InputError(
            "--noise_seed gives all trials the same noise, and their epsilons do not add up; "
            "leave it out of a search"
        )
    data = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(data_flags.__name__)}
    if name in _GIVEN_BY_THE_SEARCH or name in _SAME_IN_ALL_TRIALS or name in data:
        raise InputError(
            f"--grid: {name} must be the same in all trials; give it after -- instead, or search "
            "separately for each value"
        )
