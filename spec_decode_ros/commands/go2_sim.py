"""Be a Unitree Go2 that isn't there: a simulated robot behind the real robot's services."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from spec_decode_ros.transport.process import READY

if TYPE_CHECKING:
    from spec_decode_ros.sim.go2_dds_process import Eye


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.description = (
        "Be a Unitree Go2 that isn't there: a robot in a simulated room that answers the services of a real one "
        "(sport, video, obstacle avoidance, state) over Cyclone DDS. Unitree's SDK, and with it this package's "
        "motion_node and camera_node, cannot tell the difference. There is no window."
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


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when it ended as asked."""
    from spec_decode_ros.robots.go2_channel import require_sdk

    require_sdk()
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
    with _set_by_signals(stop), SimulatedGo2(options) as robot:
        _freeze_by_signal(robot.eye)
        print(
            f"a Go2 in room {options.seed}, where there is a {robot.target}; Ctrl-C ends it",
            file=sys.stderr,
            flush=True,
        )
        print(f"{READY}on {options.interface or 'any interface'}, domain {options.domain}", flush=True)
        robot.live(stop.is_set)
    # DDS threads of the SDK cannot be ended; what had to be closed is closed.
    sys.stdout.flush()
    os._exit(0)


def _freeze_by_signal(eye: Eye) -> None:
    """SIGUSR1 hangs the camera up and lets it go again, so that a fault can be tried."""

    def toggle(*_: object) -> None:
        eye.frozen = not eye.frozen

    signal.signal(signal.SIGUSR1, toggle)


@contextlib.contextmanager
def _set_by_signals(stop: threading.Event) -> Iterator[None]:
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _end_with_parent(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()
