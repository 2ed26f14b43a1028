"""Typing errors: the sentence stays readable and means the same."""

from __future__ import annotations

import itertools
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.actions.commands import COLOR_WORDS, OBJECT_WORDS
from spec_decode_ros.actions.prompt import clean_instruction
from spec_decode_ros.actions.synonyms import TAUGHT
from spec_decode_ros.lab.training.typing_errors import as_typed

NAMES = {
    word
    for table in (COLOR_WORDS, OBJECT_WORDS, TAUGHT)
    for name, options in table.items()
    for each in (name, *options)
    for word in each.split()
}
MEANING = sorted(
    {
        *NAMES,
        "left",
        "right",
        "forward",
        "back",
        "turn",
        "walk",
        "stop",
        "stand",
        "sit",
        "not",
        "ninety",
        "two",
        "10",
        "1.5",
    }
)
LINKING = (
    "the",
    "you",
    "please",
    "and",
    "don't",
    "then",
    "i'd",
    "to",
    "of",
    "degrees",
    "metres",
    "somewhere",
)
SENTENCES = st.lists(st.sampled_from((*MEANING, *LINKING)), min_size=1, max_size=12).map(" ".join)
SEEDS = st.integers(0, 10_000)


@given(SENTENCES, SEEDS)
def test_digits_stay(sentence: str, seed: int) -> None:
    typed = as_typed(sentence, np.random.default_rng(seed))
    assert re.findall(r"\d[\d.]*\d|\d", typed) == re.findall(r"\d[\d.]*\d|\d", sentence)


@given(SENTENCES, SEEDS)
def test_words_with_a_meaning_keep_their_order_and_their_first_letters(sentence: str, seed: int) -> None:
    typed = as_typed(sentence, np.random.default_rng(seed)).split()
    at = 0
    for word in (each for each in sentence.split() if each in MEANING):
        found = (i for i in range(at, len(typed)) if resembles(typed[i].rstrip(".!?"), word))
        at = next(found, -1) + 1
        assert at, (word, typed)


def resembles(typed: str, word: str) -> bool:
    """Whether at most two slips lie between them, none at the first letter; short words have none."""
    if len(word) <= 3 or not word.isalpha():
        return typed == word
    return typed[0] == word[0] and abs(len(typed) - len(word)) <= 2 and set(typed) <= set(word)


@given(st.text(max_size=60), SEEDS)
def test_any_text_stays_one_clean_line(text: str, seed: int) -> None:
    typed = as_typed(text, np.random.default_rng(seed))
    assert typed == " ".join(typed.split())


def test_most_sentences_are_typed_well_and_all_flaws_occur() -> None:
    sentence = "could you please go to the yellow cylinder, and then turn left 90 degrees"
    rng = np.random.default_rng(0)
    typed = [as_typed(sentence, rng) for _ in range(2000)]
    assert {clean_instruction(text) for text in typed} == set(typed)
    plain = [re.sub(r"[.,!?]", "", text) for text in typed]
    words = re.sub(r"[.,!?]", "", sentence)
    assert 0.7 < sum(text == words for text in plain) / len(plain) < 0.85
    assert any(text[-1] in "!?" for text in typed) and any("," not in text for text in typed)
    for flaw in ("um", "pls", " u ", "deg", "&"):
        assert any(flaw in text for text in typed), flaw
    slips = {text for text in plain if len(text.split()) == len(words.split())} - {words}
    changed = {
        pair
        for text in slips
        for pair in itertools.zip_longest(words.split(), text.split())
        if pair[0] != pair[1]
    }
    assert {was for was, _ in changed} >= {"could", "please", "yellow", "cylinder", "then", "turn", "left"}
