"""Runs episodes with the simulated Go2, prints each, and makes the JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from spec_decode_ros.decoding.methods import method_named
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.demo.go2 import Go2Episode, Go2Stack, run_episodes
from spec_decode_ros.models.pair_config import load_pair_config


def rate_episodes(stack: Go2Stack, seed: int, count: int, console: Console) -> dict[str, Any]:
    """Run episodes from a seed on, and return the results for JSON. Raises SpecDecodeError."""
    load_pair_config(stack.pair)
    if not method_named(stack.method).uses_cloud:
        raise SpecDecodeError(f"every action is verified here: choose another method than {stack.method}")
    console.print("Starting the verifier, motion_node, camera_node and drafter_node …")

    def show(episode: Go2Episode) -> None:
        colour = "green" if episode.success else "red"
        console.print(
            f"room {episode.seed}: “{episode.instruction}” … [{colour}]{episode.reason}[/], {episode.time:.1f} s, "
            f"{episode.distance:.2f} m away; {episode.actions} actions, {episode.orders.get('move', 0)} moves and "
            f"{episode.orders.get('stop', 0)} stops at the robot",
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
