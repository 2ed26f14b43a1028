"""Episodes with a simulated Go2: all parts are those that drive the real robot, up to Unitree's services over DDS.

The robot is a process of its own, a new one in a new room for every episode, so the nodes have to find it again each
time.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from spec_decode_ros.lab.demo.goal import MissionGoal
from spec_decode_ros.lab.demo.mission import run_mission
from spec_decode_ros.lab.demo.robot_log import RobotLogReader
from spec_decode_ros.lab.demo.stack import Stack, Value, free_domain, running_stack, stay_on_this_machine
from spec_decode_ros.lab.network.link import LinkProfile, link_process
from spec_decode_ros.server.process import spawn_server
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
    """How the episodes run: folder for logs and bags, parameters of the drafter node, emulated link, and time limit."""

    out: Path
    pair: str = "tiny"
    method: str = "auto"
    rtt_ms: float = 60.0
    time_out_s: float = 60.0


def free_dds_domain() -> int:
    """A DDS domain of one's own, away from those of ROS."""
    return random.SystemRandom().randint(120, 230)


def start_robot_nodes(nodes: Stack, stack: Go2Stack, endpoint: str, dds_domain: int) -> None:
    """Start the nodes that run on a Go2; `endpoint` is the verifier's, or that of a link to it."""
    there: dict[str, Value] = {"network_interface": INTERFACE, "dds_domain": dds_domain}
    nodes.start("motion_node", {"robot": "go2", **there})
    nodes.start("camera_node", {"source": "go2", **there})
    drafter: dict[str, Value] = {"pair": stack.pair, "method": stack.method, "endpoint": endpoint}
    nodes.start("drafter_node", {**drafter, "threads": 1})


def go2_arguments(seed: int, dds_domain: int, log: Path) -> list[str]:
    """Arguments of ``spec-decode`` for a simulated Go2 in the room of that seed."""
    return ["go2-sim", f"--seed={seed}", f"--domain={dds_domain}", f"--interface={INTERFACE}", f"--log={log}"]


def run_episodes(
    stack: Go2Stack, seeds: range, show: Callable[[Go2Episode], None] = lambda episode: None
) -> list[Go2Episode]:
    """Run one episode for each seed, with the same verifier and nodes; ``show`` gets each episode at once."""
    stay_on_this_machine()
    domain, dds_domain = free_domain(), free_dds_domain()
    episodes = []
    with ExitStack() as exits:
        endpoint = exits.enter_context(spawn_server(stack.pair, threads=1))
        if stack.rtt_ms:
            endpoint = exits.enter_context(link_process(endpoint, LinkProfile(rtt_ms=stack.rtt_ms)))
        nodes = exits.enter_context(running_stack(stack.out / "logs", domain))
        start_robot_nodes(nodes, stack, endpoint, dds_domain)
        for seed in seeds:
            episodes.append(_run(stack, seed, nodes, domain, dds_domain))
            show(episodes[-1])
    return episodes


def _run(stack: Go2Stack, seed: int, nodes: Stack, domain: int, dds_domain: int) -> Go2Episode:
    task = make_task(seed)
    goal = MissionGoal(task.scene, task.target, task.instruction, time_out_s=stack.time_out_s)
    folder = stack.out / f"episode_{seed}"
    path = folder / "robot.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    robot = [sys.executable, "-m", "spec_decode_ros", *go2_arguments(seed, dds_domain, path), "--with-parent"]
    with ReadyChild(robot, "go2-sim", _READY_S):
        mission = run_mission(
            goal, folder, domain, check=nodes.check, ready_timeout_s=_READY_S, stop_after=True
        )
    log = RobotLogReader(path).read()
    story = mission.story
    outcome = story.outcome
    assert outcome is not None  # run_mission returns only when the mission is over
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
