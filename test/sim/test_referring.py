"""Referring expressions: the simulator knows which object is meant, and says so when it is not clear."""

from __future__ import annotations

import pytest

from spec_decode_ros.actions.action import Action
from spec_decode_ros.actions.commands import Command
from spec_decode_ros.sim.expert import decide
from spec_decode_ros.sim.referring import is_clear, referent
from spec_decode_ros.sim.scene import Scene, SceneObject

SCENE = Scene(
    (
        SceneObject("red", "chair", 2.0, 1.2),
        SceneObject("blue", "ball", 2.0, 0.0),
        SceneObject("green", "chair", 3.2, -1.2),
        SceneObject("white", "cone", -2.0, 0.0),
    )
)
POSE = (0.0, 0.0, 0.0)
AHEAD = {0, 1, 2}


def goto(kind: str, relation: str, other: str = "") -> Command:
    return Command("goto", "", kind, relation=relation, other=other)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (goto("chair", "left of", "blue ball"), "red chair"),
        (goto("chair", "right of", "blue ball"), "green chair"),
        (goto("ball", "right of", "red chair"), "blue ball"),
        (goto("chair", "nearest"), "red chair"),
        (goto("chair", "farthest"), "green chair"),
        (goto("chair", "except", "red"), "green chair"),
        (goto("ball", "only"), "blue ball"),
        (Command("goto", "green", "chair"), "green chair"),
    ],
)
def test_descriptions_mean_what_is_in_view(command: Command, name: str) -> None:
    meant = referent(command, SCENE, POSE, AHEAD)
    assert (meant.name, meant.index, meant.doubtful) == (name, SCENE.find(name), False)
    answer = decide(command, SCENE, POSE, AHEAD, None)
    assert answer.note.startswith(f"{name} ") and answer.moves


def test_sides_change_with_the_point_of_view() -> None:
    behind = (5.0, 0.0, 3.14159)
    assert referent(goto("chair", "left of", "blue ball"), SCENE, behind, AHEAD).name == "green chair"


def test_what_several_fit_is_doubtful() -> None:
    assert not is_clear(goto("chair", "only"), SCENE, POSE, AHEAD)
    assert not is_clear(goto("chair", "except", "blue"), SCENE, POSE, AHEAD)
    even = Scene((SceneObject("red", "box", 2.0, 1.0), SceneObject("blue", "box", 2.0, -1.0)))
    assert not is_clear(goto("box", "nearest"), even, POSE, {0, 1})
    assert is_clear(goto("chair", "only"), SCENE, POSE, {1, 2})


@pytest.mark.parametrize(
    "command",
    [
        goto("cone", "nearest"),
        goto("box", "only"),
        goto("chair", "left of", "white cone"),
        goto("ball", "left of", "red chair"),
    ],
)
def test_what_is_not_in_view_is_searched_for_and_in_the_end_not_found(command: Command) -> None:
    assert referent(command, SCENE, POSE, AHEAD).index == -1
    assert decide(command, SCENE, POSE, AHEAD, None).note == "searching 0"
    ended = decide(command, SCENE, POSE, AHEAD, Action(0.0, 0.8, "searching 360"))
    assert ended == Action(0.0, 0.0, f"{command.object} not found")
    assert decide(command, SCENE, POSE, AHEAD, ended) == ended


def test_the_robot_goes_on_to_the_one_that_it_set_out_for() -> None:
    command = goto("chair", "nearest")
    last = Action(0.4, 0.0, "green chair right 1.5")
    assert referent(command, SCENE, POSE, AHEAD, last).name == "green chair"
    lost = decide(command, SCENE, POSE, {0, 1}, last)
    assert lost.note == "searching 0" and lost.wz < 0, "where it was last seen"
    for other in ("blue ball ahead 1.0", "searching 30", "green chair not found"):
        assert referent(command, SCENE, POSE, AHEAD, Action(0.0, 0.0, other)).name == "red chair"
    refused = goto("chair", "except", "green")
    assert referent(refused, SCENE, POSE, AHEAD, last).name == "red chair"


def test_harmful_and_impossible_requests_are_refused() -> None:
    assert decide(Command("refuse", "red", "chair"), SCENE, POSE, AHEAD, None) == Action(0.0, 0.0, "refused")
