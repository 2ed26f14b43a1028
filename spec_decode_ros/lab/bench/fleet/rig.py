"""The fleet rig: a server, an emulated link and simulated robots, each in a process of its own.

The server has its own cores; everything else shares the others.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from spec_decode_ros.decoding.messages import Welcome
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet.capacity import Load, Usage
from spec_decode_ros.lab.bench.fleet.log import read_log
from spec_decode_ros.lab.bench.fleet.recording import DraftRecording
from spec_decode_ros.lab.bench.fleet.robots import FleetOrders, robots_child
from spec_decode_ros.lab.bench.machine import Cores, cpu_s, free_port, pinned_to, split_cores
from spec_decode_ros.lab.bench.variants import MethodVariant
from spec_decode_ros.lab.network.link import LinkProfile, link_child
from spec_decode_ros.server.process import server_child
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.process import ReadyChild

_COUNTS = {"passes": "spec_decode_pass_sessions_count", "parts": "spec_decode_pass_sessions_sum"}
_LEAD_S = 0.2
_MARGIN_S = 30.0


@dataclass(frozen=True)
class LoadSchedule:
    """How a load is measured: `rate` actions per second and robot, for `seconds`.

    Robots act for `warm_s` before that, and actions may end up to `grace_s` later.
    """

    rate: float = 2.0
    seconds: float = 8.0
    warm_s: float = 2.0
    grace_s: float = 2.0

    def __post_init__(self) -> None:
        if not (self.rate > 0 and self.seconds > 0):
            raise SpecDecodeError("a load needs a rate and a time above 0")


@dataclass
class FleetRig:
    """A running server and a link to it; see :func:`fleet_rig`.

    `welcome` has the server's own measurements, `endpoint` is the link's, `recording` the path of the recorded drafts, and
    `metrics` the address of the server's metrics, empty without.
    """

    server: ReadyChild
    link: ReadyChild
    welcome: Welcome
    endpoint: str
    recording: Path
    folder: Path
    cores: Cores
    metrics: str = ""

    def load(self, variant: MethodVariant, robots: int, pace: LoadSchedule, seed: int = 0) -> Load:
        """Let a number of robots act for a while, and measure; with the same seed they act at the same times."""
        log = self.folder / "load.jsonl"
        orders = FleetOrders(
            str(self.recording),
            self.endpoint,
            str(log),
            (variant,),
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
            usage = self.usage(child) - before
            child.wait(pace.grace_s + _MARGIN_S)
        acts = read_log(log)
        log.unlink()
        served = sum(act.outcome == "verified" and measured <= (act.ended or 0.0) < end for act in acts)
        usage = replace(usage, seconds=pace.seconds, served=served)
        return Load(variant.name, robots, tuple(act for act in acts if measured <= act.due < end), usage)

    @contextmanager
    def robots(self, orders: FleetOrders) -> Iterator[ReadyChild]:
        """A process of connected robots, on the edge's cores."""
        child = robots_child(orders)
        try:
            with pinned_to(self.cores.edge):
                child.start()
            yield child
        finally:
            child.stop()

    def usage(self, robots: ReadyChild) -> Usage:
        """Resources used since the start of each process."""
        counts = _counts(self.metrics) if self.metrics else {}
        edge = [cpu_s(child.pid) for child in (robots, self.link)]
        return Usage(
            time.perf_counter(),
            counts.get("passes"),
            counts.get("parts"),
            cpu_s(self.server.pid),
            None if None in edge else sum(filter(None, edge)),
        )


@contextmanager
def fleet_rig(pair: str, recording: DraftRecording, profile: LinkProfile) -> Iterator[FleetRig]:
    """Start a server of the pair and a link to it; both end with the context. Raises ChildError if one does not start."""
    cores = split_cores()
    # The server counts its passes only where its metrics can be served.
    metrics = f"127.0.0.1:{free_port()}" if importlib.util.find_spec("prometheus_client") else ""
    server = server_child(pair, threads=len(cores.cloud), more=["--metrics", metrics] if metrics else [])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet")))
        path = folder / "recording.json"
        recording.save(path)
        stack.callback(server.stop)
        with pinned_to(cores.cloud):
            behind = server.start()
        link = link_child(behind, profile)
        stack.callback(link.stop)
        with pinned_to(cores.edge):
            endpoint = link.start()
        with Client(endpoint, recording.pair, recording.vocabulary, grammar=recording.grammar) as client:
            welcome = client.wait_ready()
        yield FleetRig(server, link, welcome, endpoint, path, folder, cores, metrics)


def _counts(address: str) -> Mapping[str, float]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5.0) as page:
        lines = page.read().decode("utf-8").splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(values[series]) for name, series in _COUNTS.items() if series in values}
