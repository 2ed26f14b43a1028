"""Simulated robots: real clients and real decoding, many in one process, with recorded drafts.

    python -m spec_decode_ros.lab.bench.fleet_robots ORDERS      (JSON, see Orders)

prints ``ready`` once its robots are connected, begins at the time that it is then told on standard input, and ends by
itself, or when it is told ``end``.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from spec_decode_ros.decoding.controller import OBJECTIVES, Objective
from spec_decode_ros.decoding.methods import method_named
from spec_decode_ros.edge.runtime import ActionCancelled, EdgeRuntime
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet_drafter import RecordedDrafter
from spec_decode_ros.lab.bench.fleet_log import FIGURES, Act, FleetLog
from spec_decode_ros.lab.bench.fleet_recording import DraftRecording, RecordedFrame, load_recording
from spec_decode_ros.models.threads import be_responsive
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.process import READY, ReadyChild

JITTER = 0.2
"""By so much of a period an action may come before or after its time."""

END = "end"
"""What a process of robots is told so that it begins no more actions and ends."""

_CONNECT_S = 30.0
_JOIN_S = 10.0


@dataclass(frozen=True)
class Way:
    """How a robot decodes: a method, and what it aims at if it adapts."""

    method: str
    objective: Objective = "latency"

    def __post_init__(self) -> None:
        method_named(self.method)
        if self.objective not in OBJECTIVES:
            raise SpecDecodeError(
                f"There is no objective {self.objective!r}; choose one of {', '.join(OBJECTIVES)}."
            )

    @property
    def name(self) -> str:
        """The method, with its objective where it has one."""
        return f"{self.method}, {self.objective}" if method_named(self.method).adapts else self.method


@dataclass(frozen=True)
class FleetOrders:
    """What the robots of one process do.

    Attributes:
        recording: path of the recorded drafts.
        endpoint: of the verifier, or of the link to it.
        log: path of the file to which their actions are appended.
        ways: the robots take them in turns.
        robots: how many they are; the first has the number `first`.
        rate: actions that each starts in a second, whether the one before has ended or not.
        seconds: for so long.
        grace_s: so long after that what has not ended is cut off, and what could not begin is given up.
        deadline_s: longest action.
        fallback: go on with drafts alone when the cloud fails, unverified.
        connect: wait until every robot is welcome before anything begins.
        seed: of the robots' phases and frames.
    """

    recording: str
    endpoint: str
    log: str
    ways: tuple[Way, ...]
    robots: int = 1
    first: int = 0
    rate: float = 2.0
    seconds: float = 10.0
    grace_s: float = 2.0
    deadline_s: float = 10.0
    fallback: bool = False
    connect: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.ways:
            raise SpecDecodeError("robots need at least one way to decode")
        if self.robots < 1:
            raise SpecDecodeError(f"a fleet has 1 robot or more, not {self.robots}")
        for name in ("rate", "seconds", "deadline_s"):
            if not getattr(self, name) > 0:
                raise SpecDecodeError(f"{name} of a fleet must be above 0, not {getattr(self, name)}")

    def as_json(self) -> str:
        """For the command line of the process."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> FleetOrders:
        plain = json.loads(text)
        return cls(**{**plain, "ways": tuple(Way(**way) for way in plain["ways"])})


def robots_child(orders: FleetOrders) -> ReadyChild:
    """A process of robots that is still to be started; :meth:`ReadyChild.tell` it the time at which to begin."""
    return ReadyChild([sys.executable, "-m", __name__, orders.as_json()], "the robots", _CONNECT_S + 30.0)


def due_times(rate: float, seconds: float, seed: int, robot: int) -> Iterator[float]:
    """When a robot's frames are captured, seconds from the start: once a period, from a phase of its own, with jitter."""
    chance = random.Random(f"{seed} {robot}")
    period = 1.0 / rate
    phase = chance.uniform(0.0, period)
    for beat in itertools.count():
        at = phase + period * (beat + chance.uniform(-JITTER, JITTER) if beat else 0.0)
        if at >= seconds:
            return
        yield at


class FleetRobot:
    """One robot: a connection, a runtime, and a thread that acts when an action is due."""

    def __init__(self, number: int, orders: FleetOrders, recording: DraftRecording, log: FleetLog) -> None:
        self._number, self._orders, self._recording, self._log = number, orders, recording, log
        self._way = orders.ways[number % len(orders.ways)]
        drafter = RecordedDrafter(recording)
        self.client = Client(orders.endpoint, recording.pair, drafter.vocabulary)
        self._runtime = EdgeRuntime(
            drafter,
            self.client,
            self._way.method,
            objective=self._way.objective,
            deadline_s=orders.deadline_s,
            max_tokens=recording.max_tokens,
            fallback=orders.fallback,
        )
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, start: float) -> None:
        """Act from `start` on, a time of `time.perf_counter`."""
        self._thread = threading.Thread(target=self._live, args=(start,), name=f"robot {self._number}")
        self._thread.daemon = True
        self._thread.start()

    def stop(self) -> None:
        """Begin no more actions."""
        self._over.set()

    def cut_off(self) -> None:
        """End the action that goes on, too."""
        self._over.set()
        self._runtime.cancel()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; whether it came."""
        assert self._thread is not None
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        self._runtime.close()
        self.client.close()

    def _live(self, start: float) -> None:
        orders, frames = self._orders, self._recording.frames
        # Robots see different frames at a time, each the same ones in every run.
        offset = random.Random(f"frames {orders.seed} {self._number}").randrange(len(frames))
        times = due_times(orders.rate, orders.seconds, orders.seed, self._number)
        for number, at in enumerate(times):
            due = start + at
            self._over.wait(max(0.0, due - time.perf_counter()))
            act = Act(self._number, number, self._way.name, due)
            if self._over.is_set():
                if due > time.perf_counter():
                    return
                self._log.write(replace(act, outcome="not started"))
                continue
            act = replace(act, began=time.perf_counter())
            self._log.write(act)
            self._log.write(self._decode(act, frames[(offset + number) % len(frames)]))

    def _decode(self, act: Act, frame: RecordedFrame) -> Act:
        try:
            result = self._runtime.act(frame.prompt, [frame.jpeg], frame.last, captured=act.due)
        except ActionCancelled:
            return replace(act, ended=time.perf_counter(), outcome="cut off")
        except SpecDecodeError as error:
            return replace(act, ended=time.perf_counter(), outcome="refused", sentence=str(error))
        except Exception as error:
            return replace(act, ended=time.perf_counter(), outcome="crashed", sentence=repr(error))
        figures = {name: cast("float | None", result.stats[name]) for name in FIGURES}
        return replace(
            act,
            ended=time.perf_counter(),
            outcome="verified" if result.verified else "unverified",
            same=result.tokens == frame.answer,
            figures=figures,
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the robots of one process."""
    logging.basicConfig(level=logging.ERROR)
    (text,) = sys.argv[1:] if arguments is None else arguments
    orders = FleetOrders.of_json(text)
    recording, log = load_recording(orders.recording), FleetLog(Path(orders.log))
    be_responsive()
    robots = [
        FleetRobot(number, orders, recording, log)
        for number in range(orders.first, orders.first + orders.robots)
    ]
    if orders.connect:
        for robot in robots:
            robot.client.wait_ready(_CONNECT_S)
    print(READY.strip(), len(robots), flush=True)
    start = float(sys.stdin.readline() or "nan")
    if start != start:  # the parent has gone
        return 1
    enough = threading.Event()
    threading.Thread(target=_listen, args=(enough,), daemon=True).start()
    for robot in robots:
        robot.begin(start)
    enough.wait(max(0.0, start + orders.seconds - time.perf_counter()))
    _end(robots, orders.grace_s, whatever_is_due=not enough.is_set())
    log.close()
    return 0


def _listen(enough: threading.Event) -> None:
    for line in sys.stdin:
        if line.strip() == END:
            enough.set()
    os._exit(1)  # the parent has gone


def _end(robots: list[FleetRobot], grace_s: float, whatever_is_due: bool) -> None:
    """Wait for so long until all have done whatever is due, or at least what goes on; cut off the rest."""
    if not whatever_is_due:
        for robot in robots:
            robot.stop()
    until = time.perf_counter() + grace_s
    for robot in robots:
        robot.join(max(0.0, until - time.perf_counter()))
    until = time.perf_counter() + _JOIN_S
    for robot in robots:
        robot.cut_off()
        while not robot.join(0.1) and time.perf_counter() < until:
            robot.cut_off()  # it may just have begun another action
    for robot in robots:
        robot.close()


if __name__ == "__main__":
    sys.exit(main())
