"""Closed-loop episodes: a policy gets frames and returns actions, which the simulated robot executes behind the guard.

An episode asks for one object. It succeeds when the policy says that it has reached it and the robot stands still in
front of it: near, facing it, upright, and without having touched anything on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

from spec_decode_ros.actions.action import ACTION_PERIOD_S, Action, ActionError, parse_action
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.robots.guard import MotionGuard
from spec_decode_ros.sim.go2 import CONTROL_PERIOD_S
from spec_decode_ros.sim.simulation import Simulation
from spec_decode_ros.sim.task import Task

Policy = Callable[[bytes, str, "str | None"], str]
"""(JPEG bytes, instruction, text of the last valid action or None) -> action text."""

# An action is meant for one period. It lasts a little longer, so that a slightly late successor does not interrupt the
# motion, but not much longer, so that the robot does not turn much further than meant.
ACTION_LASTS_S = 1.2 * ACTION_PERIOD_S


@dataclass(frozen=True)
class Rules:
    """When an episode ends and what counts as success. All times are simulated.

    Attributes:
        reach_m: metres from the head camera to the object's surface, at most.
        facing_deg: degrees between the heading and the object's centre, at most.
        time_out_s: seconds until an episode has failed.
        still_decisions: number of consecutive decisions with zero velocity and the same kind of note that end it.
        still_s: seconds that the robot has to have been commanded to stand.
        latency_s: seconds from a frame to the effect of the action decided on it.
        period_s: seconds between two decisions; a longer latency makes it longer.
    """

    reach_m: float = 0.6
    facing_deg: float = 25.0
    time_out_s: float = 60.0
    still_decisions: int = 3
    still_s: float = 1.0
    latency_s: float = 0.1
    period_s: float = ACTION_PERIOD_S

    def __post_init__(self) -> None:
        for name in ("reach_m", "facing_deg", "time_out_s", "still_decisions", "period_s"):
            if not getattr(self, name) > 0:
                raise SpecDecodeError(f"{name} is {getattr(self, name)}: it must be above zero")
        if self.latency_s < 0 or self.still_s < 0:
            raise SpecDecodeError("latency_s and still_s must not be below zero")


@dataclass(frozen=True)
class EpisodeResult:
    """One row of an evaluation. Distances in metres, times in simulated seconds."""

    seed: int
    instruction: str
    target: str
    success: bool
    reason: str
    distance: float
    time: float
    path_length: float
    decisions: int
    invalid_actions: int
    collisions: tuple[str, ...]

    def as_row(self) -> dict[str, object]:
        """Plain values, for JSON."""
        row = asdict(self)
        row["collisions"] = list(self.collisions)
        for name in ("distance", "time", "path_length"):
            row[name] = round(row[name], 3)
        return row


class Episode:
    """One run of a task.

    Args:
        task: what to do.
        policy: decides the actions.
        rules: limits and criteria.
        simulation: of the task's scene; the caller closes it.
        latency: called after every decision for its latency in seconds, instead of the rules' ``latency_s``.
    """

    def __init__(
        self,
        task: Task,
        policy: Policy,
        rules: Rules | None = None,
        *,
        simulation: Simulation,
        latency: Callable[[], float] | None = None,
    ) -> None:
        self.task = task
        self.rules = rules or Rules()
        self.simulation = simulation
        self._policy = policy
        self._guard = MotionGuard()
        self._latency = latency or (lambda: self.rules.latency_s)
        self._last: str | None = None
        self._said: list[Action] = []
        self._decisions = 0
        self._invalid = 0
        self._still_since: float | None = None

    def run(self) -> EpisodeResult:
        """Run until success, failure or time-out, as fast as the machine can."""
        sim, rules = self.simulation, self.rules
        reason = None
        due = sim.time
        while reason is None:
            seen_at = sim.time
            text = self._policy(sim.jpeg(), self.task.instruction, self._last)
            self._decisions += 1
            latency_s = self._latency()
            self._advance(seen_at + latency_s)
            self._obey(text, seen_at)
            # Counted from when it was due, so that rounding to control periods does not accumulate.
            due = max(due + rules.period_s, seen_at + latency_s)
            self._advance(due)
            reason = self._reason_to_end()
        return self._result(reason)

    def _obey(self, text: str, seen_at: float) -> None:
        sim = self.simulation
        try:
            action = parse_action(text)
        except ActionError as error:
            self._guard.reject(str(error))
            self._invalid += 1
            self._said.clear()
            self._still_since = None
            return
        verdict = self._guard.command(
            action.vx, action.wz, stamp=seen_at, now=sim.time, verified=True, duration_s=ACTION_LASTS_S
        )
        self._last = text
        if verdict.accepted and action.posture:
            sim.set_posture(action.posture)
        if action.moves or (self._said and not _same_ending(action, self._said[-1])):
            self._said.clear()
            self._still_since = None
        if not action.moves:
            self._said.append(action)
            self._still_since = sim.time if self._still_since is None else self._still_since

    def _advance(self, until: float) -> None:
        """Advance time with the guard's velocities; returns early when the episode has failed."""
        sim = self.simulation
        while sim.time < until - CONTROL_PERIOD_S / 2 and not self._lost():
            output = self._guard.step(now=sim.time)
            sim.set_velocity(output.vx, output.wz)
            sim.step(CONTROL_PERIOD_S)

    def _lost(self) -> str | None:
        if self.simulation.robot.fallen:
            return "fell"
        if self.simulation.collisions:
            return f"touched the {self.simulation.collisions[0].thing}"
        return None

    def _reason_to_end(self) -> str | None:
        sim, rules = self.simulation, self.rules
        if lost := self._lost():
            return lost
        if len(self._said) >= rules.still_decisions and self._still_since is not None:
            self._advance(self._still_since + rules.still_s)
            return self._lost() or self._judge(self._said[-1])
        return "time out" if sim.time >= rules.time_out_s else None

    def _judge(self, action: Action) -> str:
        sim, target = self.simulation, self.task.target
        if not action.note.endswith("reached"):
            return f"gave up: {action.note}"
        if sim.distance_to(target) > self.rules.reach_m:
            nearest = min(self.task.scene.objects, key=lambda thing: sim.distance_to(thing.name)).name
            return f"stopped at the {nearest}" if nearest != target else "stopped too far away"
        if abs(math.degrees(sim.bearing_to(target))) > self.rules.facing_deg:
            return "stopped facing elsewhere"
        return "reached"

    def _result(self, reason: str) -> EpisodeResult:
        sim, task = self.simulation, self.task
        return EpisodeResult(
            seed=task.seed,
            instruction=task.instruction,
            target=task.target,
            success=reason == "reached",
            reason=reason,
            distance=sim.distance_to(task.target),
            time=sim.time,
            path_length=sim.path_length,
            decisions=self._decisions,
            invalid_actions=self._invalid,
            collisions=tuple(hit.thing for hit in sim.collisions),
        )


def _same_ending(one: Action, other: Action) -> bool:
    return one.note.endswith("reached") == other.note.endswith("reached")


def run_episode(
    task: Task, policy: Policy, rules: Rules | None = None, latency: Callable[[], float] | None = None
) -> EpisodeResult:
    """Run a task in a new simulation; arguments as of :class:`Episode`."""
    with Simulation(task.scene, task.seed) as simulation:
        return Episode(task, policy, rules, simulation=simulation, latency=latency).run()
