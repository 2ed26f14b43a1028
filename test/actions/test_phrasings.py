"""Phrasings: every template works, says what is meant, and uses only words that the models know."""

from __future__ import annotations

import string

import numpy as np
import pytest

from spec_decode_ros.actions.commands import (
    BACKWARD,
    COLOR_WORDS,
    FORWARD,
    OBJECT_WORDS,
    STRANGE_WORDS,
    TEMPLATES,
    Command,
    number_text,
    phrase,
    vocabulary,
)
from spec_decode_ros.sim.scene import COLORS, KINDS

FIELDS = {
    "goto": {"o", "c", "k"},
    "turn": {"d", "n"},
    "quarter": {"d"},
    "around": set(),
    "walk": {"d", "n", "u"},
    "step": {"d"},
    "stop": {"o"},
    "stand": set(),
    "sit": set(),
    "unknown": {"c", "k"},
}
EVERY = [
    *(Command("goto", c, k) for c in COLORS for k in KINDS),
    *(Command("turn", amount=s * 5.0 * n) for s in (-1, 1) for n in range(1, 73)),
    *(Command("walk", amount=s * 0.5 * n) for s in (-1, 1) for n in range(1, 11)),
    *(Command(k, "red", "chair") for k in ("stop", "stand", "sit", "unknown")),  # type: ignore[arg-type]
]
KNOWN = {*vocabulary(), *STRANGE_WORDS, "1", "2", "3", "4"}
"""Whole metres are read as ``1.0`` and so on by the tokenizer; see its own test."""


def test_every_colour_and_kind_has_words_of_its_own() -> None:
    for options, names in ((COLOR_WORDS, COLORS), (OBJECT_WORDS, KINDS)):
        assert set(options) == set(names)
        words = [word for choices in options.values() for word in set(choices)]
        assert len(words) == len(set(words))


@pytest.mark.parametrize("family", TEMPLATES)
def test_templates_have_only_the_fields_of_their_family(family: str) -> None:
    assert TEMPLATES[family]
    assert len(set(TEMPLATES[family])) == len(TEMPLATES[family])
    for template in TEMPLATES[family]:
        used = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        assert used <= FIELDS[family], template
        assert template == " ".join(template.lower().split())


def test_a_phrase_means_one_thing() -> None:
    sides, ways = ("left", "right"), (*FORWARD, *BACKWARD)
    meaning: dict[str, str] = {}
    for family, templates in TEMPLATES.items():
        for template in templates:
            for direction in ways if family in ("walk", "step") else sides:
                words = {"d": direction, "n": "1", "u": "m", "o": "red chair", "c": "red", "k": "chair"}
                assert meaning.setdefault(template.format(**words), family) == family, template


def test_phrases_use_only_known_words() -> None:
    rng = np.random.default_rng(0)
    for command in EVERY:
        for _ in range(30):
            text = phrase(command, rng)
            unknown = set(text.split()) - KNOWN
            assert not unknown, f"{text!r} of {command} has {unknown}"


def test_phrases_name_what_is_meant() -> None:
    rng = np.random.default_rng(1)
    for command in EVERY:
        for _ in range(10):
            words = phrase(command, rng).split()
            if command.kind == "goto":
                assert set(words) & set(COLOR_WORDS[command.color]), words
                assert set(words) & set(OBJECT_WORDS[command.object]), words
            elif command.kind == "turn" and abs(command.amount) not in (90, 180):
                assert number_text(abs(command.amount)) in words
                assert ("left" if command.amount > 0 else "right") in words
            elif command.kind == "turn" and command.amount != 180:
                assert ("left" if command.amount > 0 else "right") in words
            elif command.kind == "walk":
                backward = {"back", "backward", "backwards"} & set(words)
                assert bool(backward) == (command.amount < 0), words
                assert abs(command.amount) == 1 or number_text(abs(command.amount)) in words


def test_phrases_vary_and_come_from_the_generator() -> None:
    def drawn(seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [phrase(Command("goto", "red", "chair"), rng) for _ in range(200)]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
    assert len(set(drawn(3))) > 100
    assert any(set(text.split()) & set(STRANGE_WORDS) for text in drawn(3))


def test_phrases_without_strange_words_are_the_others_without_them() -> None:
    def drawn(strange: bool) -> list[str]:
        command = Command("goto", "red", "chair")
        return [phrase(command, np.random.default_rng(seed), strange) for seed in range(200)]

    plain, strange = drawn(False), drawn(True)
    assert not {word for text in plain for word in text.split()} & set(STRANGE_WORDS)
    for text, other in zip(plain, strange, strict=True):
        assert text == other or set(other.split()) & set(STRANGE_WORDS)


def test_vocabulary_is_sorted_whole_and_without_strange_words() -> None:
    words = vocabulary()
    assert words == sorted(set(words))
    assert words == vocabulary()
    assert not set(words) & set(STRANGE_WORDS)
    assert all(word and word == word.lower() and not set(word) & set("{} ;") for word in words)
    notes = "vx wz | reached not found searching turning walking left right ahead done stopped blocked"
    assert {*notes.split(), "0.0", "-0.8", "0.6", "360", "none", "last", "understood"} <= set(words)


def test_target_and_numbers() -> None:
    assert Command("goto", "red", "chair").target == "red chair"
    assert Command("stop").target == ""
    assert [number_text(v) for v in (90.0, 1.5, 0.5, 3)] == ["90", "1.5", "0.5", "3"]
