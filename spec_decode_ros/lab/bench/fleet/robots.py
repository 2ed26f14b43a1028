"""Simulated robots: many in one process, with real clients and real decoding, and recorded drafts.

    python -m spec_decode_ros.lab.bench.fleet.robots ORDERS      (JSON, see FleetOrders)

The process prints ``ready`` when its robots are connected, then reads from standard input the time at which to begin.
It ends by itself, or when it reads ``end``.
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

from spec_decode_ros.edge.runtime import ActionCancelled, EdgeRuntime
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet.log import FIGURES, FleetLog, LoggedAction
from spec_decode_ros.lab.bench.fleet.recording import (
    DraftRecording,
    RecordedDrafter,
    RecordedFrame,
    load_recording,
)
from spec_decode_ros.lab.bench.variants import MethodVariant
from spec_decode_ros.models.warmup import be_responsive
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.process import READY, ReadyChild

JITTER = 0.2
"""Largest deviation of an action's time, as a share of the period."""

END = "end"
"""Tells a process of robots to begin no more actions and to end."""

_CONNECT_S = 30.0
_JOIN_S = 10.0


@dataclass(frozen=True)
class FleetOrders:
    """What the robots of one process do.

    Each begins `rate` actions per second for `seconds`, whether the one before has ended or not; what has not ended
    `grace_s` later is cut off. They take the `ways` in turns, and `first` is the number of the first one. `recording` and
    `log` are paths, `deadline_s` bounds an action. With `fallback` robots act on unverified drafts when the cloud fails;
    with `connect` nothing begins before all are connected.
    """

    recording: str
    endpoint: str
    log: str
    ways: tuple[MethodVariant, ...]
    robots: int = 1
    first: int = 0
    rate: float = 2.0
    seconds: float = 10.0
    grace_s: float = 2.0
    deadline_s: float = 10.0
    fallback: bool = False
    connect: bool = True
    seed: int = 0

    def as_json(self) -> str:
        """For the command line of the process."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> FleetOrders:
        plain = json.loads(text)
        return cls(**{**plain, "ways": tuple(MethodVariant(**way) for way in plain["ways"])})


def robots_child(orders: FleetOrders) -> ReadyChild:
    """A process of robots, not started yet; :meth:`ReadyChild.write_line` tells it the time at which to begin."""
    return ReadyChild([sys.executable, "-m", __name__, orders.as_json()], "the robots", _CONNECT_S + 30.0)


def due_times(rate: float, seconds: float, seed: int, robot: int) -> Iterator[float]:
    """Capture times of a robot's frames in seconds from the start: periodic with jitter, from a random phase."""
    rng = random.Random(f"{seed} {robot}")
    period = 1.0 / rate
    phase = rng.uniform(0.0, period)
    for beat in itertools.count():
        at = phase + period * (beat + rng.uniform(-JITTER, JITTER) if beat else 0.0)
        if at >= seconds:
            return
        yield at


class FleetRobot:
    """One robot: a client, a runtime, and a thread that acts when an action is due."""

    def __init__(self, number: int, orders: FleetOrders, recording: DraftRecording, log: FleetLog) -> None:
        self._number, self._orders, self._recording, self._log = number, orders, recording, log
        self._way = orders.ways[number % len(orders.ways)]
        drafter = RecordedDrafter(recording)
        self.client = Client(orders.endpoint, recording.pair, drafter.vocabulary, grammar=drafter.grammar)
        self._runtime = EdgeRuntime(
            drafter,
            self.client,
            self._way.method,
            objective=self._way.objective or "latency",
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
        """Begin no more actions, and end the one that is running."""
        self._over.set()
        self._runtime.cancel()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; returns whether it came."""
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
            action = LoggedAction(self._number, number, self._way.name, due)
            if self._over.is_set():
                if due > time.perf_counter():
                    return
                self._log.write(replace(action, outcome="not started"))
                continue
            action = replace(action, began=time.perf_counter())
            self._log.write(action)
            self._log.write(self._decode(action, frames[(offset + number) % len(frames)]))

    def _decode(self, action: LoggedAction, frame: RecordedFrame) -> LoggedAction:
        try:
            result = self._runtime.act(frame.prompt, [frame.jpeg], frame.last, captured=action.due)
        except ActionCancelled:
            return replace(action, ended=time.perf_counter(), outcome="cut off")
        except SpecDecodeError as error:
            return replace(action, ended=time.perf_counter(), outcome="refused", sentence=str(error))
        except Exception as error:
            return replace(action, ended=time.perf_counter(), outcome="crashed", sentence=repr(error))
        figures = {name: cast("float | None", result.stats[name]) for name in FIGURES}
        return replace(
            action,
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
    numbers = range(orders.first, orders.first + orders.robots)
    robots = [FleetRobot(number, orders, recording, log) for number in numbers]
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
    if enough.is_set():
        for robot in robots:
            robot.stop()
    _end(robots, orders.grace_s)
    log.close()
    return 0


def _listen(enough: threading.Event) -> None:
    for line in sys.stdin:
        if line.strip() == END:
            enough.set()
    os._exit(1)  # the parent has gone


def _end(robots: list[FleetRobot], grace_s: float) -> None:
    """Wait until all have done what is due, at most for `grace_s`; then cut off the rest."""
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
