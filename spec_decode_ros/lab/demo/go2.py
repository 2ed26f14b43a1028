"""Episodes with a simulated Go2: all parts are those that drive the real robot, up to Unitree's services over DDS.

The robot is a process of its own, a new one in a new room for every episode, so the nodes have to find it again each
time.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from spec_decode_ros.lab.demo.goal import MissionGoal
from spec_decode_ros.lab.demo.mission import Goal, Story, run_mission
from spec_decode_ros.lab.demo.robot_log import RobotLogReader
from spec_decode_ros.lab.demo.stack import (
    COMMANDS,
    Stack,
    Value,
    free_domain,
    running_stack,
    start_drafter,
    stay_on_this_machine,
)
from spec_decode_ros.lab.demo.verifiers import linked_verifiers
from spec_decode_ros.sim.task import make_task
from spec_decode_ros.transport.process import ReadyChild

INTERFACE = "lo"
_READY_S = 120.0


@dataclass(frozen=True)
class Go2Episode:
    """One row. Distances in metres, times in seconds; ``orders`` counts those that arrived at the robot, by kind."""

    seed: int
    target: str
    instruction: str
    success: bool
    reason: str
    distance: float
    time: float
    collisions: tuple[str, ...]
    actions: int
    orders: dict[str, int]

    def as_row(self) -> dict[str, object]:
        """For JSON."""
        rounded = {"distance": round(self.distance, 3), "time": round(self.time, 3)}
        return {**asdict(self), "collisions": list(self.collisions), **rounded}


@dataclass(frozen=True)
class Go2Stack:
    """How the episodes run.

    Attributes:
        out: folder for logs and bags.
        pair, method: of the drafter node.
        rtt_ms: of the emulated link.
        time_out_s: seconds until an episode, or one step of a mission, has failed.
        planner: pair of the planner node.
    """

    out: Path
    pair: str = "tiny"
    method: str = "auto"
    rtt_ms: float = 60.0
    time_out_s: float = 60.0
    planner: str = "planner"


def free_dds_domain() -> int:
    """A DDS domain of one's own, away from those of ROS."""
    return random.SystemRandom().randint(120, 230)


def start_robot_nodes(
    nodes: Stack, stack: Go2Stack, endpoint: str, dds_domain: int, hears: str = COMMANDS
) -> None:
    """Start the nodes that run on a Go2.

    Args:
        nodes: where they are added.
        stack: how they run.
        endpoint: the verifier's, or that of a link to it.
        dds_domain: of the robot.
        hears: the topic of the drafter's commands.
    """
    there: dict[str, Value] = {"network_interface": INTERFACE, "dds_domain": dds_domain}
    nodes.start("motion_node", {"robot": "go2", **there})
    nodes.start("camera_node", {"source": "go2", **there})
    start_drafter(nodes, stack.pair, stack.method, endpoint, hears)


def go2_arguments(seed: int, dds_domain: int, log: Path) -> list[str]:
    """Arguments of ``spec-decode`` for a simulated Go2 in the room of that seed."""
    return ["go2-sim", f"--seed={seed}", f"--domain={dds_domain}", f"--interface={INTERFACE}", f"--log={log}"]


@dataclass(frozen=True)
class RunningNodes:
    """The robot's nodes on a ROS domain, and the DDS domain on which they look for the robot."""

    nodes: Stack
    domain: int
    dds_domain: int


@contextmanager
def running_nodes(stack: Go2Stack, hears: str = COMMANDS) -> Iterator[RunningNodes]:
    """A verifier behind an emulated link and the robot's nodes; arguments as of :func:`start_robot_nodes`."""
    stay_on_this_machine()
    domain, dds_domain = free_domain(), free_dds_domain()
    with (
        linked_verifiers([stack.pair], stack.rtt_ms) as (endpoint,),
        running_stack(stack.out / "logs", domain) as nodes,
    ):
        start_robot_nodes(nodes, stack, endpoint, dds_domain, hears)
        yield RunningNodes(nodes, domain, dds_domain)


def run_episodes(
    stack: Go2Stack, seeds: range, show: Callable[[Go2Episode], None] = lambda episode: None
) -> list[Go2Episode]:
    """Run one episode for each seed, with the same verifier and nodes; ``show`` gets each episode at once."""
    episodes = []
    with running_nodes(stack) as running:
        for seed in seeds:
            episodes.append(_run(stack, seed, running))
            show(episodes[-1])
    return episodes


def _run(stack: Go2Stack, seed: int, running: RunningNodes) -> Go2Episode:
    task = make_task(seed)
    goal = MissionGoal(task.scene, task.target, task.instruction, time_out_s=stack.time_out_s)
    story, log = run_in_room(goal, seed, stack.out / f"episode_{seed}", running)
    outcome = story.outcome
    assert outcome is not None and outcome.distance_m is not None
    return Go2Episode(
        seed=seed,
        target=task.target,
        instruction=task.instruction,
        success=outcome.success and not log.touched,
        reason=f"touched the {log.touched[0]}" if log.touched else outcome.reason,
        distance=outcome.distance_m,
        time=story.took_s,
        collisions=tuple(log.touched),
        actions=len(story.verified),
        orders=dict(log.counts),
    )


def run_in_room(goal: Goal, seed: int, folder: Path, running: RunningNodes) -> tuple[Story, RobotLogReader]:
    """Put a new robot into the room of a seed and run a mission there; its story, and the robot's own account."""
    path = folder / "robot.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    arguments = go2_arguments(seed, running.dds_domain, path)
    with ReadyChild(
        [sys.executable, "-m", "spec_decode_ros", *arguments, "--with-parent"], "go2-sim", _READY_S
    ):
        mission = run_mission(
            goal,
            folder,
            running.domain,
            check=running.nodes.check,
            ready_timeout_s=_READY_S,
            stop_after=True,
        )
    return mission.story, RobotLogReader(path).read()
