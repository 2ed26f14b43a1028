from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.actions.action import parse_action
from spec_decode_ros.actions.plan import parse_plan
from spec_decode_ros.actions.prompt import MAX_INSTRUCTION, build_plan_prompt, build_prompt, clean_instruction

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


def test_a_planner_reads_the_sentence_and_the_end_of_its_line() -> None:
    assert build_plan_prompt("Go to\nthe RED chair | then sit") == "go to the red chair then sit\n"


def test_an_instructed_planner_is_told_the_steps_with_examples_that_parse() -> None:
    prompt = build_plan_prompt("Sit down!", "instructed")
    assert prompt.endswith("\nThe operator says: sit down!\nThe plan:")
    quoted = re.findall(r"'([^']*)'", prompt)
    assert parse_plan(quoted[-1]).text == "go to the red chair; sit down"
    for step in (
        "go to the OBJECT",
        "turn left N degrees",
        "walk back N metres",
        "stand up",
        "sit down",
        "stop",
    ):
        assert step in quoted
        parse_plan(step.replace("OBJECT", "red chair").replace("N", "2"))
    for outcome in ("refused: WHY", "not understood: WHY"):
        assert outcome in quoted
        parse_plan(outcome.replace("WHY", "there is no task in it"))


@pytest.mark.parametrize("style", ["trained", "instructed"])
@given(text=st.text(max_size=600))
def test_a_sentence_is_one_bounded_line_of_the_planners_prompt(style: str, text: str) -> None:
    prompt, empty = build_plan_prompt(text, style), build_plan_prompt("", style)  # type: ignore[arg-type]
    assert len(prompt.splitlines()) <= max(1, len(empty.splitlines()))
    assert len(prompt) <= len(empty) + MAX_INSTRUCTION
