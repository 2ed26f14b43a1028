"""The action grammar and the parser agree: what the one accepts the other reads, and what is written is accepted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spec_decode_ros.actions.action import (
    MAX_VX,
    MAX_WZ,
    POSTURES,
    STANDING,
    Action,
    format_action,
    parse_action,
)
from spec_decode_ros.actions.grammar import (
    ACTION_GRAMMAR,
    BLOCKED,
    DEGREES_NOTES,
    MAX_ACTION_LENGTH,
    METRES_NOTES,
    SIDES,
)
from spec_decode_ros.actions.prompt import build_prompt

xgrammar = pytest.importorskip("xgrammar", reason="xgrammar is not installed: constrained answers need it")

END = 256
BYTES = xgrammar.TokenizerInfo([*(bytes([value]) for value in range(END)), b"</s>"], stop_token_ids=[END])
COMPILED = xgrammar.GrammarCompiler(BYTES, max_threads=1).compile_grammar(ACTION_GRAMMAR)


def accepted(text: str) -> bool:
    matcher = xgrammar.GrammarMatcher(COMPILED)
    return matcher.accept_string(text) and matcher.is_completed()


OBJECTS = st.sampled_from(["red chair", "purple cylinder", "nearest box", "fire hydrant", "dog", "t-shirt"])
METRES = st.integers(0, 999).map(lambda tenths: f"{tenths / 10:.1f}")
STANDING_NOTES = st.one_of(
    st.sampled_from([*POSTURES, BLOCKED, *STANDING]),
    st.builds("{} {}".format, OBJECTS, st.sampled_from(STANDING)),
)
MOVING_NOTES = st.one_of(
    st.builds("{} {} {}".format, OBJECTS, st.sampled_from(SIDES), METRES),
    st.builds("{} {}".format, st.sampled_from(DEGREES_NOTES), st.integers(0, 999)),
    st.builds("{} {}".format, st.sampled_from(METRES_NOTES), METRES),
)
ACTIONS = st.one_of(
    st.builds(Action, st.floats(-MAX_VX, MAX_VX), st.floats(-MAX_WZ, MAX_WZ), MOVING_NOTES),
    st.builds(Action, st.just(0.0), st.just(0.0), STANDING_NOTES),
)


@given(ACTIONS)
@settings(max_examples=200, deadline=None)
def test_every_action_with_a_known_note_is_accepted_as_it_is_written(action: Action) -> None:
    assert accepted(format_action(action))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_every_text_of_the_grammar_parses_and_contradicts_nothing(seed: int) -> None:
    text = random_text(seed)
    action = parse_action(text)
    assert format_action(action) == text
    assert not action.contradiction
    assert len(text) <= MAX_ACTION_LENGTH


def random_text(seed: int) -> str:
    """A random walk over the matcher, from byte to byte."""
    choice = np.random.default_rng(seed)
    matcher = xgrammar.GrammarMatcher(COMPILED)
    bitmask = xgrammar.allocate_token_bitmask(1, END + 1)
    written = bytearray()
    while True:
        matcher.fill_next_token_bitmask(bitmask)
        bits = np.unpackbits(bitmask.numpy()[0].view(np.uint8), bitorder="little")
        token = int(choice.choice(np.flatnonzero(bits[: END + 1])))
        assert matcher.accept_token(token)
        if token == END:
            return written.decode()
        written.append(token)


def test_the_longest_text_is_as_long_as_is_said() -> None:
    word = "x" * 12
    longest = f"vx -1.0 wz -1.5 | {word} {word} {word} not understood"
    at_rest = longest.replace("-1.0", "0.0").replace("-1.5", "0.0")
    assert accepted(at_rest) and len(at_rest) == MAX_ACTION_LENGTH


@pytest.mark.parametrize(
    "text",
    [
        "vx 0.4 wz -0.2",
        "vx 0.4 wz -0.2 | ",
        "vx 0.4 wz -0.2 | stand up",
        "vx 0.4 wz 0.0 | red chair reached",
        "vx 0.0 wz 0.2 | stopped",
        "vx 1.1 wz 0.0 | walking 1.0",
        "vx 0.0 wz -1.6 | turning 90",
        "vx 0.45 wz 0.0 | walking 1.0",
        "vx -0.0 wz 0.0 | stopped",
        "vx 0.4 wz 0.0 | walking 01.0",
        "vx 0.4 wz 0.0 | red chair",
        "vx 0.4 wz 0.0 | Red chair left 1.0",
        " vx 0.0 wz 0.0 | stopped",
        "stopped",
    ],
)
def test_what_is_no_action_is_not_accepted(text: str) -> None:
    assert not accepted(text)


def test_the_example_of_the_prompt_is_accepted() -> None:
    prompt = build_prompt("go to the red chair", None, "instructed")
    (example,) = (line for line in prompt.splitlines() if line.startswith("Example: "))
    assert accepted(example.removeprefix("Example: "))
