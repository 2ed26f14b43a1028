"""Runs a soak test, and prints its progress and its result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from spec_decode_ros.lab.bench.fleet.log import LoggedAction
from spec_decode_ros.lab.bench.fleet.recording import record_pair
from spec_decode_ros.lab.bench.fleet.rig import fleet_rig
from spec_decode_ros.lab.bench.fleet.soak import SoakPlan, soak
from spec_decode_ros.lab.network.link import LinkProfile
from spec_decode_ros.lab.text_table import TextTable


def run_soak(pair: str, plan: SoakPlan, frames: int, rtt_ms: float, console: Console) -> dict[str, Any]:
    """Record drafts of `frames` frames, let the robots act, and return the result for JSON. Raises SpecDecodeError."""
    console.print(f"recording what the draft model says about {frames} frames …")
    recording = record_pair(pair, frames, plan.seed)
    profile = LinkProfile(rtt_ms=rtt_ms)
    console.print(
        f"{plan.robots} robots for {plan.seconds / 60:g} minutes, each {plan.rate:g} actions a second …"
    )

    def report(elapsed_s: float, acts: Sequence[LoggedAction], memory: int | None) -> None:
        verified = sum(act.outcome == "verified" for act in acts)
        failed = sum(act.outcome not in ("verified", None) for act in acts)
        size = "" if memory is None else f", server {memory / 1e6:.0f} MB"
        console.print(f"{elapsed_s:.0f} s: {verified} actions verified, {failed} failed{size}", style="dim")

    with fleet_rig(pair, recording, profile) as rig:
        found = soak(rig, plan, report).as_dict()
    print_soak(console, found)
    return found


def print_soak(console: Console, found: dict[str, Any]) -> None:
    """Print the actions, their times, the memory, and what was wrong."""
    rows = [
        ("actions", f"{found['actions']}, of them {found['late_actions']} begun late"),
        ("verified", str(found["verified_actions"])),
        ("tokens as the target's alone", str(found["same_actions"])),
        ("by method", ", ".join(f"{way} {count}" for way, count in found["actions_by_way"].items())),
    ]
    if times := found["ttva_ms"]:
        text = ", ".join(f"{name} {ms:.0f}" for name, ms in times.items())
        rows.append(("frame to verified action, ms", text))
    for whose in ("server", "robots"):
        if memory := found[f"{whose}_memory"]:
            text = (
                f"{memory['median_mb']:.0f} MB, varied by {memory['spread']:.1%}, "
                f"grew by {memory['growth_mb']:.1f} MB ({memory['slope_mb_per_hour']:+.0f} an hour)"
            )
            rows.append((f"memory of the {whose}", text))
    TextTable(["", ""], rows, left=2).print(console)
    for trouble in found["troubles"]:
        console.print(f"wrong: {trouble}", style="red")
    if found["passed"]:
        console.print("nothing was wrong")
