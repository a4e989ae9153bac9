"""A seeded customer survey: answers of customers in branches, with a known law of satisfaction.

Each customer belongs to a branch and answers one or several surveys. An answer rates aspects of the
service from 1 to 5 (0: does not apply), says how long the customer waited and how many contacts it
took, and has a comment of a few phrases. `satisfaction`, 1 to 5, is drawn for each answer from a
proportional odds model (McCullagh 1980): its log-odds of "k or higher" are a score of the record's
columns less a threshold that depends on k alone. Every aspect has a known weight, one of them none;
bad ratings weigh more than good ones; branches add a known effect of their own, and lean in their
ratings, so that a cut by branch is not IID.

A comment says something about satisfaction and nothing else: each phrase has a tone, bad, fair or
good, drawn by the level of satisfaction; the words follow from the tone. One bad phrase in four is
a good word with "not" before it, which single words do not tell apart. The probability of each
level given the tones is known too.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import special

from fl_research import randomness
from fl_research.argument_checks import require_at_least
from fl_research.data.schema import Column, Schema
from fl_research.errors import InputError

LEVELS = ("1", "2", "3", "4", "5")
RATINGS = ("0", *LEVELS)
CHANNELS = ("branch", "phone", "chat", "app")
MAX_WAIT = 240.0
MAX_CONTACTS = 8
TONES = ("bad", "fair", "good")

# The law of satisfaction, on the log-odds scale.
ASPECT_WEIGHTS: Mapping[str, float] = {
    "solution": 1.8,
    "staff": 1.3,
    "clarity": 0.8,
    "price": 0.5,
    "opening_hours": 0.0,
}
RATING_EFFECTS = (0.0, -1.6, -0.8, 0.0, 0.6, 1.0)  # by rating 0 to 5, times the aspect's weight
WAIT_EFFECT = -0.6  # of log1p(wait_minutes), from its value at 10 minutes
CONTACT_EFFECT = -0.4  # a contact beyond the first
THRESHOLDS = (-4.5, -2.7, -0.9, 1.2)  # of "2 or higher" to "5 or higher"
_NOT_APPLICABLE_SHARE = 0.06

# The law of comments: the share of each tone, by level of satisfaction.
TONE_SHARES = (
    (0.80, 0.15, 0.05),
    (0.55, 0.30, 0.15),
    (0.25, 0.45, 0.30),
    (0.10, 0.30, 0.60),
    (0.03, 0.12, 0.85),
)
_NEGATED_SHARE = 0.25
_MOST_PHRASES = 4
_SUBJECTS = ("the staff", "the answer", "the price", "the app", "the waiting time", "the letter")
_WORDS = {
    "bad": ("terrible", "slow", "rude", "confusing", "useless", "annoying", "bad", "poor"),
    "fair": ("okay", "average", "acceptable", "as expected", "fair", "mixed", "so so", "standard"),
    "good": ("great", "friendly", "quick", "clear", "helpful", "perfect", "good", "excellent"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurveyConfig:
    """Settings of the generator.

    Attributes:
      num_customers: How many customers, 1 or more.
      min_answers: Fewest answers a customer has given, 1 or more.
      max_answers: Most answers a customer has given, up to 60; uniform in between.
      num_branches: How many branches, 1 to 99.
      branch_spread: How far branches differ, 0 (all alike) to 3.

    Raises:
      InputError: If a value is out of range.
    """

    num_customers: int = 4000
    min_answers: int = 1
    max_answers: int = 6
    num_branches: int = 12
    branch_spread: float = 1.0

    def __post_init__(self) -> None:
        require_at_least("num_customers", self.num_customers, 1)
        if not 1 <= self.min_answers <= self.max_answers <= 60:
            raise InputError(
                f"min_answers={self.min_answers} and max_answers={self.max_answers} are no range; "
                "give 1 <= min_answers <= max_answers <= 60"
            )
        if not 1 <= self.num_branches <= 99:
            raise InputError(f"num_branches={self.num_branches} is out of range; give 1 to 99")
        if not 0 <= self.branch_spread <= 3:
            raise InputError(f"branch_spread={self.branch_spread} is out of range; give 0 to 3")


@dataclasses.dataclass(frozen=True, eq=False)
class SurveyRecords:
    """What the generator returns.

    Attributes:
      records: One row an answer, sorted by customer.
      schema: What is publicly known of the columns; the comment is ignored.
      level_probabilities: float64 `[rows, 5]`, the true probability of each level of satisfaction.
      tones: int64 `[rows, 3]`, how many phrases of the comment are bad, fair and good.
      branch_effects: Branch to its part of the score.
    """

    records: pd.DataFrame
    schema: Schema
    level_probabilities: np.ndarray
    tones: np.ndarray
    branch_effects: Mapping[str, float]


def branch_names(config: SurveyConfig) -> tuple[str, ...]:
    """Returns the names of the branches, which are public."""
    return tuple(f"branch_{index:02d}" for index in range(1, config.num_branches + 1))


def build_schema(config: SurveyConfig) -> Schema:
    """Returns the public schema: it follows from the settings, not from generated records."""
    return Schema(
        columns=(
            Column(name="customer_id", kind="client"),
            Column(name="branch", kind="category", values=branch_names(config)),
            Column(name="channel", kind="category", values=CHANNELS),
            *(Column(name=name, kind="category", values=RATINGS) for name in ASPECT_WEIGHTS),
            Column(name="wait_minutes", kind="number", minimum=0, maximum=MAX_WAIT, scale="log1p"),
            Column(name="contacts", kind="number", minimum=1, maximum=MAX_CONTACTS),
            Column(name="comment", kind="ignore"),
            Column(name="satisfaction", kind="label", values=LEVELS),
        )
    )


def generate(config: SurveyConfig, seed: int) -> SurveyRecords:
    """Returns the answers of a seeded survey, with the truth about them."""
    generator = randomness.generator(seed, "synthetic_survey")
    names = branch_names(config)
    traits = config.branch_spread * generator.standard_normal((config.num_branches, 3))
    effects = {name: 0.7 * float(trait) for name, trait in zip(names, traits[:, 0], strict=True)}
    records = _draw_answers(config, traits, generator)
    probabilities = level_probabilities(satisfaction_score(records, effects))
    level = _draw_rows(probabilities, generator)
    tones, comments = _draw_comments(level, generator)
    records["comment"] = comments
    records["satisfaction"] = level + 1
    return SurveyRecords(records, build_schema(config), probabilities, tones, effects)


def satisfaction_score(records: pd.DataFrame, branch_effects: Mapping[str, float]) -> np.ndarray:
    """Returns the true score `[rows]` as a function of the published columns."""
    score = records["branch"].map(branch_effects).to_numpy(float)
    for name, weight in ASPECT_WEIGHTS.items():
        score = score + weight * np.array(RATING_EFFECTS)[records[name].to_numpy()]
    waited = np.log1p(records["wait_minutes"].to_numpy(float)) - np.log1p(10)
    return score + WAIT_EFFECT * waited + CONTACT_EFFECT * (records["contacts"].to_numpy() - 1)


def level_probabilities(score: np.ndarray) -> np.ndarray:
    """Returns the probability of each level `[rows, 5]` of answers with this score `[rows]`."""
    reached = special.expit(score[:, np.newaxis] - np.array(THRESHOLDS))
    ends = np.ones([len(score), 1]), np.zeros([len(score), 1])
    reached = np.concatenate([ends[0], reached, ends[1]], axis=1)
    return reached[:, :-1] - reached[:, 1:]


def level_probabilities_of_tones(tones: np.ndarray, level_shares: np.ndarray) -> np.ndarray:
    """Returns the probability of each level `[rows, 5]` given a comment and nothing else.

    Args:
      tones: `[rows, 3]`, as in `SurveyRecords`.
      level_shares: `[5]`, how frequent each level is.
    """
    logs = np.log(level_shares) + tones @ np.log(np.array(TONE_SHARES)).T
    return special.softmax(logs, axis=1)


def _draw_answers(
    config: SurveyConfig, traits: np.ndarray, generator: np.random.Generator
) -> pd.DataFrame:
    """Draws the columns of all answers, without comment and label."""
    count = config.num_customers
    weights = 1 / np.sqrt(np.arange(1, config.num_branches + 1))
    branch = generator.choice(config.num_branches, count, p=weights / weights.sum())
    answers = generator.integers(config.min_answers, config.max_answers + 1, count)
    owner = np.repeat(np.arange(count), answers)
    mood = generator.standard_normal(count)[owner] + 0.5 * traits[branch[owner], 1]
    size = len(owner)
    columns = {
        "customer_id": np.char.mod("C%07d", owner + 1),
        "branch": np.array(branch_names(config))[branch[owner]],
        "channel": generator.choice(CHANNELS, size, p=(0.3, 0.35, 0.2, 0.15)),
    }
    for name in ASPECT_WEIGHTS:
        liking = 0.6 * mood + generator.standard_normal(size)
        rating = 1 + np.searchsorted([-1.4, -0.7, 0.0, 0.9], liking)
        applies = generator.random(size) >= _NOT_APPLICABLE_SHARE
        columns[name] = np.where(applies, rating, 0)
    wait = np.exp(2.2 + 0.3 * traits[branch[owner], 2] + 0.9 * generator.standard_normal(size))
    columns["wait_minutes"] = np.minimum(wait, MAX_WAIT).round(1)
    columns["contacts"] = np.minimum(1 + generator.poisson(0.8, size), MAX_CONTACTS)
    return pd.DataFrame(columns)


def _draw_rows(probabilities: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draws a category for each row of probabilities `[rows, categories]`."""
    drawn = generator.random(len(probabilities))[:, np.newaxis]
    return (np.cumsum(probabilities, axis=1)[:, :-1] <= drawn).sum(axis=1)


def _draw_comments(
    level: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, list[str]]:
    """Draws the tones `[rows, 3]` and the words of each comment."""
    phrases = generator.integers(1, _MOST_PHRASES + 1, len(level))
    owner = np.repeat(np.arange(len(level)), phrases)
    tone = _draw_rows(np.array(TONE_SHARES)[level[owner]], generator)
    negated = (tone == 0) & (generator.random(len(owner)) < _NEGATED_SHARE)
    words = np.array([_WORDS[name] for name in TONES], dtype=object)
    word = words[np.where(negated, 2, tone), generator.integers(0, words.shape[1], len(owner))]
    subject = np.array(_SUBJECTS, dtype=object)[generator.integers(0, len(_SUBJECTS), len(owner))]
    phrase = subject + np.where(negated, " was not ", " was ").astype(object) + word
    starts = np.cumsum(phrases) - phrases
    comments = [
        ", ".join(phrase[start : start + number]) + "."
        for start, number in zip(starts, phrases, strict=True)
    ]
    tones = np.zeros([len(level), len(TONES)], np.int64)
    np.add.at(tones, (owner, tone), 1)
    return tones, comments
