"""Missions of several steps are drawn from people's sentences, and only such as the room allows."""

from __future__ import annotations

from contextlib import suppress

import pytest

from spec_decode_ros.actions.plan import parse_plan
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.demo.mission_task import (
    MissionTemplate,
    can_be_done,
    make_mission,
    read_missions,
    shipped_missions,
)
from spec_decode_ros.sim.scene import Scene, SceneObject
from spec_decode_ros.sim.task import make_task

ROOM = Scene(
    (SceneObject("red", "chair", 2.5, 0.0), SceneObject("blue", "box", -2.0, 0.0)), start=(0.0, 0.0, 0.0)
)
"""A chair ahead of the robot and a box behind it."""


@pytest.mark.parametrize("seed", range(40))
def test_a_mission_has_two_or_three_steps_about_what_is_in_the_room(seed: int):
    mission = make_mission(seed, shipped_missions())
    assert mission == make_mission(seed, shipped_missions())
    assert mission.scene == make_task(seed).scene, "the room that go2-sim makes of the seed"
    assert 2 <= len(mission.plan.steps) <= 3
    assert "{" not in mission.sentence
    goes = [step.object for step in mission.plan.steps if step.kind == "go"]
    assert all(mission.scene.find(name) >= 0 for name in goes)
    assert len(set(goes)) == len(goes)


@pytest.mark.parametrize("template", shipped_missions(), ids=lambda template: template.sentence[:30])
def test_every_sentence_has_rooms(template: MissionTemplate):
    rooms = 0
    for seed in range(30):
        with suppress(SpecDecodeError):
            rooms += bool(make_mission(seed, [template]))
    assert rooms >= 3


@pytest.mark.parametrize(
    ("plan", "possible"),
    [
        ("go to the red chair; sit down", True),
        ("go to the red chair; go to the blue box", True),
        ("walk forward 1 metres; sit down", True),
        ("walk forward 1.5 metres; sit down", False),
        ("turn left 90 degrees; walk forward 1.5 metres", True),
        ("turn left 90 degrees; walk forward 3 metres", False),
        ("turn left 180 degrees; walk back 2 metres", False),
        ("go to the red chair; walk back 1 metres", True),
        ("go to the red chair; walk back 3 metres", False),
    ],
)
def test_a_way_that_is_not_free_is_not_asked_for(plan: str, possible: bool):
    assert can_be_done(parse_plan(plan), ROOM) is possible


def test_an_object_that_stands_in_the_way_is_not_walked_around():
    between = SceneObject("green", "ball", 1.2, 0.1)
    assert not can_be_done(parse_plan("go to the red chair"), Scene((*ROOM.objects, between)))


@pytest.mark.parametrize(
    "line",
    [
        "go there",
        "to the {first} => go to the {first}; go to the {second}",
        "to the {first} and {second} => go to the {first}",
        "to the {first} => dance with the {first}",
    ],
)
def test_a_line_that_is_no_mission_is_refused(line: str):
    with pytest.raises(SpecDecodeError):
        read_missions(f"# a comment\n\n{line}\n")


def test_a_room_without_room_is_said():
    with pytest.raises(SpecDecodeError, match="room 0"):
        make_mission(0, read_missions("far => walk forward 20 metres; sit down"))
