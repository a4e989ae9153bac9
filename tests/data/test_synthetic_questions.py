"""The generated questions: their grammar, the best accuracy, mixes, typos, wrong settings."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fl_research.data.datasets import registry as datasets
from fl_research.data.synthetic import questions
from fl_research.data.synthetic.question_grammar import FOREIGN, INTENTS, SLOTS, VAGUE
from fl_research.data.synthetic.questions import QuestionConfig
from fl_research.errors import InputError

CLEAN = QuestionConfig(num_customers=1500, typo_rate=0.0, vague_share=0.1)


def _pattern(sentence: str) -> re.Pattern[str]:
    """What a sentence with slots may become, with opening and ending, in any case."""
    parts = re.split(r"\{(\w+)\}", sentence)
    for place in range(1, len(parts), 2):
        parts[place] = "(?:" + "|".join(map(re.escape, SLOTS[parts[place]])) + ")"
    parts[::2] = map(re.escape, parts[::2])
    opening = r"(?:hi, |hello, |good morning, |hey there, |dear team, )?"
    return re.compile(opening + "".join(parts) + r"(?:\?+|\.|!| thanks|, thank you!)?", re.I)


def _intents_that_say(text: str) -> set[str]:
    return {
        name
        for name, intent in INTENTS.items()
        for sentence in intent.sentences
        if _pattern(sentence).fullmatch(text)
    }


def test_a_clear_question_has_one_intent_and_a_vague_one_only_a_group() -> None:
    """Without typos, against patterns made of the grammar here."""
    generated = questions.generate(QuestionConfig(num_customers=60, typo_rate=0.0), seed=1)
    for row, vague in zip(generated.records.itertuples(), generated.vague, strict=True):
        if row.intent == questions.FOREIGN_INTENT:
            assert not vague and row.question.lower().rstrip("?.!").replace(" thanks", "")
        elif vague:
            group = INTENTS[row.intent].group
            assert any(_pattern(text).fullmatch(row.question) for text in VAGUE[group])
            assert not _intents_that_say(row.question)
        else:
            assert _intents_that_say(row.question) == {row.intent}
    assert generated.vague.any()


def test_every_slot_is_known_and_every_group_has_vague_questions() -> None:
    texts = [s for intent in INTENTS.values() for s in intent.sentences]
    texts += [s for group in VAGUE.values() for s in group]
    used = {slot for text in texts for slot in re.findall(r"\{(\w+)\}", text)}
    assert used == set(SLOTS)
    assert {intent.group for intent in INTENTS.values()} == set(VAGUE)
    assert len(set(texts)) == len(texts) and len(set(FOREIGN)) == len(FOREIGN)


def test_the_best_model_reaches_the_stated_accuracy() -> None:
    """One that knows which questions are vague: within four standard errors, customers apart."""
    right, rows = [], []
    for seed in range(3):
        generated = questions.generate(CLEAN, seed)
        known = generated.records["intent"] != questions.FOREIGN_INTENT
        records, vague = generated.records[known], generated.vague[known]
        weight = {name: intent.weight for name, intent in INTENTS.items()}
        groups = {name: intent.group for name, intent in INTENTS.items()}
        most_frequent = {
            group: max((n for n in INTENTS if groups[n] == group), key=weight.__getitem__)
            for group in VAGUE
        }
        guess = records["intent"].map(groups).map(most_frequent)
        is_right = np.where(vague, guess == records["intent"], True)
        by_customer = pd.DataFrame({"customer": records["customer"], "right": is_right}).groupby(
            "customer"
        )["right"]
        right.append(by_customer.sum().to_numpy())
        rows.append(by_customer.size().to_numpy())
    right, rows = np.concatenate(right), np.concatenate(rows)
    expected = questions.best_accuracy(0.1)
    error = np.std(right - expected * rows) * np.sqrt(len(rows)) / rows.sum()
    assert abs(right.sum() / rows.sum() - expected) < 4 * error
    assert questions.best_accuracy(0.0) == 1.0
    assert generated.best_accuracy == expected


def test_customers_differ_as_far_as_asked() -> None:
    """Chi-square of customers by intent; large concentrations make all alike."""

    def spread(concentration: float) -> float:
        config = QuestionConfig(
            num_customers=30,
            min_questions=200,
            max_questions=200,
            mix_concentration=concentration,
            foreign_questions=0,
        )
        records = questions.generate(config, 3).records
        return float(stats.chi2_contingency(pd.crosstab(records.customer, records.intent))[1])

    assert spread(1.0) < 1e-9
    assert spread(1e6) > 1e-6


def test_typos_are_as_frequent_as_asked() -> None:
    """Words of foreign questions that differ from the sentence's: the mean rate to 10 %."""
    config = QuestionConfig(num_customers=1, typo_rate=0.2, foreign_questions=3000)
    records = questions.generate(config, 4).records
    vocabulary = {word.lower() for text in FOREIGN for word in text.split()}
    spoken = records[records.intent == questions.FOREIGN_INTENT].question
    words = [w for text in spoken for w in text.lower().split()[3:-3]]
    assert np.mean([w not in vocabulary for w in words]) == pytest.approx(0.2, rel=0.1)


def test_generation_is_pure_in_its_seed() -> None:
    config = QuestionConfig(num_customers=20)
    one, again, other = (questions.generate(config, seed).records for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(one, again)
    assert not one.equals(other)


def test_the_data_set_says_what_is_public() -> None:
    loaded = datasets.load("synthetic_questions", seed=0)
    assert list(loaded.records.columns) == ["customer", "question", "intent"]
    assert loaded.records["customer"].nunique() == 2500  # 2,000, and 500 with foreign questions
    assert set(loaded.records["intent"]) == {*loaded.facts["classes"], "foreign"}
    assert len(loaded.facts["answers"]) == len(loaded.facts["classes"]) == 16


@pytest.mark.parametrize(
    "setting",
    [
        {"num_customers": 0},
        {"foreign_questions": -1},
        {"mix_concentration": 0.0},
        {"vague_share": 1.1},
        {"typo_rate": 0.6},
        {"typo_rate": float("nan")},
        {"min_questions": 0},
        {"min_questions": 13},
    ],
)
def test_wrong_settings_are_refused(setting: dict) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(InputError, match=f"{name}={value}"):
        QuestionConfig(**setting)
