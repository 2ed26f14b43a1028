"""The text of a plan: written and read back, and anything else refused."""

from __future__ import annotations

import math
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spec_decode_ros.actions.commands import COLOR_WORDS, OBJECT_WORDS
from spec_decode_ros.actions.plan import (
    MAX_STEPS,
    MAX_TEXT,
    MAX_TURN_DEG,
    MAX_WALK_M,
    STOP,
    Plan,
    PlanError,
    Step,
    parse_plan,
)

SIGN = st.sampled_from((-1, 1))
LETTERS = string.ascii_lowercase
OBJECTS = st.builds(
    "{}{}{}".format,
    st.sampled_from(LETTERS),
    st.text(LETTERS + "0123456789' -", max_size=58),
    st.sampled_from(LETTERS + "0123456789"),
)
REASONS = st.builds(
    "{}{}{}".format, st.sampled_from(LETTERS), st.text(LETTERS + " ", max_size=58), st.sampled_from(LETTERS)
)
STEPS = st.one_of(
    st.builds(lambda name: Step("go", object=name), OBJECTS),
    st.builds(lambda sign, n: Step("turn", amount=sign * n), SIGN, st.integers(1, MAX_TURN_DEG)),
    st.builds(
        lambda sign, n: Step("walk", amount=sign * n / 100), SIGN, st.integers(1, int(100 * MAX_WALK_M))
    ),
    st.sampled_from((Step("stand up"), Step("sit down"))),
)
PLANS = st.one_of(
    st.builds(lambda steps: Plan(tuple(steps)), st.lists(STEPS, min_size=1, max_size=MAX_STEPS)),
    st.just(Plan((STOP,))),
    st.builds(
        lambda outcome, why: Plan((), outcome, why),
        st.sampled_from(["refused", "not understood"]),
        REASONS | st.sampled_from(["", "a"]),
    ),
)
EXAMPLES = (
    "go to the red chair; turn left 90 degrees; sit down",
    "stand up; walk forward 1.25 metres; walk back 0.5 metres; go to the box left of the blue ball",
    "stop",
    "refused: it would do harm",
    "not understood",
)
NOISE = string.printable + "٣９²é\u00a0\u2028\u200b"
"""What a mutation may put into a text: also digits, spaces and letters that only look plain."""


def check_read(text: str) -> None:
    """Either a plan whose text is this one, or a PlanError in one line."""
    try:
        plan = parse_plan(text)
    except PlanError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert plan.text == text.strip()
        assert plan.text.isascii() and plan.text == plan.text.lower()


@given(PLANS)
def test_what_is_written_is_read_back(plan: Plan) -> None:
    assert parse_plan(plan.text) == plan
    assert parse_plan(f" {plan.text}\n") == plan
    assert len(plan.text) <= MAX_TEXT


def test_steps_and_reasons() -> None:
    plan = parse_plan(EXAMPLES[0])
    assert plan.steps == (Step("go", object="red chair"), Step("turn", amount=90), Step("sit down"))
    assert (plan.outcome, plan.reason, plan.moves) == ("planned", "", True)
    assert [step.amount for step in parse_plan(EXAMPLES[1]).steps] == [0, 1.25, -0.5, 0]
    assert parse_plan("turn right 5 degrees").steps[0].amount == -5
    assert parse_plan("stop") == Plan((STOP,)) and not parse_plan("stop").moves
    refused = parse_plan("refused: it would do harm")
    assert (refused.steps, refused.outcome, refused.reason) == ((), "refused", "it would do harm")
    assert not refused.moves
    assert parse_plan("not understood") == Plan((), "not understood")


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_single_character_changed(text: str) -> None:
    for at in range(len(text) + 1):
        check_read(text[:at] + text[at + 1 :])
        check_read(text[:at] + text[at : at + 1] + text[at:])
        for character in NOISE:
            check_read(text[:at] + character + text[at + 1 :])
            check_read(text[:at] + character + text[at:])


@given(PLANS, PLANS, st.data())
def test_texts_cut_and_joined(first: Plan, second: Plan, data: st.DataObject) -> None:
    head = data.draw(st.integers(0, len(first.text)))
    tail = data.draw(st.integers(0, len(second.text)))
    check_read(first.text[:head] + data.draw(st.text(max_size=3)) + second.text[tail:])
    check_read(first.text + data.draw(st.sampled_from(["; ", ";", " ; ", "\n", ", ", " and "])) + second.text)
    check_read(first.text.replace(" ", data.draw(st.sampled_from(["", "  ", "\t", "\u00a0"]))))


@given(st.text(max_size=80))
@example("stop\x00")
@example("; ")
def test_any_text(text: str) -> None:
    check_read(text)


@pytest.mark.parametrize(
    "text",
    [
        "turn left 1 degrees",
        "turn right 360 degrees",
        "walk forward 20 metres",
        "walk back 0.01 metres",
        "walk forward 19.99 metres",
        "go to the " + "a" * 60,
        "; ".join(["sit down"] * MAX_STEPS),
        "; ".join(["go to the " + "a" * 60] * MAX_STEPS),
        "refused: " + "a" * 60,
        " " * (MAX_TEXT - 4) + "stop",
    ],
)
def test_what_is_just_allowed(text: str) -> None:
    assert parse_plan(text).text == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "turn left 0 degrees",
        "turn left 361 degrees",
        "turn left 1000 degrees",
        "turn left 1.5 degrees",
        "turn left -90 degrees",
        "turn left 090 degrees",
        "turn left ９０ degrees",
        "turn left ٩٠ degrees",
        "turn left 90",
        "turn around",
        "walk forward 0 metres",
        "walk forward 20.01 metres",
        "walk forward 21 metres",
        "walk forward 1.234 metres",
        "walk forward 1.0 metres",
        "walk forward 1.50 metres",
        "walk forward 01 metres",
        "walk forward .5 metres",
        "walk forward 1e1 metres",
        "walk forward nan metres",
        "walk forward ２ metres",
        "walk forward 1 metre",
        "walk left 1 metres",
        "go to the ",
        "go to the " + "a" * 61,
        "go to the Red chair",
        "go to the 2nd chair",
        "go to the café",
        "go to the red chair.",
        "go to the red chair;sit down",
        "go to the red chair;  sit down",
        "sit down; ",
        "; sit down",
        "; ".join(["sit down"] * (MAX_STEPS + 1)),
        "stop; sit down",
        "sit down; stop",
        "stop; stop",
        "Stop",
        "refused: ",
        "refused:it would do harm",
        "refused: It would do harm",
        "refused: it would do harm.",
        "refused: " + "a" * 61,
        "refused; sit down",
        "sit down; refused",
        "not understood: 1",
        "planned",
        " " * MAX_TEXT + "stop",
        "sit down; " * 100_000,
        "9" * 1_000_000,
    ],
    ids=lambda text: text[:40],
)
def test_what_is_not_a_plan(text: str) -> None:
    with pytest.raises(PlanError, match=r"robot does not move|more than|a stop is the only step") as caught:
        parse_plan(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", [None, 1, b"stop", ["stop"], STOP, Plan((STOP,))])
def test_what_is_not_text(text: object) -> None:
    with pytest.raises(PlanError, match="a plan is text, not"):
        parse_plan(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "jump"},
        {"kind": "go"},
        {"kind": "go", "object": "red chair; sit down"},
        {"kind": "go", "object": "red chair", "amount": 1.0},
        {"kind": "stop", "object": "red chair"},
        {"kind": "stop", "amount": 1.0},
        {"kind": "turn"},
        {"kind": "turn", "amount": 90.0, "object": "red chair"},
        {"kind": "turn", "amount": 0.5},
        {"kind": "turn", "amount": math.nan},
        {"kind": "turn", "amount": -361},
        {"kind": "walk", "amount": math.inf},
        {"kind": "walk", "amount": 0.001},
        {"kind": "walk", "amount": -20.5},
    ],
    ids=str,
)
def test_steps_that_cannot_be(fields: dict[str, object]) -> None:
    with pytest.raises(PlanError, match="is not a step"):
        Step(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"steps": (STOP,), "outcome": "refused"},
        {"steps": (STOP,), "reason": "it would do harm"},
        {"outcome": "bored"},
        {"outcome": "refused", "reason": "No!"},
        {"outcome": "refused", "reason": "it is late "},
        {"outcome": "not understood", "reason": "a" * 61},
        {"steps": (STOP, Step("sit down"))},
        {"steps": (STOP, STOP)},
        {"steps": (Step("sit down"),) * (MAX_STEPS + 1)},
    ],
    ids=str,
)
def test_plans_that_cannot_be(fields: dict[str, object]) -> None:
    with pytest.raises(PlanError):
        Plan(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", OBJECT_WORDS)
@pytest.mark.parametrize("color", COLOR_WORDS)
def test_a_colour_and_a_kind_of_the_simulator_name_an_object(color: str, kind: str) -> None:
    assert Step("go", object=f"{color} {kind}").names_its_object


@pytest.mark.parametrize(
    "described",
    [
        "chair",
        "red",
        "chair red",
        "nearest chair",
        "other box",
        "orange ball",
        "red table",
        "crimson chair",
        "red seat",
        "big red chair",
        "red chair left of the blue ball",
        "door",
    ],
)
def test_other_words_describe_one(described: str) -> None:
    assert not Step("go", object=described).names_its_object


def test_only_a_goal_names_an_object() -> None:
    assert not any(step.names_its_object for step in (STOP, Step("sit down"), Step("walk", amount=1)))
