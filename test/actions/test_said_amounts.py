"""Amounts that a plan has and nobody said."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from spec_decode_ros.actions.plan import parse_plan
from spec_decode_ros.actions.said_amounts import unsaid_amount
from spec_decode_ros.lab.plan_judge import read_expected
from spec_decode_ros.lab.training.plan_sentences import examples

HELD_OUT = Path(__file__).parents[2] / "config" / "instructions" / "held_out_plans.txt"


def test_no_amount_of_a_held_out_plan_is_lost():
    assert [
        each.sentence for each in read_expected(HELD_OUT) if unsaid_amount(each.plan, each.sentence)
    ] == []


def test_of_drawn_sentences_only_misspelt_numbers_are_lost():
    lost = [
        each
        for each in itertools.islice(examples(99), 2000)
        if unsaid_amount(parse_plan(each.plan), each.sentence)
    ]
    assert len(lost) <= 20


@pytest.mark.parametrize(
    ("sentence", "plan"),
    [
        ("Advance three quarters of a metre", "walk forward 0.75 metres"),
        ("a metre and a half back, please", "walk back 1.5 metres"),
        ("2½ m, then an about-face", "walk forward 2.5 metres; turn left 180 degrees"),
        ("sixty cm to the rear", "walk back 0.6 metres"),
        ("ten feet ahead & a yard back", "walk forward 3 metres; walk back 0.9 metres"),
        (
            "left (45), 1,5 m; right by ninety!",
            "turn left 45 degrees; walk forward 1.5 metres; turn right 90 degrees",
        ),
        ("turn around, forward a bit", "turn left 180 degrees; walk forward 1 metres"),
        ("a couple of metres", "walk forward 2 metres"),
        ("three quarter turns left", "turn left 270 degrees"),
        ("go to the red chair", "go to the red chair"),
    ],
)
def test_what_was_said_may_be_planned(sentence: str, plan: str):
    assert unsaid_amount(parse_plan(plan), sentence) == ""


@pytest.mark.parametrize(
    ("sentence", "plan", "step"),
    [
        ("Advance three quarters of a metre", "walk forward 0.67 metres", "walk forward 0.67 metres"),
        (
            "walk 2 metres and turn right",
            "walk forward 12 metres; turn right 90 degrees",
            "walk forward 12 metres",
        ),
        ("turn 15 degrees clockwise", "turn right 50 degrees", "turn right 50 degrees"),
        ("sit down", "sit down; walk forward 5 metres", "walk forward 5 metres"),
    ],
)
def test_what_nobody_said_is_found(sentence: str, plan: str, step: str):
    assert unsaid_amount(parse_plan(plan), sentence) == step
