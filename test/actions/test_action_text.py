"""The text of an action: written and read back, refused when it is anything else, and read while unfinished."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spec_decode_ros.actions.action import (
    MAX_TEXT,
    MAX_VX,
    MAX_WZ,
    STANDING,
    STOP,
    Action,
    ActionError,
    format_action,
    parse_action,
    parse_velocity_prefix,
)

NOTES = st.from_regex(r"[a-z0-9.\-]([a-z0-9 .\-]{0,40}[a-z0-9.\-])?", fullmatch=True)
TENTHS_VX = st.integers(-10, 10).map(lambda n: n / 10)
TENTHS_WZ = st.integers(-15, 15).map(lambda n: n / 10)
NUMBERS = st.from_regex(r"-?[0-9]{1,2}(\.[0-9]{1,3})?", fullmatch=True)


@given(TENTHS_VX, TENTHS_WZ, NOTES)
def test_what_is_written_is_read_back(vx: float, wz: float, note: str) -> None:
    action = Action(vx, wz, note)
    try:
        assert parse_action(format_action(action)) == action
    except ActionError:
        assert action.posture and action.moves


@given(st.floats(-MAX_VX, MAX_VX), st.floats(-MAX_WZ, MAX_WZ))
def test_writing_rounds_to_one_decimal_and_has_no_negative_zero(vx: float, wz: float) -> None:
    text = format_action(Action(vx, wz, "red chair"))
    assert re.fullmatch(r"vx -?\d\.\d wz -?\d\.\d \| red chair", text)
    assert "-0.0" not in text
    read = parse_action(text)
    assert abs(read.vx - vx) <= 0.05 + 1e-9
    assert abs(read.wz - wz) <= 0.05 + 1e-9
    assert format_action(read) == text


def test_fields() -> None:
    action = parse_action("vx 0.4 wz -0.6 | red chair right 1.5")
    assert (action.vx, action.wz, action.note) == (0.4, -0.6, "red chair right 1.5")
    assert action.moves
    assert action.posture is None
    assert not STOP.moves
    assert parse_action("vx 0.0 wz 0.0 | sit down").posture == "sit down"
    assert parse_action(" vx 0 wz 1.125 | stand\n").wz == 1.125


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "stop",
        "vx 0.4 wz -0.6",
        "vx 0.4 wz -0.6 |",
        "vx 0.4 wz -0.6 | ",
        "vx 0.4 wz -0.6| done",
        "vx 0.4 wz -0.6 |done",
        "vx 0.4 wz -0.6  | done",
        "vx  0.4 wz -0.6 | done",
        "VX 0.4 wz -0.6 | done",
        "wz -0.6 vx 0.4 | done",
        "vx 0.4 | done",
        "vx 0.4 vy 0.1 wz 0.1 | done",
        "so: vx 0.4 wz -0.6 | done",
        "vx +0.4 wz -0.6 | done",
        "vx .4 wz -0.6 | done",
        "vx 0. wz -0.6 | done",
        "vx 1e-1 wz 0.0 | done",
        "vx 0.4444 wz 0.0 | done",
        "vx nan wz 0.0 | done",
        "vx inf wz 0.0 | done",
        "vx 0,4 wz 0.0 | done",
        "vx ٠.٤ wz 0.0 | done",
        "vx - wz 0.0 | done",
        "vx --0.4 wz 0.0 | done",
        "vx 1.1 wz 0.0 | done",
        "vx 0.0 wz -1.6 | done",
        "vx 99 wz 0.0 | done",
        "vx 0.0 wz 0.0 | Done",
        "vx 0.0 wz 0.0 | done!",
        "vx 0.0 wz 0.0 | a | b",
        "vx 0.0 wz 0.0 | done\nvx 0.4 wz 0.0 | done",
        "vx 0.0 wz 0.0 | d\u00f6ne",
        "vx 0.0 wz 0.0 | " + "a" * 121,
        "vx 0.0 wz 0.0 | done" + " " * MAX_TEXT,
        "vx 0.4 wz 0.0 | sit down",
        "vx 0.0 wz 0.2 | stand up",
    ],
)
def test_other_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ActionError) as refused:
        parse_action(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("value", [None, 3, b"vx 0.0 wz 0.0 | done", ["vx"]])
def test_what_is_not_text_is_refused(value: object) -> None:
    with pytest.raises(ActionError, match=type(value).__name__):
        parse_action(value)  # type: ignore[arg-type]
    assert parse_velocity_prefix(value) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.01, -2.0])
def test_an_action_holds_no_velocity_outside_its_limits(bad: float) -> None:
    with pytest.raises(ActionError, match="vx"):
        Action(bad, 0.0, "done")
    with pytest.raises(ActionError, match="wz"):
        Action(0.0, bad * 2, "done")


@pytest.mark.parametrize("note", ["", "a|b", "Done", "a\nb", "x" * 121, "\u0661"])
def test_an_action_holds_no_other_note(note: str) -> None:
    with pytest.raises(ActionError):
        Action(0.0, 0.0, note)


@given(NUMBERS, NUMBERS, NOTES)
@example("-0.6", "0.8", "red chair right 1.5")
@example("10", "0.8", "done")
def test_an_unfinished_text_never_says_other_than_the_finished_one(vx: str, wz: str, note: str) -> None:
    text = f"vx {vx} wz {wz} | {note}"
    try:
        action = parse_action(text)
    except ActionError:
        # Too fast, or a posture while moving: what is too fast is not told early either.
        if abs(float(vx)) > MAX_VX or abs(float(wz)) > MAX_WZ:
            assert all(parse_velocity_prefix(text[:i]) is None for i in range(len(text) + 1))
        return
    bar, asked = text.index(" |") + 2, (float(vx), float(wz))
    for end in range(len(text) + 1):
        early = parse_velocity_prefix(text[:end])
        begun = text[bar:end].strip()
        told = end >= bar and not (any(asked) and any(note.startswith(begun) for note in STANDING))
        assert early == (asked if told else None), text[:end]
    assert (action.vx, action.wz) == ((0.0, 0.0) if action.contradiction else asked)


@given(st.text("vxwz 0123456789.-|", max_size=40))
def test_nothing_is_told_early_of_text_that_begins_otherwise(text: str) -> None:
    early = parse_velocity_prefix(text)
    if early is not None:
        assert re.match(r"vx -?\d{1,2}(\.\d{1,3})? wz -?\d{1,2}(\.\d{1,3})? *\|", text.strip())
        assert abs(early[0]) <= MAX_VX
        assert abs(early[1]) <= MAX_WZ


@pytest.mark.parametrize("note", ["stopped", "red chair reached", "reached", "done", "refused", "not understood",
                                  "red chair not found", "not found"])  # fmt: skip
def test_a_note_that_says_stand_makes_the_robot_stand_and_says_so(note):
    text = f"vx 0.0 wz -0.8 | {note}"
    action = parse_action(text)
    assert (action.vx, action.wz, action.note) == (0.0, 0.0, note)
    assert action.contradiction == f"{text!r} says {note} and asks to move; the robot stands"
    assert not parse_action(f"vx 0.0 wz 0.0 | {note}").contradiction
    assert parse_action("vx 0.4 wz 0.0 | undone 1.0").moves


def test_unfinished_text_moves_nothing_while_its_note_may_say_stand():
    for note in ("", " ", " s", " stopped", " no", " don", " reached", " re"):
        assert parse_velocity_prefix(f"vx 0.0 wz -0.8 |{note}") is None
        assert parse_velocity_prefix(f"vx 0.0 wz 0.0 |{note}") == (0.0, 0.0)
    for note in (" se", " searching", " red", " blue", " turning 45"):
        assert parse_velocity_prefix(f"vx 0.0 wz -0.8 |{note}") == (0.0, -0.8)
