"""A server, a link and robots, each in processes of their own: the server on its cores, everything else on the others."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from spec_decode_ros.decoding.messages import Welcome
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.cores import Cores, divided, on
from spec_decode_ros.lab.bench.fleet_figures import Load, Usage
from spec_decode_ros.lab.bench.fleet_log import read_log
from spec_decode_ros.lab.bench.fleet_recording import DraftRecording
from spec_decode_ros.lab.bench.fleet_robots import FleetOrders, Way, robots_child
from spec_decode_ros.lab.bench.processes import cpu_s, free_port
from spec_decode_ros.lab.network.link import LinkProfile, link_child
from spec_decode_ros.server.process import server_child
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.process import ReadyChild

_COUNTS = {"passes": "spec_decode_pass_sessions_count", "parts": "spec_decode_pass_sessions_sum"}
_LEAD_S = 0.2
_MARGIN_S = 30.0


@dataclass(frozen=True)
class LoadSchedule:
    """When a load is looked at.

    Attributes:
        rate: actions that each robot starts in a second.
        seconds: so long its actions are measured.
        warm_s: so long before that they are not.
        grace_s: so long after that they may still end.
    """

    rate: float = 2.0
    seconds: float = 8.0
    warm_s: float = 2.0
    grace_s: float = 2.0

    def __post_init__(self) -> None:
        if not (self.rate > 0 and self.seconds > 0):
            raise SpecDecodeError("a load needs a rate and a time above 0")


class FleetRig:
    """What :func:`fleet_rig` yields.

    Attributes:
        server: the process of the server.
        welcome: what it says of itself.
        endpoint: where robots connect to: the link.
    """

    def __init__(
        self,
        server: ReadyChild,
        link: ReadyChild,
        metrics: str,
        endpoint: str,
        welcome: Welcome,
        folder: Path,
        cores: Cores,
    ) -> None:
        self.server, self.welcome, self.endpoint, self.folder = server, welcome, endpoint, folder
        self.recording = str(folder / "recording.json")
        self._link, self._metrics, self._cores = link, metrics, cores
        self._loads = 0

    def load(self, way: Way, robots: int, pace: LoadSchedule, seed: int = 0) -> Load:
        """Let so many robots decode in one way for a while, and measure; robots of one seed do the same each time."""
        self._loads += 1
        log = self.folder / f"load{self._loads}.jsonl"
        orders = FleetOrders(
            self.recording,
            self.endpoint,
            str(log),
            (way,),
            robots=robots,
            rate=pace.rate,
            seconds=pace.warm_s + pace.seconds,
            grace_s=pace.grace_s,
            seed=seed,
        )
        with self.robots(orders) as child:
            start = time.perf_counter() + _LEAD_S
            child.write_line(repr(start))
            measured, end = start + pace.warm_s, start + pace.warm_s + pace.seconds
            time.sleep(max(0.0, measured - time.perf_counter()))
            before = self.usage(child)
            time.sleep(max(0.0, end - time.perf_counter()))
            usage = _less(self.usage(child), before)
            child.wait(pace.grace_s + _MARGIN_S)
        acts = read_log(log)
        log.unlink()
        served = sum(act.outcome == "verified" and measured <= (act.ended or 0.0) < end for act in acts)
        usage = replace(usage, seconds=pace.seconds, served=served)
        return Load(way.name, robots, tuple(act for act in acts if measured <= act.due < end), usage)

    @contextmanager
    def robots(self, orders: FleetOrders) -> Iterator[ReadyChild]:
        """A process of robots that are connected, on the edge's cores."""
        child = robots_child(orders)
        try:
            with on(self._cores.edge):
                child.start()
            yield child
        finally:
            child.stop()

    def usage(self, robots: ReadyChild) -> Usage:
        """What was used up to now, since everything began."""
        counts = _counts(self._metrics) if self._metrics else {}
        edge = [cpu_s(child.pid) for child in (robots, self._link)]
        return Usage(
            time.perf_counter(),
            counts.get("passes"),
            counts.get("parts"),
            cpu_s(self.server.pid),
            None if None in edge else sum(filter(None, edge)),
        )


@contextmanager
def fleet_rig(pair: str, recording: DraftRecording, profile: LinkProfile) -> Iterator[FleetRig]:
    """Start a server of the pair and a link to it; both end with the context.

    Raises:
        ChildError: one of them does not start.
    """
    cores = divided()
    # Passes and sessions in them are told by the server's metrics, where what these need is installed.
    metrics = f"127.0.0.1:{free_port()}" if importlib.util.find_spec("prometheus_client") else ""
    more = ["--metrics", metrics] if metrics else []
    server = server_child(pair, threads=len(cores.cloud), more=more)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet")))
        recording.save(folder / "recording.json")
        stack.callback(server.stop)
        with on(cores.cloud):
            behind = server.start()
        link = link_child(behind, profile)
        stack.callback(link.stop)
        with on(cores.edge):
            endpoint = link.start()
        with Client(endpoint, recording.pair, recording.vocabulary) as client:
            welcome = client.wait_ready()
        yield FleetRig(server, link, metrics, endpoint, welcome, folder, cores)


def _counts(address: str) -> Mapping[str, float]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5.0) as page:
        lines = page.read().decode("utf-8").splitlines()
    said = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(said[series]) for name, series in _COUNTS.items() if series in said}


def _less(now: Usage, before: Usage) -> Usage:
    pairs = zip(vars(now).values(), vars(before).values(), strict=True)
    return Usage(*(None if a is None or b is None else a - b for a, b in pairs))  # type: ignore[arg-type]
