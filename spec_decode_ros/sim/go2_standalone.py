"""The simulated Go2 as a process of its own: it announces itself and runs until a signal or its time ends it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import NoReturn

from spec_decode_ros.sim.go2_dds_process import Go2SimOptions, OnDemandCamera, SimulatedGo2
from spec_decode_ros.transport.process import READY
from spec_decode_ros.transport.signals import end_with_parent


def be_the_robot(options: Go2SimOptions, with_parent: bool) -> NoReturn:
    """Answer Unitree's services; the process ends in here.

    Args:
        options: of the robot.
        with_parent: end also when standard input closes.

    Raises:
        SpecDecodeError: the robot can't be started.
    """
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    if with_parent:
        end_with_parent()
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


def _freeze_by_signal(camera: OnDemandCamera) -> None:
    """SIGUSR1 freezes the camera, and the next one lets it go on, so that the fault can be tried."""

    def toggle(*_: object) -> None:
        camera.frozen = not camera.frozen

    signal.signal(signal.SIGUSR1, toggle)
