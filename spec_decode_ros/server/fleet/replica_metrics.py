"""What Prometheus reads from replicas: one page for all of them, on which each one's own metrics have its label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from spec_decode_ros.server.fleet.balancer_metrics import FrontCollector
from spec_decode_ros.server.fleet.scaling import ReplicaPhase
from spec_decode_ros.server.metrics import counter, gauge, gauges, new_registry
from spec_decode_ros.server.status_client import read_page
from spec_decode_ros.server.status_server import Page

if TYPE_CHECKING:
    from spec_decode_ros.server.fleet.replica_service import ReplicasFront
    from spec_decode_ros.server.fleet.supervisor import ReplicaRow

_ANSWER_S = 2.0
"""Prometheus itself waits for 10 s by default."""


def replicas_page(front: ReplicasFront) -> Page:
    """What a Prometheus server scrapes."""
    registry = CollectorRegistry()
    registry.register(ReplicasCollector(front))
    page: Page = make_wsgi_app(registry)
    return page


class ReplicasCollector:
    """Joins the metrics of this process, those of its replicas' number, and those that each replica has itself.

    A replica that does not answer in time is left out and counted, so that one that hangs holds nobody up.
    """

    def __init__(self, front: ReplicasFront, answer_s: float = _ANSWER_S) -> None:
        self._front = front
        self._answer_s = answer_s
        self._own = new_registry()
        self._own.register(FrontCollector(front))
        self._unanswered = 0

    def collect(self) -> Iterator[Metric]:
        """Called at every scrape; takes `answer_s` at most."""
        supervisor = self._front.supervisor
        rows = supervisor.rows if supervisor else ()
        theirs = self._of(rows)
        wanted, deaths = (supervisor.wanted, supervisor.deaths) if supervisor else (0, 0)
        yield from _joined([*self._own.collect(), *self._of_all(rows, wanted, deaths), *theirs])

    def _of_all(self, rows: Iterable[ReplicaRow], wanted: int, deaths: int) -> Iterator[Metric]:
        phases = [row.phase for row in rows]
        yield gauge("replicas_wanted", "Replicas that there are to be.", wanted)
        yield gauges(
            "replicas",
            "Replicas, by phase.",
            ("phase",),
            [((each.value,), phases.count(each)) for each in ReplicaPhase],
        )
        yield gauges(
            "replica_info",
            "Which verifier of the balancer a replica is; always 1.",
            ("replica", "verifier"),
            [((str(row.number), row.endpoint), 1.0) for row in rows if row.endpoint],
        )
        yield counter(
            "replica_failures", "Replicas that died, hung or did not start; each is started anew.", deaths
        )
        yield counter(
            "replica_unanswered_scrapes",
            "Times that a replica's own metrics were left out.",
            self._unanswered,
        )

    def _of(self, rows: Iterable[ReplicaRow]) -> list[Metric]:
        """The metrics of all replicas that answer in time."""
        asked = [row for row in rows if row.status_url]
        if not asked:
            return []
        pool = ThreadPoolExecutor(len(asked), "scrape")
        pages = [pool.submit(_metrics_of, row, self._answer_s) for row in asked]
        done, _ = wait(pages, self._answer_s)
        pool.shutdown(wait=False)
        answered = [page.result() for page in pages if page in done and page.exception() is None]
        self._unanswered += len(pages) - len(answered)
        return [family for families in answered for family in families]


def _metrics_of(row: ReplicaRow, timeout_s: float) -> list[Metric]:
    _, text = read_page(f"{row.status_url}/metrics", timeout_s)
    families = list(text_string_to_metric_families(text))
    for family in families:
        family.samples = [
            sample._replace(labels={**sample.labels, "replica": str(row.number)}) for sample in family.samples
        ]
    return families


def _joined(families: Iterable[Metric]) -> Iterable[Metric]:
    """Each name once, with the samples of all families of that name: the format wants them together."""
    by_name: dict[str, Metric] = {}
    for family in families:
        if by_name.setdefault(family.name, family) is not family:
            by_name[family.name].samples += family.samples
    return by_name.values()
