"""The free language: it means one thing, names what is meant, and shares nothing with the held-out wordings."""

from __future__ import annotations

import re
import string
from pathlib import Path

import numpy as np
import pytest

from spec_decode_ros.actions.commands import COLOR_WORDS, OBJECT_WORDS, TEMPLATES, Command
from spec_decode_ros.lab.training import phrasings
from spec_decode_ros.lab.training.phrasings import MORE_WORDS, number_words, say
from spec_decode_ros.lab.training.refusals import HARMFUL, IMPOSSIBLE, REFUSED, UNRELATED
from spec_decode_ros.sim.scene import COLORS, KINDS
from spec_decode_ros.sim.task import make_task, read_templates

HELD_OUT = Path(__file__).parents[2] / "config" / "instructions" / "held_out.txt"
FAMILIES = {
    "goto": phrasings.GOTO,
    "turn": phrasings.TURN,
    "quarter": phrasings.QUARTER,
    "around": phrasings.AROUND,
    "walk": phrasings.WALK,
    "step": phrasings.STEP,
    "stop": phrasings.STOP,
    "stand": phrasings.STAND,
    "sit": phrasings.SIT,
    "refuse": REFUSED,
    "unknown": UNRELATED,
}
FIELDS = {"goto": {"x"}, "turn": {"d", "n"}, "quarter": {"d"}, "walk": {"d", "n", "u"}, "step": {"d"}}
FIELDS |= {name: {"o"} for name in ("stop", "refuse", "unknown")}
SLOT = "_"


def words(template: str) -> list[str]:
    """The words of a template; an object is one of them, whatever it is called."""
    for name in ("{color} {kind}", "{c} {k}", "{o}", "{k} that is {c}", "{k} which is {c}", "{k} in {c}"):
        template = template.replace(name, SLOT)
    return re.findall(rf"[a-z0-9'\-]+|{SLOT}|\{{\w+\}}", template.lower())


def training_templates() -> list[list[str]]:
    objects = [" ".join(words(phrase)) for phrase in phrasings.PLAIN]
    goto = [template.replace("{x}", thing) for template in phrasings.GOTO for thing in objects]
    others = [t for name, family in FAMILIES.items() if name != "goto" for t in family]
    return [words(t) for t in (*goto, *others, *(t for family in TEMPLATES.values() for t in family))]


def held_out() -> list[list[str]]:
    return [words(t) for t in read_templates(HELD_OUT.read_text(encoding="utf-8"))]


def grams(row: list[str], size: int = 4) -> set[tuple[str, ...]]:
    return {tuple(row[i : i + size]) for i in range(len(row) - size + 1)}


def test_held_out_wordings_share_no_template_and_no_four_words_with_training() -> None:
    trained = training_templates()
    seen = set().union(*(grams(row) for row in trained))
    whole = {tuple(word for word in row if word != "the") for row in trained}
    asked = held_out()
    assert len(asked) >= 30 and len({tuple(row) for row in asked}) == len(asked)
    for row in asked:
        assert row.count(SLOT) == 1, row
        assert not grams(row) & seen, row
        assert tuple(word for word in row if word != "the") not in whole, row
    assert grams(words("i'd like you to go to the {o}")) <= seen, "the comparison can find something"


def test_held_out_wordings_make_tasks() -> None:
    templates = read_templates(HELD_OUT.read_text(encoding="utf-8"))
    said = {make_task(seed, templates).instruction for seed in range(40)}
    assert len(said) > 30 and not any("{" in text for text in said)


@pytest.mark.parametrize("family", FAMILIES)
def test_templates_are_distinct_lower_case_and_have_their_fields_only(family: str) -> None:
    templates = FAMILIES[family]
    for template in templates:
        used = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        assert used <= FIELDS.get(family, set()), template
        assert template == " ".join(template.lower().split())
    assert (
        len(set(templates)) >= len(templates) - 1
    )  # "{x}" may stand there twice, since a name alone is common


def test_a_phrase_means_one_thing() -> None:
    meaning: dict[str, str] = {}
    for family, templates in FAMILIES.items():
        for template in templates:
            direction = "forward" if family in ("walk", "step") else "left"
            filled = {"x": "the red chair", "o": "red chair", "d": direction, "n": "1", "u": "metre"}
            assert meaning.setdefault(template.format(**filled), family) == family, template
    assert not set(HARMFUL) & set(IMPOSSIBLE)


def test_synonyms_belong_to_one_name() -> None:
    owner: dict[str, str] = {}
    for table in (OBJECT_WORDS, COLOR_WORDS, MORE_WORDS):
        for name, options in table.items():
            for option in options:
                assert owner.setdefault(option, name) == name
    assert set(MORE_WORDS) == {*COLORS, *KINDS}


def names(text: str, name: str) -> bool:
    known = {name, *MORE_WORDS[name], *(COLOR_WORDS | OBJECT_WORDS)[name]}
    return any(re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", text) for word in known)


def test_sentences_name_what_is_meant() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        color, kind = str(rng.choice(list(COLORS))), str(rng.choice(KINDS))
        text = say(Command("goto", color, kind), rng)
        assert names(text, color) and names(text, kind), text
        text = say(Command("goto", "", kind, relation="left of", other="blue ball"), rng)
        assert names(text, kind) and names(text, "blue") and names(text, "ball") and "left" in text, text
        assert not re.search(r"right (side )?of|(to|on) the right", text), text
        text = say(Command("goto", "", kind, relation="except", other=color), rng)
        assert names(text, kind) and names(text, color), text
        assert any(word in text for word in ("not", "n't", "but")), text
        text = say(Command("goto", "", kind, relation="nearest"), rng)
        assert ("near" in text or "close" in text) and names(text, kind), text
        text = say(Command("walk", amount=-2.5), rng)
        assert "back" in text or "rear" in text, text
        assert "2.5" in text or "two and a half" in text, text
        assert text == text.lower()


def test_sentences_vary_and_come_from_the_generator() -> None:
    def drawn(seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [say(Command("goto", "red", "chair"), rng) for _ in range(300)]

    assert drawn(3) == drawn(3) != drawn(4)
    assert len(set(drawn(3))) > 250


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "half a"),
        (1, "one"),
        (1.5, "one and a half"),
        (13, "thirteen"),
        (40, "forty"),
        (45, "forty five"),
        (90, "ninety"),
        (100, "one hundred"),
        (180, "one hundred and eighty"),
        (355, "three hundred and fifty five"),
    ],
)
def test_numbers_in_words(value: float, text: str) -> None:
    assert number_words(value) == text
