"""Runs episodes and missions with the simulated Go2, prints each, and makes the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from spec_decode_ros.decoding.methods import method_named
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.demo.go2 import Go2Episode, Go2Stack, run_episodes
from spec_decode_ros.lab.demo.go2_missions import Go2Mission, run_missions
from spec_decode_ros.lab.demo.mission_task import make_mission, shipped_missions
from spec_decode_ros.models.pair_config import load_pair_config

_REAL_TIME = 0.9
"""Simulated seconds per second from which on an outcome is the robot's and not the machine's."""


def _check(stack: Go2Stack, *pairs: str) -> None:
    for pair in (stack.pair, *pairs):
        load_pair_config(pair)
    if not method_named(stack.method).uses_cloud:
        raise SpecDecodeError(f"every action is verified here: choose another method than {stack.method}")


def rate_episodes(stack: Go2Stack, seed: int, count: int, console: Console) -> dict[str, Any]:
    """Run episodes from a seed on, and return the results for JSON. Raises SpecDecodeError."""
    _check(stack)
    console.print("Starting the verifier, motion_node, camera_node and drafter_node …")

    def show(episode: Go2Episode) -> None:
        colour = "green" if episode.success else "red"
        console.print(
            Text(f"room {episode.seed}: “{episode.instruction}” … ")
            + Text(episode.reason, colour)
            + Text(
                f", {episode.time:.1f} s, {episode.distance:.2f} m away; {episode.actions} actions, "
                f"{episode.orders.get('move', 0)} moves and {episode.orders.get('stop', 0)} stops at the robot"
            ),
            soft_wrap=True,
        )

    episodes = run_episodes(stack, range(seed, seed + count), show)
    successes = sum(episode.success for episode in episodes)
    rate = successes / len(episodes)
    console.print(
        f"success_rate {rate:.2f} ({successes} of {len(episodes)}), through Unitree's services over DDS, method "
        f"{stack.method}, pair {stack.pair}, RTT {stack.rtt_ms:g} ms; logs and bags in {stack.out}",
        soft_wrap=True,
    )
    return {
        "pair": stack.pair,
        "method": stack.method,
        "seed": seed,
        "rtt_ms": stack.rtt_ms,
        "episodes": len(episodes),
        "successes": successes,
        "success_rate": rate,
        "rows": [episode.as_row() for episode in episodes],
    }


def rate_missions(stack: Go2Stack, seed: int, count: int, console: Console) -> dict[str, Any]:
    """Run missions of several steps from a seed on, and return the results for JSON. Raises SpecDecodeError."""
    _check(stack, stack.planner)
    templates = shipped_missions()
    tasks = [make_mission(each, templates) for each in range(seed, seed + count)]
    console.print("Starting two verifiers, motion_node, camera_node, drafter_node and planner_node …")

    def show(mission: Go2Mission) -> None:
        colour = "green" if mission.success else "red"
        console.print(
            Text(f"room {mission.seed}: “{mission.sentence}” … ")
            + Text(mission.reason, colour)
            + Text(f", {mission.time:.1f} s"),
            soft_wrap=True,
        )
        for step in mission.steps:
            console.print(
                Text(f"  {step.step}: ")
                + Text(step.reason, "green" if step.success else "red")
                + Text(f", {step.ended - step.began:.1f} s"),
                soft_wrap=True,
            )

    missions = run_missions(stack, tasks, show)
    return missions_document(stack, seed, missions, console)


def missions_document(
    stack: Go2Stack, seed: int, missions: Sequence[Go2Mission], console: Console
) -> dict[str, Any]:
    """Print how many missions succeeded; all results for JSON."""
    successes = sum(mission.success for mission in missions)
    rate = successes / len(missions)
    console.print(
        f"success_rate {rate:.2f} ({successes} of {len(missions)} missions), planner {stack.planner}, pair {stack.pair}, "
        f"method {stack.method}, RTT {stack.rtt_ms:g} ms; logs and bags in {stack.out}",
        soft_wrap=True,
    )
    slow = sum(mission.real_time_factor < _REAL_TIME for mission in missions)
    if slow:
        console.print(
            f"In {slow} of them the machine was too slow to simulate the robot in real time.", style="yellow"
        )
    return {
        "pair": stack.pair,
        "planner": stack.planner,
        "method": stack.method,
        "seed": seed,
        "rtt_ms": stack.rtt_ms,
        "missions": len(missions),
        "successes": successes,
        "success_rate": rate,
        "rows": [mission.as_row() for mission in missions],
    }
