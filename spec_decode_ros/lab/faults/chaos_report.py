"""Runs `spec-decode chaos`: prints progress and result, and makes the JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from spec_decode_ros.lab.bench.fleet.recording import record_pair
from spec_decode_ros.lab.faults.chaos import ChaosPlan, chaos_rig, services_of
from spec_decode_ros.lab.text_table import TextTable


def run_chaos(pair: str, plan: ChaosPlan, frames: int, console: Console) -> dict[str, Any]:
    """Record drafts of `frames` frames, inject the faults, and return the account for JSON. Raises SpecDecodeError."""
    console.print(f"recording what the draft model says about {frames} frames …")
    recording = record_pair(pair, frames, plan.seed)
    console.print(f"{plan.faults} faults in {plan.faults * plan.every_s:.0f} s …")
    printed = 0

    def report(done: int) -> None:
        nonlocal printed
        if done >= printed + max(1, plan.faults // 10):
            printed = done
            console.print(f"{done} faults", style="dim")

    with chaos_rig(services_of(pair, plan), recording, plan) as chaos:
        found = chaos.run(report).as_dict()
    found["complaints"] = [line for service in chaos.services for line in service.complaints]
    print_chaos(console, found)
    return found


def print_chaos(console: Console, found: dict[str, Any]) -> None:
    """Print the faults, the outcomes of the actions, and what was wrong."""
    outcomes = list(found["actions_by_outcome"])
    rows = [
        [kind, str(found["faults_by_kind"][kind]), *(str(counts.get(name) or "–") for name in outcomes)]
        for kind, counts in found["outcomes_by_fault"].items()
    ]
    counts = found["actions_by_outcome"]
    rows.append(["all", str(found["faults"]), *(str(counts[name]) for name in outcomes)])
    columns = ["", *(name.replace(" ", "\n") for name in ("times", *outcomes))]
    title = "Faults, and what became of the actions that they may have met"
    TextTable(columns, rows, title).print(console)
    console.print(
        f"{found['actions']} actions; the slowest took {found['slowest_s']:.2f} s ({found['slowest_outcome']}), "
        f"{found['deadline_s']:g} s are allowed"
    )
    if found["standstills"]:
        console.print(
            f"the machine itself stood still {found['standstills']} times, for "
            f"{found['longest_standstill_s']:.1f} s at most",
            style="dim",
        )
    for sentence, count in found["why_refused"].items():
        console.print(f"refused {count} times: {sentence}", style="dim")
    for line in found["complaints"]:
        console.print(f"a server said: {line}", style="dim")
    for wrong in found["wrongs"]:
        console.print(f"wrong: {wrong}", style="red")
    if found["passed"]:
        console.print("every action ended as it may")
