"""Prometheus metrics of a verifier service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    make_wsgi_app,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from spec_decode_ros import __version__
from spec_decode_ros.decoding.messages import PROTOCOL, ErrorCode
from spec_decode_ros.server.observer import ServerObserver

if TYPE_CHECKING:
    from spec_decode_ros.server.verifier_server import VerifierServer

PREFIX = "spec_decode"
_STATES = ("done", "failed", "closed")
_CODES = sorted(code for name, code in vars(ErrorCode).items() if name.isupper())

_SECONDS = tuple(0.001 * 2**power for power in range(14))
_SESSIONS = (1, 2, 4, 8, 16, 32, 64, 128)
_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_PASSES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


def new_registry() -> CollectorRegistry:
    """A registry that has the metrics of this process."""
    disable_created_metrics()  # a second series for each counter, which nobody reads
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def counter(name: str, meaning: str, value: float) -> Metric:
    """What a collector yields for a count, whose name gets ``_total``."""
    return CounterMetricFamily(f"{PREFIX}_{name}", meaning, value)


def gauge(name: str, meaning: str, value: float) -> Metric:
    """What a collector yields for a value that goes up and down."""
    return GaugeMetricFamily(f"{PREFIX}_{name}", meaning, value)


def gauges(
    name: str, meaning: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    """What a collector yields for several values, by what their labels say."""
    family = GaugeMetricFamily(f"{PREFIX}_{name}", meaning, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


class ServiceMetrics(ServerObserver):
    """Counts for Prometheus; what the server counts itself is read when it is asked for.

    Args:
        pair: name of the model pair.
        ready: whether robots should be sent here now.
    """

    def __init__(self, pair: str, ready: Callable[[], bool]) -> None:
        self.registry = new_registry()
        self._totals = _Totals()
        self.registry.register(self._totals)
        info = self._gauge("server_info", "What this server is; always 1.", ("version", "protocol", "pair"))
        info.labels(__version__, str(PROTOCOL), pair).set(1)
        self._gauge("ready", "1 where robots should be sent here: loaded, alive, not draining.").set_function(
            lambda: float(ready())
        )
        self._pass_seconds = self._histogram("pass_seconds", "Time of a pass of the target.", _SECONDS)
        self._pass_sessions = self._histogram("pass_sessions", "Actions that share a pass.", _SESSIONS)
        self._pass_tokens = self._histogram(
            "pass_tokens", "New tokens in a pass, of all its actions.", _TOKENS
        )
        self._pass_waiting = self._histogram(
            "pass_waiting_sessions",
            "Actions that waited for the model when a pass was put together.",
            _SESSIONS,
        )
        self._action_passes = self._histogram("action_passes", "Passes that an action took.", _PASSES)
        self._drafted = self._counter("drafted_tokens", "Tokens drafted by robots and verified.")
        self._accepted = self._counter("accepted_tokens", "Of the drafted tokens those accepted.")
        self._actions = self._counter("actions", "Actions that are over, by how they ended.", ("state",))
        self._errors = self._counter("errors", "Errors sent to robots, by code.", ("code",))
        for state in _STATES:  # there from the start, so that a first one is an increase
            self._actions.labels(state)
        for code in _CODES:
            self._errors.labels(code)

    def watch(self, server: VerifierServer) -> None:
        """Read the server's own counts too, from now on."""
        self._totals.server = server

    def page(self) -> Callable[..., Any]:
        """A WSGI application that a Prometheus server scrapes."""
        return make_wsgi_app(self.registry)

    # ---- ServerObserver ------------------------------------------------------------------------------------

    def pass_done(self, sessions: int, tokens: int, busy_ms: float) -> None:
        self._pass_seconds.observe(busy_ms / 1000.0)
        self._pass_sessions.observe(sessions)
        self._pass_tokens.observe(tokens)

    def action_done(self, accepted: int, drafted: int, passes: int, state: str) -> None:
        self._accepted.inc(accepted)
        self._drafted.inc(drafted)
        self._action_passes.observe(passes)
        self._actions.labels(state).inc()

    def failed(self, code: str) -> None:
        self._errors.labels(code).inc()

    def queue(self, waiting: int, sessions: int) -> None:
        self._pass_waiting.observe(waiting)

    # ---- how they are made ---------------------------------------------------------------------------------

    def _gauge(self, name: str, meaning: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(name, meaning, labels, namespace=PREFIX, registry=self.registry)

    def _counter(self, name: str, meaning: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, meaning, labels, namespace=PREFIX, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, meaning, namespace=PREFIX, registry=self.registry, buckets=buckets)


class _Totals:
    """Reads what the server counts itself, when Prometheus asks."""

    def __init__(self) -> None:
        self.server: VerifierServer | None = None

    def collect(self) -> Iterator[Metric]:
        """Called at every scrape."""
        if self.server is None:
            return
        counts, traffic = self.server.counts, self.server.socket.traffic
        totals = {
            "opened_actions": ("Actions that were begun.", counts.actions),
            "refused_actions": ("Actions that were not begun: full, too fast, or draining.", counts.refused),
            "received_bytes": ("Bytes received from robots.", traffic.received_bytes),
            "sent_bytes": ("Bytes sent to robots.", traffic.sent_bytes),
            "bad_messages": ("Messages that could not be read.", traffic.bad_messages),
            "refused_peers": ("Connections refused: keys, pair or protocol.", traffic.refused_peers),
        }
        for name, (meaning, value) in totals.items():
            yield counter(name, meaning, value)
        yield gauge("sessions", "Open actions that the model keeps caches for.", counts.sessions)
        yield gauge("waiting_sessions", "Open actions that wait for the model.", counts.waiting)
