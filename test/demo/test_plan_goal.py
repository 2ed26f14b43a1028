"""Steps are judged by what the robot's body did, whatever planner and models say."""

from __future__ import annotations

import math

import pytest

from spec_decode_ros.actions.plan import parse_plan
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.demo.body import BodyState
from spec_decode_ros.lab.demo.goal import MissionResult
from spec_decode_ros.lab.demo.plan_goal import PlanGoal, PlanProgress, PlanWatch, means
from spec_decode_ros.lab.demo.step_judge import judge_step
from spec_decode_ros.sim.scene import Scene, SceneObject

SCENE = Scene((SceneObject("red", "chair", 2.0, 0.0), SceneObject("blue", "box", 0.0, 2.0)))
SENTENCE = "over to that crimson seat, and lie down"
STEPS = ("go to the red chair", "sit down")


def body(x: float = 0.0, y: float = 0.0, deg: float = 0.0, height: float = 0.3) -> BodyState:
    return BodyState(0.0, x, y, math.remainder(math.radians(deg), math.tau), height, 0.0, 0.0)


@pytest.mark.parametrize(
    ("step", "track", "success", "reason"),
    [
        ("go to the red chair", [body(), body(1.1)], True, "reached the red chair"),
        ("go to the red chair", [body(), body(0.0, 1.1, 90)], False, "stopped at the blue box"),
        ("go to the red chair", [body(), body(0.4)], False, "stopped 1.1 m away"),
        ("go to the red chair", [body(), body(1.1, 0.0, 60)], False, "stopped facing"),
        ("go to the red chair", [body(), body(1.1, height=0.1)], False, "lies"),
        ("turn left 180 degrees", [body(), body(deg=100), body(deg=195)], True, "turned 195 degrees"),
        ("turn left 180 degrees", [body(), body(deg=-100), body(deg=-180)], False, "turned -180 degrees"),
        ("turn right 90 degrees", [body(), body(deg=-69)], False, "turned -69 degrees"),
        ("turn left 360 degrees", [body(deg=a) for a in range(0, 361, 60)], True, "turned 360 degrees"),
        ("walk forward 1 metres", [body(deg=90), body(0.0, 0.75, 90)], True, "walked 0.75 m"),
        ("walk forward 1 metres", [body(deg=90), body(1.0, 0.0, 90)], False, "walked 0.00 m"),
        ("walk back 1 metres", [body(), body(-1.4)], False, "walked -1.40 m"),
        ("sit down", [body(), body(height=0.1)], True, "lies"),
        ("sit down", [body(), body()], False, "stands"),
        ("stand up", [body(height=0.1), body()], True, "stands"),
        ("stand up", [body(height=0.1), body(height=0.1)], False, "lies"),
    ],
)
def test_a_step_is_judged_by_the_body(step: str, track: list[BodyState], success: bool, reason: str):
    verdict = judge_step(parse_plan(step).steps[0], SCENE, track)
    assert verdict[0] is success
    assert verdict[1].startswith(reason)


class Mission:
    """Events of one mission, a tenth of a second apart."""

    def __init__(self, **goal: object) -> None:
        self.watch = PlanWatch(PlanGoal(SCENE, SENTENCE, **goal))  # type: ignore[arg-type]
        self.t = 100.0
        self.result: MissionResult | None = None

    def says(self, *states: str, steps: tuple[str, ...] = STEPS, summary: str = "", bad: bool = False):
        pairs = tuple(zip(steps, states, strict=True))
        self.watch.planned(PlanProgress(self.t, summary, pairs, bad))
        return self

    def moves(self, *poses: tuple[float, float], speed: float = 0.0):
        for x, height in poses:
            self.t += 0.1
            self.result = self.watch.moved(BodyState(self.t, x, 0.0, 0.0, height, speed, 0.0))
        return self

    def carries_out(self, lies_at: float = 0.1):
        self.moves((0.0, 0.3)).says("running", "waiting").moves((0.5, 0.3), (1.0, 0.3), speed=0.4)
        self.says("done", "running").moves((1.1, 0.3), speed=0.2).moves((1.15, 0.3), (1.15, lies_at))
        return self.says("done", "done").moves((1.15, lies_at))


def test_a_plan_that_is_carried_out_succeeds():
    result = Mission(expected=parse_plan("; ".join(STEPS))).carries_out().result
    assert result is not None
    assert result.success, result
    assert [step.reason for step in result.steps] == ["reached the red chair", "lies"]
    first, second = result.steps
    assert first.ended == second.began, "a step begins where the robot has come to rest after the last"
    assert first.ended - first.began == pytest.approx(0.4)


def test_a_step_that_the_models_only_believe_in_fails_the_mission():
    result = Mission().carries_out(lies_at=0.3).result
    assert result is not None
    assert not result.success
    assert result.reason == "sit down: stands"
    assert result.steps[1].state == "done"


def test_a_wrong_plan_fails_the_mission_however_well_it_is_carried_out():
    result = Mission(expected=parse_plan("go to the blue box; sit down")).carries_out().result
    assert result is not None
    assert not result.success
    assert result.reason == "planned: go to the red chair; sit down"


def test_a_plan_that_ends_early_fails_with_its_words():
    mission = Mission().moves((0.0, 0.3)).says("running", "waiting").moves((0.5, 0.3))
    mission.says("not found", "waiting", summary="go to the red chair: not found", bad=True).moves((0.5, 0.3))
    assert mission.result is not None
    assert mission.result.reason == "go to the red chair: not found"
    assert [step.success for step in mission.result.steps] == [False, False]
    assert mission.result.steps[1].began == mission.result.steps[1].ended


def test_a_sentence_without_a_plan_fails_at_once():
    mission = Mission().moves((0.0, 0.3)).says(steps=(), summary="refused", bad=True).moves((0.0, 0.3))
    assert mission.result is not None
    assert (mission.result.reason, mission.result.steps) == ("refused", ())


def test_time_out_counts_from_the_first_news():
    mission = Mission(time_out_s=1.0).moves((0.0, 0.3)).says("running", "waiting").moves(*[(0.1, 0.3)] * 9)
    assert mission.result is None
    mission.moves((0.1, 0.3), (0.1, 0.3))
    assert mission.result is not None
    assert mission.result.reason == "not done after 1 s"


@pytest.mark.parametrize(
    ("steps", "plan", "same"),
    [
        ("sit down; stand up; go to the red chair", "sit down; go to the red chair", True),
        ("stand up; go to the red chair", "go to the red chair", True),
        ("sit down; go to the red chair", "sit down; stand up; go to the red chair", False),
        ("go to the red chair", "go to the red chair; sit down", False),
        ("go to the red chair; sit down", "go to the red chair", False),
        ("sit down; go to the red chair", "go to the red chair; sit down", False),
    ],
)
def test_standing_up_once_more_is_no_other_plan(steps: str, plan: str, same: bool):
    assert means(steps.split("; "), parse_plan(plan)) is same


def test_a_goal_that_is_not_in_the_room_is_refused():
    with pytest.raises(SpecDecodeError, match=r"no green ball .* red chair, blue box"):
        PlanGoal(SCENE, SENTENCE, parse_plan("go to the green ball"))
    with pytest.raises(SpecDecodeError, match="golden calf"):
        PlanGoal(SCENE, SENTENCE, target="golden calf")
    with pytest.raises(SpecDecodeError, match="time-out"):
        PlanGoal(SCENE, SENTENCE, time_out_s=0.0)
