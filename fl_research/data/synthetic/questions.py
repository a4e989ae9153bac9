"""Seeded questions of a phone company's customers, with their true intents and a known best model.

Each customer asks about a few things: a mix of intents of its own, drawn from a Dirichlet
distribution around the population's, so that clients differ. A question is a sentence of its intent
(`question_grammar`) with slots filled, perhaps an opening and an ending, and typos at the
customer's own rate. Some questions are vague: they tell the group of the intent only. Nothing in a
vague question helps to choose, so that the best any model can do without knowing the customer is
to answer the group's most frequent intent: `best_accuracy`. (Typos could hide more; they rarely
do.) Some questions are of foreign topics, with the intent `foreign`: for measuring what is handed
over to a person, never for training.
"""

import dataclasses
import re

import numpy as np
import pandas as pd

from fl_research import randomness
from fl_research.argument_checks import require_at_least, require_positive
from fl_research.data.synthetic.question_grammar import (
    ENDINGS,
    FOREIGN,
    INTENTS,
    OPENINGS,
    SLOTS,
    VAGUE,
)
from fl_research.errors import InputError

FOREIGN_INTENT = "foreign"
CLASSES = tuple(INTENTS)
ANSWERS = tuple(intent.answer for intent in INTENTS.values())

_SLOT = re.compile(r"\{(\w+)\}")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionConfig:
    """Settings of the generator.

    Attributes:
      num_customers: 1 or more.
      min_questions: Fewest questions of a customer, 1 or more.
      max_questions: Most of them; uniform in between.
      mix_concentration: How alike the customers' mixes of intents are, above 0; large: all alike.
      vague_share: Probability that a question only tells its group, in [0, 1].
      typo_rate: Mean probability that a word has a typo, in [0, 0.5].
      foreign_questions: Questions of foreign topics, 0 or more, of customers of their own.

    Raises:
      InputError: A value is out of range.
    """

    num_customers: int = 2000
    min_questions: int = 3
    max_questions: int = 12
    mix_concentration: float = 2.0
    vague_share: float = 0.08
    typo_rate: float = 0.08
    foreign_questions: int = 500

    def __post_init__(self) -> None:
        require_at_least("num_customers", self.num_customers, 1)
        require_at_least("foreign_questions", self.foreign_questions, 0)
        require_positive("mix_concentration", self.mix_concentration)
        if not 1 <= self.min_questions <= self.max_questions:
            raise InputError(
                f"min_questions={self.min_questions} and max_questions={self.max_questions} are no "
                "range; give 1 <= min_questions <= max_questions"
            )
        for name, highest in (("vague_share", 1.0), ("typo_rate", 0.5)):
            if not 0 <= getattr(self, name) <= highest:
                raise InputError(
                    f"{name}={getattr(self, name)!r} is out of range; give 0 to {highest:g}"
                )


@dataclasses.dataclass(frozen=True, eq=False)
class Questions:
    """What the generator returns.

    Attributes:
      records: Columns customer, question and intent, sorted by customer; foreign ones last.
      vague: bool [rows], whether a question only tells its group.
      best_accuracy: The expected accuracy of the best model on questions that are not foreign.
    """

    records: pd.DataFrame
    vague: np.ndarray
    best_accuracy: float


def popularity() -> np.ndarray:
    """Returns the share of each intent in the population, in the order of `CLASSES`."""
    weights = np.array([intent.weight for intent in INTENTS.values()], float)
    return weights / weights.sum()


def best_accuracy(vague_share: float) -> float:
    """Returns the expected accuracy of the best model that does not know the customer."""
    groups = np.array([intent.group for intent in INTENTS.values()])
    most_frequent = sum(popularity()[groups == group].max() for group in VAGUE)
    return float(1 - vague_share + vague_share * most_frequent)


def generate(config: QuestionConfig, seed: int) -> Questions:
    """Returns seeded questions with their true intents."""
    generator = randomness.generator(seed, "synthetic_questions")
    counts = generator.integers(
        config.min_questions, config.max_questions + 1, config.num_customers
    )
    owner = np.repeat(np.arange(config.num_customers), counts)
    mixes = generator.dirichlet(config.mix_concentration * popularity() * len(CLASSES), len(counts))
    typo_rates = np.minimum(0.5, config.typo_rate * generator.exponential(1.0, len(counts)))
    below = generator.random(len(owner))[:, np.newaxis] >= np.cumsum(mixes, axis=1)[owner]
    intents = np.minimum(below.sum(axis=1), len(CLASSES) - 1)
    vague = generator.random(len(owner)) < config.vague_share
    questions = [
        _question(CLASSES[intent], is_vague, typo_rates[customer], generator)
        for intent, is_vague, customer in zip(intents, vague, owner, strict=True)
    ]
    foreign = [
        _spoken(str(generator.choice(FOREIGN)), config.typo_rate, generator)
        for _ in range(config.foreign_questions)
    ]
    strangers = config.num_customers + np.arange(len(foreign))
    records = pd.DataFrame(
        {
            "customer": np.char.mod("C%06d", 1 + np.concatenate([owner, strangers])),
            "question": questions + foreign,
            "intent": [CLASSES[i] for i in intents] + [FOREIGN_INTENT] * len(foreign),
        }
    )
    is_vague = np.concatenate([vague, np.zeros(len(foreign), bool)])
    return Questions(records, is_vague, best_accuracy(config.vague_share))


def _question(intent: str, is_vague: bool, typo_rate: float, generator: np.random.Generator) -> str:
    """One question of an intent."""
    known = INTENTS[intent]
    sentences = VAGUE[known.group] if is_vague else known.sentences
    sentence = sentences[generator.integers(len(sentences))]

    def fill(slot: re.Match[str]) -> str:
        words = SLOTS[slot[1]]
        return words[generator.integers(len(words))]

    return _spoken(_SLOT.sub(fill, sentence), typo_rate, generator)


def _spoken(sentence: str, typo_rate: float, generator: np.random.Generator) -> str:
    """A sentence with an opening, an ending, and typos."""
    words = [
        _mistyped(word, generator) if generator.random() < typo_rate else word
        for word in sentence.split(" ")
    ]
    opening = OPENINGS[generator.integers(len(OPENINGS))]
    text = opening + " ".join(words) + ENDINGS[generator.integers(len(ENDINGS))]
    return text[:1].upper() + text[1:] if generator.random() < 0.6 else text


def _mistyped(word: str, generator: np.random.Generator) -> str:
    """A word with one letter left out, doubled, exchanged for another, or swapped with the next."""
    place = int(generator.integers(len(word)))
    kind = generator.integers(4)
    if kind == 0 and len(word) > 1:
        return word[:place] + word[place + 1 :]
    if kind == 1:
        return word[: place + 1] + word[place:]
    if kind == 2 and place + 1 < len(word):
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + _LETTERS[generator.integers(len(_LETTERS))] + word[place + 1 :]
