"""The simulated Go2 behind Unitree's services, in real time: the process of ``spec-decode go2-sim``."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from unitree_sdk2py.go2.obstacles_avoid.obstacles_avoid_api import OBSTACLES_AVOID_SERVICE_NAME
from unitree_sdk2py.go2.sport.sport_api import SPORT_SERVICE_NAME
from unitree_sdk2py.go2.video.video_api import VIDEO_API_ID_GETIMAGESAMPLE, VIDEO_SERVICE_NAME
from unitree_sdk2py.rpc.internal import RPC_ERR_SERVER_API_NOT_IMPL, RPC_ERR_SERVER_INTERNAL, RPC_OK

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.robots.go2_channel import check_address, open_channel
from spec_decode_ros.sim.go2_dds import RpcReply, RpcService, StateTopics, with_comment
from spec_decode_ros.sim.go2_dds_sport import SportService
from spec_decode_ros.sim.simulation import Simulation
from spec_decode_ros.sim.task import make_task
from spec_decode_ros.transport.process import READY
from spec_decode_ros.transport.signals import end_with_parent

PERIOD_S = 0.02
_LOW_PERIODS = 5
_CAPTURE_WAIT_S = 0.5
_LOOK_AHEAD_RAD = math.radians(25.0)
_AVOID_AT_M = 0.35
_GIVE_UP_S = 0.25


@dataclass(frozen=True)
class Go2SimOptions:
    """Options of the simulated robot.

    Attributes:
        seed: of the room.
        domain: of DDS; a real Go2 uses 0.
        interface: network interface, ``lo`` for this machine only.
        camera_rate: new pictures per second at most.
        backend: of the camera, see :class:`~spec_decode_ros.sim.render.Camera`.
        battery: initial charge, per cent.
        duration_s: seconds until it ends; None: it runs until it is stopped.
        log: file of :class:`RobotLogWriter`; None: no log.
    """

    seed: int = 0
    domain: int = 0
    interface: str = "lo"
    camera_rate: float = 15.0
    backend: str = "auto"
    battery: float = 80.0
    duration_s: float | None = None
    log: Path | None = None

    def __post_init__(self) -> None:
        check_address(self.domain, self.interface)
        if self.seed < 0:
            raise SpecDecodeError(f"the seed is {self.seed}, but must be 0 or more")
        if not 0.5 <= self.camera_rate <= 60.0:
            raise SpecDecodeError(f"the camera rate is {self.camera_rate:g} Hz, but must be from 0.5 to 60")
        if not 0.0 <= self.battery <= 100.0:
            raise SpecDecodeError(f"the battery is {self.battery:g} %, but must be from 0 to 100")
        if self.duration_s is not None and not self.duration_s > 0.0:
            raise SpecDecodeError(f"the duration is {self.duration_s:g} s, but must be above 0")


class RobotLogWriter:
    """Log of the robot's events, one JSON line each, written at once.

    ``{"t": ..., "event": "move", "vx": ..., "vy": ..., "wz": ...}`` is an order as it arrived; others are ``stop``,
    ``damp``, ``stand up``, ``stand down``, ``balance stand``, ... ``expired`` means that the robot stopped because no
    Move came, ``touched`` a contact with a ``thing``. ``state`` has the real ``vx``, ``wz``, ``x``, ``y`` and ``yaw``,
    every 20 ms. ``t`` is time.monotonic(), one clock for all processes of a machine.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("w", encoding="utf-8", buffering=1)
            except OSError as error:
                raise SpecDecodeError(f"cannot write the log {path}: {error.strerror or error}") from error

    def __call__(self, event: str, **values: object) -> None:
        """Write one line; a number that is not finite becomes its name."""
        if self._file is None:
            return
        plain = {
            name: value if not isinstance(value, float) or math.isfinite(value) else str(value)
            for name, value in values.items()
        }
        with self._lock:
            if not self._file.closed:
                self._file.write(json.dumps({"t": time.monotonic(), "event": event, **plain}) + "\n")

    def close(self) -> None:
        if self._file is not None:
            with self._lock:
                self._file.close()


class OnDemandCamera:
    """The head camera for other threads: renders on demand, in the simulation's thread.

    Args:
        period_s: seconds between two pictures at least; until then the last picture is returned again.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._changed = threading.Condition()
        self._picture = b""
        self._taken = -math.inf
        self._count = 0
        self._requested = False
        self._frozen = False

    def toggle_frozen(self) -> None:
        """Freeze the camera, to try this fault, or release it: frozen, it returns the last picture again."""
        self._frozen = not self._frozen

    def capture(self) -> bytes:
        """JPEG bytes; empty if the simulation takes too long."""
        with self._changed:
            due = time.monotonic() - self._taken >= self._period_s
            if not self._picture or (due and not self._frozen):
                count, self._requested = self._count, True
                self._changed.wait_for(lambda: self._count != count, _CAPTURE_WAIT_S)
            return self._picture

    def serve(self, render: Callable[[], bytes]) -> None:
        """Render a picture if one is requested."""
        if not self._requested:
            return
        taken = time.monotonic()
        picture = with_comment(render(), f"capture {self._count} at {taken:.6f}".encode())
        with self._changed:
            self._picture, self._taken, self._requested = picture, taken, False
            self._count += 1
            self._changed.notify_all()


class SimulatedGo2:
    """A Go2 in a simulated room that answers Unitree's services; a context manager, to be used in one thread.

    Raises:
        SpecDecodeError: a package is missing, or the interface cannot be used.
    """

    def __init__(self, options: Go2SimOptions) -> None:
        self.options = options
        task = make_task(options.seed)
        self.target = task.target
        self._log = RobotLogWriter(options.log)
        self._sport = SportService(self._log)
        self.camera = OnDemandCamera(1.0 / options.camera_rate)
        self._sim = Simulation(task.scene, options.seed, options.backend)
        self._sim.jpeg()
        open_channel(options.domain, options.interface)
        self._topics = StateTopics(options.battery)
        self._services = [
            RpcService(SPORT_SERVICE_NAME, lambda api, data: (*self._sport.call(api, data), b"")),
            RpcService(
                OBSTACLES_AVOID_SERVICE_NAME, lambda api, data: (*self._sport.call_avoid(api, data), b"")
            ),
            RpcService(VIDEO_SERVICE_NAME, self._video),
        ]
        self._touched = 0
        self._log("ready", seed=options.seed, target=task.target)

    def _video(self, api: int, parameter: str) -> RpcReply:
        if api != VIDEO_API_ID_GETIMAGESAMPLE:
            return RPC_ERR_SERVER_API_NOT_IMPL, "", b""
        picture = self.camera.capture()
        return (RPC_OK, "", picture) if picture else (RPC_ERR_SERVER_INTERNAL, "", b"")

    def run(self, stopped: Callable[[], bool]) -> None:
        """Run in real time until `stopped()` or until the duration is over."""
        due = time.monotonic()
        periods = 0
        while not stopped() and not self._over():
            self._period(with_low_state=periods % _LOW_PERIODS == 0)
            periods += 1
            due += PERIOD_S
            behind = time.monotonic() - due
            if behind < 0.0:
                time.sleep(-behind)
            elif behind > _GIVE_UP_S:
                # The machine is too slow for real time: do not try to catch up.
                due = time.monotonic()

    def _over(self) -> bool:
        return self.options.duration_s is not None and self._sim.time >= self.options.duration_s

    def _period(self, with_low_state: bool) -> None:
        sim, orders = self._sim, self._sport.orders()
        if orders.posture:
            sim.set_posture(orders.posture)
        blocked = self._sport.avoids_obstacles and orders.vx > 0.0 and self._blocked()
        sim.set_velocity(0.0 if blocked else orders.vx, orders.wz)
        sim.step(PERIOD_S)
        odometry = sim.odometry
        pose = odometry.pose
        self._log("state", vx=odometry.vx, wz=odometry.wz, x=pose.x, y=pose.y, yaw=pose.yaw)
        for collision in sim.collisions[self._touched :]:
            self._touched += 1
            self._log("touched", thing=collision.thing)
        moves = orders.vx != 0.0 or orders.wz != 0.0
        self._topics.publish_mode(sim, self._sport.mode(moves, sim.robot.fallen))
        if with_low_state:
            self._topics.publish_low(sim)
        self.camera.serve(sim.jpeg)

    def _blocked(self) -> bool:
        """Whether an object straight ahead is too near to walk on."""
        sim = self._sim
        return any(
            abs(sim.bearing_to(thing.name)) < _LOOK_AHEAD_RAD and sim.distance_to(thing.name) < _AVOID_AT_M
            for thing in sim.scene.objects
        )

    def __enter__(self) -> SimulatedGo2:
        return self

    def __exit__(self, *_: object) -> None:
        self._log("end")
        self._log.close()
        self._sim.close()


def be_the_robot(options: Go2SimOptions, with_parent: bool) -> NoReturn:
    """Run the simulated robot until SIGINT, SIGTERM or the end of its duration; then the process ends.

    Args:
        options: of the robot.
        with_parent: end when standard input closes, too.

    Raises:
        SpecDecodeError: the robot cannot be started.
    """
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    if with_parent:
        end_with_parent()
    with SimulatedGo2(options) as robot:
        signal.signal(signal.SIGUSR1, lambda *_: robot.camera.toggle_frozen())
        print(
            f"a Go2 in room {options.seed}, where there is a {robot.target}; Ctrl-C ends it",
            file=sys.stderr,
            flush=True,
        )
        print(f"{READY}on {options.interface or 'any interface'}, domain {options.domain}", flush=True)
        robot.run(stop.is_set)
    # DDS threads of the SDK cannot be ended; everything that needs closing is closed.
    sys.stdout.flush()
    os._exit(0)
