"""Prometheus metrics of a balancer and its replicas: one page for all, with each replica's own metrics by a label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from spec_decode_ros import __version__
from spec_decode_ros.server.fleet.balancer import BalancerStatus
from spec_decode_ros.server.fleet.scaling import ReplicaPhase, ReplicaStatus
from spec_decode_ros.server.fleet.supervisor import SupervisorStatus
from spec_decode_ros.server.metrics import counter, gauge, gauges, new_registry
from spec_decode_ros.server.status_server import Page, read_page

_ANSWER_S = 2.0
"""Prometheus itself waits for 10 s by default."""


class BalancerMetrics:
    """Collects the metrics of this process, of the balancer, and of the replicas.

    A replica that does not answer in time is left out and counted, so that one that hangs delays nobody.

    Args:
        balancer: its status.
        ready: whether robots should be sent to it.
        replicas: their status; None for a balancer without replicas of its own.
        answer_s: how long to wait for the replicas.
    """

    def __init__(
        self,
        balancer: Callable[[], BalancerStatus],
        ready: Callable[[], bool],
        replicas: Callable[[], SupervisorStatus] | None = None,
        answer_s: float = _ANSWER_S,
    ) -> None:
        self._balancer = balancer
        self._ready = ready
        self._replicas = replicas
        self._answer_s = answer_s
        self._process = new_registry()
        self._unanswered = 0

    def page(self) -> Page:
        """What a Prometheus server scrapes."""
        registry = CollectorRegistry()
        registry.register(self)
        page: Page = make_wsgi_app(registry)
        return page

    def collect(self) -> Iterator[Metric]:
        """Called at every scrape; takes `answer_s` at most."""
        families = [*self._process.collect(), *_balancer_metrics(self._balancer(), self._ready())]
        if self._replicas:
            status = self._replicas()
            scraped = self._scrape(status.replicas)
            families += [*_replica_metrics(status, self._unanswered), *scraped]
        yield from _joined(families)

    def _scrape(self, replicas: Iterable[ReplicaStatus]) -> list[Metric]:
        """The metrics of all replicas that answer in time."""
        asked = [replica for replica in replicas if replica.status_url]
        if not asked:
            return []
        pool = ThreadPoolExecutor(len(asked), "scrape")
        pages = [pool.submit(_metrics_of, replica, self._answer_s) for replica in asked]
        done, _ = wait(pages, self._answer_s)
        pool.shutdown(wait=False)
        answered = [page.result() for page in pages if page in done and page.exception() is None]
        self._unanswered += len(pages) - len(answered)
        return [family for families in answered for family in families]


def _balancer_metrics(status: BalancerStatus, ready: bool) -> Iterator[Metric]:
    yield gauges("balancer_info", "What this balancer is; always 1.", ("version",), [((__version__,), 1.0)])
    yield gauge("balancer_ready", "1 where robots should be sent here.", float(ready))
    yield gauge("balancer_robots", "Robots that are known.", status.robots)
    for name, meaning in (
        ("robots", "Robots that a verifier has."),
        ("up", "1 where a verifier answers."),
        ("leaving", "1 where the robots of a verifier are to move to others."),
    ):
        values = [((endpoint,), float(getattr(state, name))) for endpoint, state in status.replicas.items()]
        yield gauges(f"balancer_verifier_{name}", meaning, ("verifier",), values)
    yield counter("balancer_forwarded_messages", "Messages passed on, both ways.", status.forwarded)
    yield counter(
        "balancer_dropped_messages", "Messages for which there was no receiver, or no room.", status.dropped
    )
    yield counter("balancer_moved_robots", "How often a robot has lost its verifier.", status.moved)
    yield counter("balancer_refused_peers", "Connections refused: keys or protocol.", status.refused)


def _replica_metrics(status: SupervisorStatus, unanswered: int) -> Iterator[Metric]:
    phases = [replica.phase for replica in status.replicas]
    counts = [((phase.value,), float(phases.count(phase))) for phase in ReplicaPhase]
    served = [((str(each.number), each.endpoint), 1.0) for each in status.replicas if each.endpoint]
    yield gauge("replicas_wanted", "Replicas that there are to be.", status.wanted)
    yield gauges("replicas", "Replicas, by phase.", ("phase",), counts)
    meaning = "Which verifier of the balancer a replica is; always 1."
    yield gauges("replica_info", meaning, ("replica", "verifier"), served)
    meaning = "Replicas that died, hung or did not start; each is started anew."
    yield counter("replica_failures", meaning, status.failures)
    meaning = "Times that a replica's own metrics were left out."
    yield counter("replica_unanswered_scrapes", meaning, unanswered)


def _metrics_of(replica: ReplicaStatus, timeout_s: float) -> list[Metric]:
    _, text = read_page(f"{replica.status_url}/metrics", timeout_s)
    families = list(text_string_to_metric_families(text))
    for family in families:
        family.samples = [
            sample._replace(labels={**sample.labels, "replica": str(replica.number)})
            for sample in family.samples
        ]
    return families


def _joined(families: Iterable[Metric]) -> Iterable[Metric]:
    """Each name once, with the samples of all families of that name, as the format demands."""
    by_name: dict[str, Metric] = {}
    for family in families:
        if by_name.setdefault(family.name, family) is not family:
            by_name[family.name].samples += family.samples
    return by_name.values()
