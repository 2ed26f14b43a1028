"""Episodes with a Go2 that isn't there: every part is the one that drives the real robot, up to Unitree's services.

camera_node asks the robot's video service, drafter_node drafts, the verifier verifies, motion_node guards and drives
the sport service. The robot is a process of its own, a new one in a new room for every episode, so the nodes also
have to find it again each time.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from spec_decode_ros.lab.demo.goal import MissionGoal
from spec_decode_ros.lab.demo.mission import run_mission
from spec_decode_ros.lab.demo.stack import Stack, Value, free_domain, running_stack, stay_on_this_machine
from spec_decode_ros.lab.network.link import LinkProfile, link_process
from spec_decode_ros.server.process import spawn_server
from spec_decode_ros.sim.task import make_task
from spec_decode_ros.transport.process import ReadyChild

INTERFACE = "lo"
_READY_S = 120.0


@dataclass(frozen=True)
class Go2Episode:
    """One row. Distances in metres, times in seconds; ``orders`` counts what arrived at the robot, by kind."""

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
        """Plain values, for JSON."""
        row = asdict(self)
        row["collisions"] = list(self.collisions)
        for name in ("distance", "time"):
            row[name] = round(row[name], 3)
        return row


@dataclass(frozen=True)
class Go2Stack:
    """How the episodes run.

    Attributes:
        out: folder for logs and bags. pair, method: as for the drafter node. rtt_ms: of the emulated link.
        time_out_s: seconds until an episode has failed.
    """

    out: Path
    pair: str = "tiny"
    method: str = "auto"
    rtt_ms: float = 60.0
    time_out_s: float = 60.0


def free_dds_domain() -> int:
    """A DDS domain of one's own, away from those that ROS uses."""
    return random.SystemRandom().randint(120, 230)


@contextmanager
def go2_nodes(stack: Go2Stack, domain: int, dds_domain: int) -> Iterator[Stack]:
    """The verifier, and the robot's nodes as they run on a Go2; the robot itself is not among them."""
    stay_on_this_machine()
    with ExitStack() as exits:
        endpoint = exits.enter_context(spawn_server(stack.pair, threads=1))
        if stack.rtt_ms:
            endpoint = exits.enter_context(link_process(endpoint, LinkProfile(rtt_ms=stack.rtt_ms)))
        nodes = exits.enter_context(running_stack(stack.out / "logs", domain))
        there: dict[str, Value] = {"network_interface": INTERFACE, "dds_domain": dds_domain}
        nodes.start("motion_node", {"robot": "go2", **there})
        nodes.start("camera_node", {"source": "go2", **there})
        nodes.start(
            "drafter_node", {"pair": stack.pair, "method": stack.method, "endpoint": endpoint, "threads": 1}
        )
        yield nodes


@contextmanager
def go2_process(seed: int, dds_domain: int, log: Path | None = None) -> Iterator[None]:
    """The robot, in the room of that seed; ``log`` is its own account, see ``go2-sim --log``."""
    command = [sys.executable, "-m", "spec_decode_ros", "go2-sim", f"--seed={seed}", f"--domain={dds_domain}"]
    command += [f"--interface={INTERFACE}", "--with-parent"]
    if log is not None:
        command.append(f"--log={log}")
    with ReadyChild(command, "go2-sim", _READY_S):
        yield


def run_episodes(
    stack: Go2Stack, seeds: range, show: Callable[[Go2Episode], None] = lambda episode: None
) -> list[Go2Episode]:
    """Run one episode for each seed, with the same nodes; ``show`` is told of each at once."""
    domain, dds_domain = free_domain(), free_dds_domain()
    episodes = []
    with go2_nodes(stack, domain, dds_domain) as nodes:
        for seed in seeds:
            episodes.append(_run(stack, seed, nodes, domain, dds_domain))
            show(episodes[-1])
    return episodes


def _run(stack: Go2Stack, seed: int, nodes: Stack, domain: int, dds_domain: int) -> Go2Episode:
    task = make_task(seed)
    goal = MissionGoal(task.scene, task.target, task.instruction, time_out_s=stack.time_out_s)
    folder = stack.out / f"episode_{seed}"
    log = folder / "robot.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    with go2_process(seed, dds_domain, log):
        mission = run_mission(
            goal, folder, domain, check=nodes.check, ready_timeout_s=_READY_S, stop_after=True
        )
    orders, collisions = read_robot_log(log)
    story = mission.story
    outcome = story.outcome
    assert outcome is not None  # run_mission returns only when the mission is over
    reason = f"touched the {collisions[0]}" if collisions else outcome.reason
    return Go2Episode(
        seed=seed,
        target=task.target,
        instruction=task.instruction,
        success=outcome.success and not collisions,
        reason=reason,
        distance=outcome.distance_m,
        time=story.took_s,
        collisions=collisions,
        actions=len(story.verified),
        orders=orders,
    )


def read_robot_log(log: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """How often each kind of order came, and what the robot touched."""
    orders: dict[str, int] = {}
    collisions: list[str] = []
    for line in log.read_text("utf-8").splitlines():
        entry = json.loads(line)
        event = entry["event"]
        if event == "touched":
            collisions.append(entry["thing"])
        elif event not in ("state", "ready", "end"):
            orders[event] = orders.get(event, 0) + 1
    return orders, tuple(collisions)
