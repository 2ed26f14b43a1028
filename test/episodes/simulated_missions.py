"""Missions in simulated time: real models, guard and robot, no ROS and no clock, so that a busy machine changes nothing."""

from __future__ import annotations

from spec_decode_ros.actions.action import ACTION_PERIOD_S, parse_action
from spec_decode_ros.actions.plan import Plan
from spec_decode_ros.edge.plan_execution import PlanExecution
from spec_decode_ros.lab.demo.body import BodyState
from spec_decode_ros.lab.demo.goal import MissionResult
from spec_decode_ros.lab.demo.plan_goal import PlanGoal, PlanProgress, PlanWatch
from spec_decode_ros.lab.episodes.episode import ACTION_LASTS_S, Policy
from spec_decode_ros.robots.guard import MotionGuard
from spec_decode_ros.robots.guard_types import SITTING
from spec_decode_ros.sim.go2 import CONTROL_PERIOD_S
from spec_decode_ros.sim.simulation import Simulation

LATENCY_S = 0.1


class SimulatedMission:
    """One plan, carried out by a policy; :meth:`run` returns the judgement.

    Actions and postures are obeyed as motion_node does it, with its hold on a robot that sits.
    """

    def __init__(self, goal: PlanGoal, plan: Plan, policy: Policy, simulation: Simulation) -> None:
        self._execution = PlanExecution(plan)
        self._watch = PlanWatch(goal)
        self._policy, self._sim = policy, simulation
        self._guard = MotionGuard()
        self._result: MissionResult | None = None
        self._shown: tuple[str, ...] = ()

    def run(self) -> MissionResult:
        last: str | None = None
        told: str | None = None
        while self._result is None:
            seen = self._sim.time
            step = self._execution.step
            if step is not None:
                last = last if step.text == told else None
                told = step.text
                last = self._policy(self._sim.jpeg(), told, last)
                self._advance(seen + LATENCY_S)
                self._obey(last, told, seen)
            self._advance(seen + ACTION_PERIOD_S)
        return self._result

    def _obey(self, text: str, step: str, seen: float) -> None:
        sim, action = self._sim, parse_action(text)
        self._guard.command(
            action.vx, action.wz, stamp=seen, now=sim.time, verified=True, duration_s=ACTION_LASTS_S
        )
        if action.posture == "sit down":
            self._guard.hold(SITTING, "the robot sits")
        elif action.posture:
            self._guard.lift(SITTING, clock=sim.time)
        if action.posture:
            sim.set_posture(action.posture)
        self._execution.decided(step, action, sim.time)

    def _advance(self, until: float) -> None:
        sim = self._sim
        while sim.time < until - CONTROL_PERIOD_S / 2 and self._result is None:
            output = self._guard.step(now=sim.time)
            sim.set_velocity(output.vx, output.wz)
            sim.step(CONTROL_PERIOD_S)
            self._execution.passed(sim.time)
            self._tell()

    def _tell(self) -> None:
        execution, odometry = self._execution, self._sim.odometry
        if self._shown != tuple(execution.states):
            self._shown = tuple(execution.states)
            steps = tuple(
                (step.text, state) for step, state in zip(execution.steps, execution.states, strict=True)
            )
            bad = bool(execution.failure)
            self._watch.planned(PlanProgress(self._sim.time, execution.failure, steps, bad))
        pose = (odometry.pose.x, odometry.pose.y, odometry.pose.yaw)
        body = BodyState(odometry.time, *pose, self._sim.robot.height, abs(odometry.vx), odometry.wz)
        self._result = self._watch.moved(body)
