"""Colours and kinds in the words of the acting pair."""

from __future__ import annotations

import pytest

from spec_decode_ros.actions.commands import COLOR_WORDS, OBJECT_WORDS
from spec_decode_ros.actions.plan import parse_plan
from spec_decode_ros.actions.synonyms import FURTHER, TAUGHT, plainly_named


@pytest.mark.parametrize(
    ("object", "plain"),
    [
        ("green pillar", "green cylinder"),
        ("azure sphere", "blue ball"),
        ("lemon-yellow box", "yellow box"),
        ("snow white stool", "white chair"),
        ("red traffic cone", "red cone"),
        ("red chair", "red chair"),
        ("orange pylon", "orange pylon"),
        ("nearest crate", "nearest crate"),
        ("box left of the azure ball", "box left of the azure ball"),
        ("fire hydrant", "fire hydrant"),
        ("crimson", "crimson"),
    ],
)
def test_objects_are_named_plainly(object: str, plain: str):
    plan = parse_plan(f"stand up; go to the {object}; turn left 90 degrees")
    assert plainly_named(plan) == parse_plan(f"stand up; go to the {plain}; turn left 90 degrees")


def test_a_plan_without_steps_stays():
    assert plainly_named(parse_plan("refused: it would do harm")).outcome == "refused"


@pytest.mark.parametrize("names", [COLOR_WORDS, OBJECT_WORDS])
def test_no_word_has_two_meanings(names):
    every = [word for name in names for word in {name, *names[name], *TAUGHT[name], *FURTHER[name]}]
    assert len(every) == len(set(every))


def test_every_name_has_its_lists():
    assert set(TAUGHT) == set(FURTHER) == {*COLOR_WORDS, *OBJECT_WORDS}


@pytest.mark.parametrize("name", OBJECT_WORDS)
def test_what_the_planner_was_taught_is_understood(name):
    for word in TAUGHT[name]:
        plan = parse_plan(f"go to the red {word}")
        assert plainly_named(plan) == parse_plan(f"go to the red {name}")
