"""The planner's sentences: their plans, their variety, and nothing in common with the held-out wordings."""

from __future__ import annotations

import itertools
import re
import string
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from spec_decode_ros.actions.commands import COLOR_WORDS, OBJECT_WORDS, TEMPLATES
from spec_decode_ros.actions.plan import Plan, parse_plan
from spec_decode_ros.actions.prompt import clean_instruction
from spec_decode_ros.actions.synonyms import TAUGHT
from spec_decode_ros.lab.plan_judge import read_expected
from spec_decode_ros.lab.training import phrasings, plan_frames, refusals
from spec_decode_ros.lab.training.phrasings import OTHER_COLORS, OTHER_OBJECTS
from spec_decode_ros.lab.training.plan_sentences import PlannedSentence, examples, gerund
from spec_decode_ros.lab.training.plan_steps import draw_goal, draw_turn, draw_walk, number_words
from spec_decode_ros.lab.training.refusals import HARM, IMPOSSIBLE, NO_TASK, TOO_FAR, WHERE, WHICH_WAY
from spec_decode_ros.lab.training.whole_sentences import NO_MOTION, SEVERAL, draw_whole
from spec_decode_ros.sim.scene import COLORS, KINDS
from spec_decode_ros.sim.task import make_task, read_templates

INSTRUCTIONS = Path(__file__).parents[2] / "config" / "instructions"
COUNT = 20_000

GO, TURN, WALK = {"x"}, {"d", "n"}, {"d", "n", "u"}
FIELDS = {
    "GOTO": GO,
    "VERBS": GO,
    "PLAIN": {"c", "k"},
    "SIDE": {"k", "s", "o"},
    "NEAREST": {"k"},
    "FARTHEST": {"k"},
    "EXCEPT": {"c", "k"},
    "ONLY": {"k"},
    "TURN": TURN,
    "QUARTER": {"d"},
    "LEFTWARDS": {"n"},
    "RIGHTWARDS": {"n"},
    "WALK": WALK,
    "STEP": {"d"},
    "NO_DIRECTION": {"n", "u"},
    "RETREAT": {"n", "u"},
    "STOP": {"o"},
    "FRAMES": {"v"},
    "GERUND_FRAMES": {"g"},
    "FIRST_THIS": {"a", "b", "ga", "gb"},
    "FORBIDDEN": {"v", "g", "x"},
    "INSTEAD": {"bad", "good", "gbad"},
    "OVERRULED": {"a", "b", "v"},
    "_HARMFUL": {"y"},
    "_IMPOSSIBLE_VERBS": {"z"},
    "_UNRELATED": {"x", "k", "v"},
    "_NO_WAY": {"n", "m"},
    "_MENTIONED": {"x", "d"},
}
"""Fields of the templates of a table; those of other tables have none."""

WEIGHTED = {"PLAIN", "ONLY", "JOINTS"}
"""Tables in which what is common stands several times."""

OBJECT_FIELDS = {
    "GOTO": "x",
    "VERBS": "x",
    "FORBIDDEN": "x",
    "_UNRELATED": "x",
    "_HARMFUL": "y",
    "_IMPOSSIBLE_VERBS": "z",
}


def tables() -> dict[str, tuple[str, ...]]:
    """Every table of templates or words that sentences are made from."""

    def of(module: ModuleType) -> dict[str, tuple[str, ...]]:
        return {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, tuple) and all(isinstance(each, str) for each in value)
        }

    return of(phrasings) | of(plan_frames) | of(refusals)


@pytest.fixture(scope="module")
def drawn() -> list[PlannedSentence]:
    return list(itertools.islice(examples(0), COUNT))


@pytest.fixture(scope="module")
def plans(drawn: list[PlannedSentence]) -> list[Plan]:
    return [parse_plan(example.plan) for example in drawn]


def test_every_plan_is_read_back(drawn: list[PlannedSentence], plans: list[Plan]) -> None:
    assert [plan.text for plan in plans] == [example.plan for example in drawn]


def test_sentences_are_different_and_reach_the_model_unchanged(drawn: list[PlannedSentence]) -> None:
    assert len({example.sentence for example in drawn}) == COUNT
    for sentence, _ in drawn:
        assert clean_instruction(sentence) == sentence
        assert not set("{}|") & set(sentence)


def test_a_seed_repeats() -> None:
    first, again, other = (list(itertools.islice(examples(seed), 300)) for seed in (3, 3, 4))
    assert first == again
    assert len(set(first) & set(other)) < 60


def test_a_sentence_has_one_plan(drawn: list[PlannedSentence]) -> None:
    meant = dict(drawn)
    again = [example for example in itertools.islice(examples(1), 3000) if example.sentence in meant]
    assert len(again) > 100
    assert {sentence for sentence, plan in again if meant[sentence] != plan} <= {"turn 180"}


def test_a_way_to_say_a_step_means_one_thing() -> None:
    families = {
        "go": ("GOTO", "VERBS", "COME"),
        "turn": ("TURN", "QUARTER", "AROUND", "CIRCLE", "LEFTWARDS", "RIGHTWARDS"),
        "walk": ("WALK", "STEP", "NO_DIRECTION", "RETREAT"),
        "stop": ("STOP", "FORBIDDEN", "OVERRULED"),
        "stand": ("STAND",),
        "sit": ("SIT",),
        "refused": ("_HARMFUL", "_HARMFUL_WHOLE", "_IMPOSSIBLE_VERBS", "_IMPOSSIBLE_WHOLE"),
        "not understood": ("_UNRELATED", "_NO_PLACE", "_NO_WAY"),
    }
    fields = dict.fromkeys(("x", "y", "z", "a", "b"), "the red chair")
    fields |= {
        "o": "red chair",
        "k": "chair",
        "n": "2",
        "m": "2",
        "u": "metres",
        "v": "sit down",
        "g": "sitting down",
    }
    meaning: dict[str, str] = {}
    for family, names in families.items():
        for template in itertools.chain.from_iterable(tables()[name] for name in names):
            said = template.format(**fields, d="forward" if family == "walk" else "left")
            assert meaning.setdefault(said, family) == family, template


def test_all_kinds_of_plans_occur(plans: list[Plan]) -> None:
    kinds = Counter(plan.text if plan.text == "stop" else len(plan.steps) or plan.outcome for plan in plans)
    shares = {kind: count / COUNT for kind, count in kinds.items()}
    bounds = {1: (0.28, 0.4), 2: (0.2, 0.32), 3: (0.1, 0.18), 4: (0.02, 0.05), 5: (0.005, 0.03)}
    bounds |= {"stop": (0.08, 0.14), "refused": (0.05, 0.1), "not understood": (0.04, 0.08)}
    assert bounds.keys() <= shares.keys() <= bounds.keys() | {6, 7, 8}
    for kind, (low, high) in bounds.items():
        assert low < shares[kind] < high, (kind, shares[kind])
    reasons = Counter(plan.reason for plan in plans if not plan.steps)
    assert reasons.keys() == {HARM, IMPOSSIBLE, TOO_FAR, NO_TASK, WHERE, WHICH_WAY}
    assert min(reasons.values()) > COUNT / 500


def test_all_kinds_of_steps_occur(plans: list[Plan]) -> None:
    steps = [step for plan in plans if plan.text != "stop" for step in plan.steps]
    kinds = Counter(step.kind for step in steps)
    assert kinds.keys() == {"go", "turn", "walk", "stand up", "sit down"}
    assert 0.48 < kinds["go"] / len(steps) < 0.65
    assert min(kinds.values()) > 0.04 * len(steps)
    goals = [step for step in steps if step.kind == "go"]
    assert 0.55 < sum(step.names_its_object for step in goals) / len(goals) < 0.72
    assert {step.object for step in goals} >= {f"{color} {kind}" for color in COLORS for kind in KINDS}
    for kind, most in (("turn", 360), ("walk", 20)):
        amounts = {step.amount for step in steps if step.kind == kind}
        assert min(amounts) == -most and max(amounts) == most
    assert any(step.amount % 1 for step in steps)


@pytest.mark.parametrize("name", tables())
def test_templates_are_distinct_lower_case_and_have_their_fields_only(name: str) -> None:
    table = tables()[name]
    assert table
    assert name in WEIGHTED or len(set(table)) == len(table)
    for template in table:
        used = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        assert used <= FIELDS.get(name, set()), template
        assert template == template.lower()
        assert "  " not in template and template.strip()
    if name in FIELDS:
        assert set().union(*(re.findall(r"{(\w+)}", template) for template in table)) == FIELDS[name]


def test_synonyms_belong_to_one_name() -> None:
    owner: dict[str, str] = {}
    for table in (OBJECT_WORDS, COLOR_WORDS, TAUGHT):
        for name, options in table.items():
            for option in options:
                assert owner.setdefault(option, name) == name
    assert set(TAUGHT) == {*COLORS, *KINDS}
    assert not owner.keys() & {*OTHER_COLORS, *OTHER_OBJECTS}


def says(text: str, name: str) -> bool:
    known = {name, *TAUGHT.get(name, ()), *(COLOR_WORDS | OBJECT_WORDS).get(name, ())}
    known |= {"gray"} if name == "grey" else set()
    return any(re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", text) for word in known)


def test_objects_are_said_by_what_they_are() -> None:
    rng = np.random.default_rng(0)
    hints = {
        "nearest": ("near", "close"),
        "farthest": ("far", "fur", "distant"),
        "other": ("not", "n't", "but"),
    }
    for _ in range(3000):
        goal = draw_goal(rng)
        described, side, other = re.fullmatch(r"(.+?)(?: (left|right) of the (.+))?", goal.object).groups()  # type: ignore[union-attr]
        first, _, rest = described.partition(" ")
        if first in hints:
            assert any(hint in goal.said for hint in hints[first]), goal
            assert says(goal.said, rest), goal
        elif described in OTHER_OBJECTS:
            assert described in goal.said, goal
        else:
            assert all(says(goal.said, name) for name in (first, rest) if name), goal
        if side:
            assert side in goal.said and all(says(goal.said, name) for name in other.split()), goal
        assert {"left": "right", "right": "left"}.get(side or "", "{") not in goal.said, goal


def test_turns_and_walks_are_said_by_their_side_and_amount() -> None:
    rng = np.random.default_rng(1)
    for _ in range(1500):
        step, said = draw_turn(rng)
        degrees, left = int(abs(step.amount)), step.amount > 0
        if degrees not in (90, 180, 360):
            assert str(degrees) in said or number_words(degrees) in said, (step, said)
            assert re.search(
                r"left|anti-?clock|counter-?clock" if left else r"right|(?<![i\-r])clockwise", said
            ), said
        if "clock" not in said and degrees not in (180, 360):
            assert ("left" in said) == left and ("right" in said.replace("right angle", "")) != left, said
        step, said = draw_walk(rng)
        forward = re.search(r"(?<!\w)(forwards?|ahead|straight on|front)(?!\w)", said)
        assert step.amount > 0 or not forward, said
        assert step.amount < 0 or not re.search(r"(?<!\w)(backwards?|rear|minus|-\d)(?!\w)", said), said


@pytest.mark.parametrize("lines", [SEVERAL, NO_MOTION], ids=["several steps", "no motion"])
def test_sentences_that_were_written_whole_fill_their_plans(lines: tuple[str, ...]) -> None:
    rng = np.random.default_rng(2)
    assert len(set(lines)) == len(lines) > 300
    for line in lines:
        sentence, _, template = line.partition(" => ")
        slots = set(re.findall(r"\{(\w+)\}", sentence.replace("{o", "{x")))
        assert set(re.findall(r"\{(\w+)\}", template)) <= slots, line
        assert sentence == sentence.lower() and "  " not in sentence, line
        said, plan = draw_whole((line,), rng)
        assert not set("{}|") & set(said), line
        stands = template.startswith(("refused", "not understood"))
        assert len(plan.steps) == (0 if stands else template.count("; ") + 1), line
        assert plan.moves == (lines is SEVERAL), line


def test_gerunds() -> None:
    assert gerund("walk to the box") == "walking to the box"
    assert gerund("sit") == "sitting"
    assert gerund("drive to the box") == "driving to the box"
    assert gerund("lie on your belly") == "lying on your belly"
    assert gerund("take a rest") == "taking a rest"
    assert gerund("spin around once") == "spinning around once"
    assert gerund("go and stand by the box") == "going and standing by the box"
    assert gerund("go find the box") == "finding the box"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "zero"),
        (0.5, "half a"),
        (1, "one"),
        (1.5, "one and a half"),
        (13, "thirteen"),
        (18, "eighteen"),
        (40, "forty"),
        (45, "forty five"),
        (90, "ninety"),
        (100, "one hundred"),
        (180, "one hundred and eighty"),
        (355, "three hundred and fifty five"),
        (999, "nine hundred and ninety nine"),
    ],
)
def test_numbers_in_words(value: float, text: str) -> None:
    assert number_words(value) == text


SLOT = "_"


def _either(names: set[str]) -> str:
    return "|".join(sorted(map(re.escape, names), key=len, reverse=True))


def _with_synonyms(names: dict[str, tuple[str, ...]]) -> set[str]:
    return {word for name, options in names.items() for word in (name, *options, *TAUGHT[name])}


_COLOR = _either({*_with_synonyms(COLOR_WORDS), *OTHER_COLORS, "gray", "{color}", "{c}"})
# A can is nearly always the verb.
_KIND = _either({*_with_synonyms(OBJECT_WORDS), *OTHER_OBJECTS, "{kind}", "{k}", "{o}"} - {"can"})
_OBJECT = re.compile(
    rf"(?<!\w)(?:(?:{_COLOR}) (?:colou?red )?)?(?:{_KIND})(?!\w)(?: (?:that is|which is|in|painted) (?:{_COLOR})(?!\w))?"
)
_WORD = re.compile(rf"[a-z0-9'\-]+|{SLOT}|\{{\w+\}}")


def words(text: str) -> list[str]:
    """The words of a text; an object is one of them, whatever it is called."""
    return _WORD.findall(_OBJECT.sub(SLOT, text.lower()))


def grams(row: list[str], size: int = 4) -> set[tuple[str, ...]]:
    return {tuple(row[i : i + size]) for i in range(len(row) - size + 1)}


def wordings() -> tuple[str, ...]:
    return read_templates((INSTRUCTIONS / "held_out.txt").read_text(encoding="utf-8"))


def training_templates() -> list[list[str]]:
    texts = [template for family in TEMPLATES.values() for template in family]
    for line in (*SEVERAL, *NO_MOTION):
        sentence = line.partition(" => ")[0]
        texts.append(re.sub(r"\{o\d\}", SLOT, re.sub(r"\{x\d\}", f"the {SLOT}", sentence)))
    for name, table in tables().items():
        for article in ("the", "a", "that", "this"):
            field = OBJECT_FIELDS.get(name)
            texts += [template.replace(f"{{{field}}}", f"{article} {SLOT}") for template in table]
    return [words(text) for text in texts]


def test_held_out_wordings_share_no_template_and_no_four_words_with_one() -> None:
    trained = training_templates()
    seen = set().union(*(grams(row) for row in trained))
    whole = {tuple(word for word in row if word != "the") for row in trained}
    assert len(set(wordings())) == len(wordings()) >= 30
    for wording in wordings():
        row = words(wording)
        assert wording.count("{color} {kind}") == 1, wording
        assert not grams(row) & seen, row
        assert tuple(word for word in row if word != "the") not in whole, row
    assert grams(words("i'd like you to go to the {color} {kind}")) <= seen, (
        "the comparison can find something"
    )


def test_no_held_out_wording_is_drawn(drawn: list[PlannedSentence]) -> None:
    def plain(text: str) -> tuple[str, ...]:
        return tuple(word for word in words(text) if word not in ("the", "a"))

    asked = {plain(text) for text in wordings()}
    assert not asked & {plain(sentence) for sentence, _ in drawn}


def test_held_out_wordings_make_tasks() -> None:
    said = {make_task(seed, wordings()).instruction for seed in range(40)}
    assert len(said) > 30 and not any("{" in text for text in said)


def test_held_out_plans(drawn: list[PlannedSentence]) -> None:
    pairs = read_expected(INSTRUCTIONS / "held_out_plans.txt")
    assert len({sentence for sentence, _ in pairs}) == len(pairs) >= 100
    for sentence, plan in pairs:
        assert plan.moves, sentence
        assert clean_instruction(sentence) == " ".join(sentence.lower().split())
    plain = {" ".join(re.findall(r"[\w']+", sentence)) for sentence, _ in drawn}
    assert not plain & {" ".join(re.findall(r"[\w']+", sentence.lower())) for sentence, _ in pairs}


def test_held_out_sentences_without_motion() -> None:
    pairs = read_expected(INSTRUCTIONS / "held_out_no_motion.txt")
    assert len({sentence for sentence, _ in pairs}) == len(pairs) >= 100
    kinds = Counter(wanted.kind for wanted in pairs)
    assert kinds.keys() == {"stop", "refused", "not understood"} and min(kinds.values()) >= 20
    assert not any(wanted.plan.moves for wanted in pairs)
