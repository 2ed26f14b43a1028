"""Break servers, links, robots and single messages while robots act, and account for every action."""

from __future__ import annotations

import argparse
import importlib.util
from typing import TYPE_CHECKING, Any

from spec_decode_ros.errors import SpecDecodeError

if TYPE_CHECKING:
    from rich.console import Console

_METHODS = ["cloud", "colocated", "sync", "pipelined", "auto"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Starts two verifiers (and with Ray one of two replicas), and groups of simulated robots with recorded drafts, each "
        "behind links of its own. Connections are cut, servers frozen or killed, robots killed, messages delayed by "
        "seconds, repeated, reordered, truncated or followed by garbage. Every action has to end verified, with the tokens "
        "that the target says alone, or marked unverified, or refused with a reason, before its time is up; the exit code "
        "is 1 if one does not, or if robots are not served again afterwards."
    )
    parser.add_argument("--faults", type=int, default=1000, metavar="N", help="how many (%(default)s)")
    parser.add_argument(
        "--every",
        type=float,
        default=0.5,
        metavar="S",
        help="seconds between two of them on average (%(default)g)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="which faults come, and when (%(default)s)"
    )
    parser.add_argument("--groups", type=int, default=3, metavar="N", help="of robots (%(default)s)")
    parser.add_argument("--robots", type=int, default=4, metavar="N", help="in each group (%(default)s)")
    parser.add_argument(
        "--rate", type=float, default=1.0, metavar="R", help="actions a second of each robot (%(default)g)"
    )
    parser.add_argument(
        "--deadline", type=float, default=4.0, metavar="S", help="longest action, in seconds (%(default)g)"
    )
    parser.add_argument(
        "--rtt-ms", type=float, default=20.0, metavar="R", help="round-trip time (%(default)g)"
    )
    parser.add_argument("--frames", type=int, default=40, metavar="N", help="recorded frames (%(default)s)")
    parser.add_argument("--pair", default="tiny", help="model pair, by name or as a .yaml file (%(default)s)")
    parser.add_argument(
        "--ray",
        action=argparse.BooleanOptionalAction,
        help="also two replicas under Ray, one killed now and then; by default where Ray is installed",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the result here; - is standard output, and only it"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 if every action ended as it may."""
    from rich.console import Console

    from spec_decode_ros.json_output import write_json
    from spec_decode_ros.lab.bench.fleet import ways_of
    from spec_decode_ros.lab.bench.fleet_recording import record_pair
    from spec_decode_ros.lab.bench.machine import machine
    from spec_decode_ros.lab.faults.chaos import ChaosPlan, chaos_rig, services_of

    if args.frames < 1:
        raise SpecDecodeError("--frames has to be at least 1")
    ray = importlib.util.find_spec("ray") is not None
    if args.ray and not ray:
        raise ModuleNotFoundError("No module named 'ray'", name="ray")
    plan = ChaosPlan(
        ways_of(_METHODS),
        args.faults,
        args.every,
        args.groups,
        args.robots,
        args.rate,
        args.deadline,
        args.rtt_ms,
        ray if args.ray is None else args.ray,
        args.seed,
    )
    console = Console(highlight=False, stderr=args.json == "-")
    console.print(f"recording what the draft model says about {args.frames} frames …")
    recording = record_pair(args.pair, args.frames, args.seed)
    console.print(f"{plan.faults} faults in {plan.faults * plan.every_s:.0f} s …")
    told = 0

    def report(done: int) -> None:
        nonlocal told
        if done >= told + max(1, plan.faults // 10):
            told = done
            console.print(f"[dim]{done} faults[/]")

    with chaos_rig(services_of(args.pair, plan), recording, plan) as chaos:
        found = chaos.run(report).as_dict()
    found["complaints"] = [line for service in chaos.services for line in service.complaints]
    _print(console, found)
    if args.json:
        asked = {
            name: getattr(args, name) for name in ("seed", "groups", "robots", "rate", "rtt_ms", "every")
        }
        write_json(args.json, {"pair": args.pair, "machine": machine(), **asked, **found})
    return 0 if found["passed"] else 1


def _print(console: Console, found: dict[str, Any]) -> None:
    from rich.table import Table

    verdicts = list(found["actions_by_verdict"])
    table = Table(title="Faults, and what became of the actions that they may have met", box=None)
    table.add_column("")
    for name in ("times", *verdicts):
        table.add_column(name.replace(" ", "\n"), justify="right")
    for kind, counts in found["verdicts_by_fault"].items():
        cells = (str(counts.get(name) or "–") for name in verdicts)
        table.add_row(kind, str(found["faults_by_kind"][kind]), *cells)
    counts = found["actions_by_verdict"]
    table.add_row("[bold]all[/]", str(found["faults"]), *(str(counts[name]) for name in verdicts))
    console.print(table)
    console.print(
        f"{found['actions']} actions; the slowest took {found['slowest_s']:.2f} s ({found['slowest_verdict']}), "
        f"{found['deadline_s']:g} s are allowed"
    )
    if found["standstills"]:
        console.print(
            f"[dim]the machine itself stood still {found['standstills']} times, for "
            f"{found['longest_standstill_s']:.1f} s at most[/]"
        )
    for sentence, count in found["why_refused"].items():
        console.print(f"[dim]refused {count} times: {sentence}[/]")
    for line in found["complaints"]:
        console.print(f"[dim]a server said: {line}[/]")
    for wrong in found["wrongs"]:
        console.print(f"[red]wrong: {wrong}[/]")
    if found["passed"]:
        console.print("every action ended as it may")
