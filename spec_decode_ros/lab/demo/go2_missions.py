"""Missions of several steps with a simulated Go2: a planner makes steps of a sentence, and every step is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from spec_decode_ros.lab.demo.go2 import Go2Stack, RunningNodes, run_in_room, running_nodes
from spec_decode_ros.lab.demo.mission_task import MissionTask
from spec_decode_ros.lab.demo.plan_goal import PlanGoal
from spec_decode_ros.lab.demo.stack import STEPS, Stack, start_planner
from spec_decode_ros.lab.demo.step_judge import JudgedStep
from spec_decode_ros.lab.demo.verifiers import linked_verifiers


@dataclass(frozen=True)
class Go2Mission:
    """One row. `time` in seconds; `orders` counts those that arrived at the robot, by kind; `real_time_factor` is that
    of the simulation.
    """

    seed: int
    sentence: str
    expected: str
    planned: str
    success: bool
    reason: str
    steps: tuple[JudgedStep, ...]
    time: float
    collisions: tuple[str, ...]
    actions: int
    orders: dict[str, int]
    real_time_factor: float

    def as_row(self) -> dict[str, object]:
        """For JSON."""
        return {
            **vars(self),
            "steps": [step.as_row() for step in self.steps],
            "time": round(self.time, 3),
            "collisions": list(self.collisions),
            "real_time_factor": round(self.real_time_factor, 3),
        }


def run_missions(
    stack: Go2Stack, tasks: Sequence[MissionTask], show: Callable[[Go2Mission], None] = lambda mission: None
) -> list[Go2Mission]:
    """Run the missions with the same verifiers and nodes; ``show`` gets each at once."""
    missions = []
    with running_nodes(stack, STEPS) as running, _running_planner(stack, running.nodes):
        for task in tasks:
            missions.append(run_mission_task(stack, task, running))
            show(missions[-1])
    return missions


@contextmanager
def _running_planner(stack: Go2Stack, nodes: Stack) -> Iterator[None]:
    """The planner's verifier, and its node among the others."""
    with linked_verifiers([stack.planner], stack.rtt_ms) as (endpoint,):
        start_planner(nodes, stack.planner, stack.pair, stack.method, endpoint)
        yield


def run_mission_task(stack: Go2Stack, task: MissionTask, running: RunningNodes) -> Go2Mission:
    """Run one mission with a new robot, and judge it."""
    goal = PlanGoal(task.scene, task.sentence, task.plan, stack.time_out_s * len(task.plan.steps))
    story, log = run_in_room(goal, task.seed, stack.out / f"mission_{task.seed}", running)
    outcome = story.outcome
    assert outcome is not None
    return Go2Mission(
        seed=task.seed,
        sentence=task.sentence,
        expected=task.plan.text,
        planned=story.plan.text if story.plan else "",
        success=outcome.success and not log.touches,
        reason=f"touched the {log.touched[0]}" if log.touches else outcome.reason,
        steps=tuple(with_touches(step, log.touches) for step in outcome.steps),
        time=story.took_s,
        collisions=tuple(log.touched),
        actions=len(story.verified),
        orders=dict(log.counts),
        real_time_factor=log.real_time_factor,
    )


def with_touches(step: JudgedStep, touches: Sequence[tuple[float, str]]) -> JudgedStep:
    """A step in which something was touched has failed."""
    thing = next((thing for t, thing in touches if step.began <= t <= step.ended), None)
    return step if thing is None else replace(step, success=False, reason=f"touched the {thing}")
