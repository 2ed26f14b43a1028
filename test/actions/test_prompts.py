from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.actions.action import parse_action
from spec_decode_ros.actions.prompt import MAX_INSTRUCTION, build_prompt, clean_instruction

LAST = "vx 0.4 wz -0.6 | red chair right 1.5"


def test_trained_style() -> None:
    assert build_prompt("Go to the RED chair!", None) == "go to the red chair! | last none"
    assert build_prompt("go", LAST) == f"go | last {LAST}"
    assert build_prompt("go", f" {LAST}\n") == f"go | last {LAST}"
    assert build_prompt("go", "") == "go | last none"


def test_instructed_style_tells_the_format_with_an_example_that_parses() -> None:
    prompt = build_prompt("Go to the red chair", LAST, "instructed")
    *_, wish, last, ask = prompt.splitlines()
    assert wish == "Instruction: go to the red chair"
    assert last == f"Your last answer: {LAST}"
    assert ask == "Your next answer:"
    example = next(line for line in prompt.splitlines() if line.startswith("Example: "))
    assert parse_action(example.removeprefix("Example: ")).vx == 0.4
    assert "Your last answer: none" in build_prompt("go", None, "instructed")


@pytest.mark.parametrize("style", ["trained", "instructed"])
@given(text=st.text(max_size=600))
def test_an_instruction_is_one_bounded_line_and_cannot_pretend_to_be_a_last_action(
    style: str, text: str
) -> None:
    wish = clean_instruction(text)
    assert len(wish) <= MAX_INSTRUCTION
    assert len(wish.splitlines()) <= 1
    assert "|" not in wish
    assert "  " not in wish
    prompt = build_prompt(text, None, style)  # type: ignore[arg-type]
    assert prompt.count("|") == build_prompt("", None, style).count("|")  # type: ignore[arg-type]
    assert prompt.count("\n") == build_prompt("", None, style).count("\n")  # type: ignore[arg-type]
