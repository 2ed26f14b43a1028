from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from spec_decode_ros.actions.action import ACTION_PERIOD_S, format_action, parse_action
from spec_decode_ros.actions.commands import STRANGE_WORDS, Command
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.episodes.episode import Episode, EpisodeResult, Policy, Rules
from spec_decode_ros.lab.episodes.expert import decide, visible_objects
from spec_decode_ros.sim.render import RayCaster
from spec_decode_ros.sim.scene import Scene, SceneObject
from spec_decode_ros.sim.simulation import Simulation
from spec_decode_ros.sim.task import Task, make_task, read_templates

AHEAD = Task(
    seed=0,
    scene=Scene(
        objects=(SceneObject("red", "box", 1.6, 0.0), SceneObject("blue", "ball", 0.0, 2.0)),
        start=(0.0, 0.0, 0.0),
    ),
    target="red box",
    instruction="go to the red box",
)

NO_PICTURE = b""


def scripted(*answers: str) -> Callable[[Simulation], Policy]:
    """A policy that says these answers in turn and then the last one for ever."""

    def make(_: Simulation) -> Policy:
        left = list(answers)
        return lambda _jpeg, _instruction, _last: left.pop(0) if len(left) > 1 else left[0]

    return make


def expert(task: Task) -> Callable[[Simulation], Policy]:
    """The teacher, who sees what the head camera sees."""

    def make(simulation: Simulation) -> Policy:
        model = simulation.model
        caster = RayCaster(model, width=96, height=48)
        names = [model.geom(index).name.split("_") for index in range(model.ngeom)]
        owner = np.array([int(n[1]) if n[0] == "object" else -1 for n in names] + [-1])
        command = Command("goto", *task.target.split())

        def policy(_jpeg: bytes, _instruction: str, last: str | None) -> str:
            hits, _, _ = caster.cast(simulation.robot.data)
            pose = simulation.robot.pose
            action = decide(
                command,
                task.scene,
                (pose.x, pose.y, pose.yaw),
                visible_objects(owner[hits]),
                parse_action(last) if last else None,
            )
            return format_action(action)

        return policy

    return make


def play(task: Task, make: Callable[[Simulation], Policy], rules: Rules | None = None) -> EpisodeResult:
    with Simulation(task.scene, task.seed, backend="ray") as simulation:
        simulation.jpeg = lambda: NO_PICTURE  # type: ignore[method-assign]  # these policies don't look
        return Episode(task, make(simulation), rules, simulation=simulation).run()


@pytest.mark.parametrize("seed", range(6))
def test_the_expert_reaches_its_target(seed: int) -> None:
    task = make_task(seed)
    result = play(task, expert(task))
    assert result.reason == "reached"
    assert result.success
    assert result.distance <= 0.6
    assert result.collisions == ()
    assert result.time == pytest.approx(result.decisions * ACTION_PERIOD_S, abs=1.5)


def test_a_slow_link_makes_it_later_not_wrong() -> None:
    fast = play(AHEAD, expert(AHEAD), Rules(latency_s=0.0))
    slow = play(AHEAD, expert(AHEAD), Rules(latency_s=0.7))
    assert fast.success
    assert slow.success
    assert slow.time > fast.time
    # One decision at a time: with 0.7 s between frame and action there is one every 0.7 s.
    assert slow.decisions <= math.ceil(slow.time / 0.7) + 1


def test_the_same_task_runs_the_same_way_twice() -> None:
    task = make_task(11)
    assert play(task, expert(task)) == play(task, expert(task))


def test_walking_into_the_target_is_a_failure() -> None:
    result = play(AHEAD, scripted("vx 0.6 wz 0.0 | red box ahead 1.0"))
    assert not result.success
    assert result.reason == "touched the red box"
    assert result.collisions == ("red box",)


def test_standing_still_for_ever_is_a_time_out_or_giving_up() -> None:
    turning = play(AHEAD, scripted("vx 0.0 wz 0.4 | searching 15"), Rules(time_out_s=3.0))
    assert turning.reason == "time out"
    assert turning.time == pytest.approx(3.0, abs=0.5)
    lost = play(AHEAD, scripted("vx 0.0 wz 0.0 | red box not found"))
    assert lost.reason == "gave up: red box not found"
    assert lost.decisions == 3
    assert not lost.success


def test_saying_reached_too_early_or_elsewhere_is_a_failure() -> None:
    early = play(AHEAD, scripted("vx 0.0 wz 0.0 | red box reached"))
    assert early.reason == "stopped too far away"
    other = Task(1, AHEAD.scene, "blue ball", "go to the blue ball")
    assert play(other, scripted("vx 0.0 wz 0.0 | blue ball reached")).reason == "stopped at the red box"


def test_near_but_turned_away_is_a_failure() -> None:
    scene = Scene(objects=(SceneObject("red", "box", 0.55, 0.75),), start=(0.0, 0.0, 0.0))
    task = Task(0, scene, "red box", "go to the red box")
    result = play(task, scripted("vx 0.0 wz 0.0 | red box reached"))
    assert result.distance < 0.6
    assert result.reason == "stopped facing elsewhere"


def test_moving_between_two_reached_begins_the_count_anew() -> None:
    result = play(
        AHEAD,
        scripted(
            "vx 0.0 wz 0.0 | red box reached",
            "vx 0.0 wz 0.0 | red box reached",
            "vx 0.2 wz 0.0 | red box ahead 1.0",
            "vx 0.0 wz 0.0 | red box reached",
        ),
    )
    assert result.decisions == 6


def test_text_that_is_no_action_stops_the_robot_and_is_counted() -> None:
    result = play(
        AHEAD, scripted("vx 0.4 wz 0.0 | red box ahead 1.0", "full speed ahead"), Rules(time_out_s=4.0)
    )
    assert result.invalid_actions == result.decisions - 1
    assert result.reason == "time out"
    assert result.path_length < 0.4


def test_the_policy_is_told_its_last_valid_action() -> None:
    told: list[str | None] = []
    answers = iter(["vx 0.0 wz 0.2 | searching 0", "nonsense", *["vx 0.0 wz 0.0 | stopped"] * 9])

    def policy(_jpeg: bytes, instruction: str, last: str | None) -> str:
        assert instruction == AHEAD.instruction
        told.append(last)
        return next(answers)

    play(AHEAD, lambda _: policy)
    assert told[:4] == [
        None,
        "vx 0.0 wz 0.2 | searching 0",
        "vx 0.0 wz 0.2 | searching 0",
        "vx 0.0 wz 0.0 | stopped",
    ]


def test_a_row_is_plain_json_values() -> None:
    row = play(AHEAD, scripted("vx 0.0 wz 0.0 | stopped")).as_row()
    assert row["target"] == "red box"
    assert row["collisions"] == []
    assert row["success"] is False
    assert {"seed", "instruction", "reason", "distance", "time", "path_length", "decisions"} <= row.keys()


def test_tasks_come_from_the_seed_and_ask_for_something_there() -> None:
    assert make_task(5) == make_task(5)
    asked = {make_task(seed).instruction for seed in range(200)}
    assert len(asked) > 100
    assert not {word for text in asked for word in text.split()} & set(STRANGE_WORDS), "people's words alone"
    for seed in range(20):
        task = make_task(seed)
        assert task.scene.find(task.target) >= 0


def test_templates_are_filled_in_from_the_target() -> None:
    task = make_task(4, ["{oddly} fetch me at the {color} {kind}!"])
    assert task.instruction == f"{{oddly}} fetch me at the {task.target}!"


def test_template_files() -> None:
    text = "# phrasings\n\n go to the {color} {kind} \nfind a {kind}\n"
    assert read_templates(text) == ("go to the {color} {kind}", "find a {kind}")
    with pytest.raises(SpecDecodeError, match="one a line"):
        read_templates("# nothing\n")
    with pytest.raises(SpecDecodeError, match="names no object"):
        read_templates("hello there\n")


@pytest.mark.parametrize("field", ["reach_m", "facing_deg", "time_out_s", "still_decisions", "period_s"])
def test_rules_refuse_nonsense(field: str) -> None:
    with pytest.raises(SpecDecodeError, match=field):
        Rules(**{field: 0})
    with pytest.raises(SpecDecodeError, match="latency_s"):
        Rules(latency_s=-0.1)


def test_measured_latency_replaces_the_rules() -> None:
    def played(latency: Callable[[], float] | None) -> EpisodeResult:
        with Simulation(AHEAD.scene, backend="ray") as simulation:
            simulation.jpeg = lambda: NO_PICTURE  # type: ignore[method-assign]
            policy = scripted("vx 0.0 wz 0.2 | searching 0")(simulation)
            rules = Rules(latency_s=0.0, time_out_s=3.9)
            return Episode(AHEAD, policy, rules, simulation=simulation, latency=latency).run()

    assert played(None).decisions == 12
    assert played(lambda: 1.0).decisions == 4
