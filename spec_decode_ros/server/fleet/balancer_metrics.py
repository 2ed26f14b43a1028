"""What Prometheus reads from a balancer."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import TYPE_CHECKING

from prometheus_client import make_wsgi_app
from prometheus_client.metrics_core import Metric

from spec_decode_ros import __version__
from spec_decode_ros.server.metrics import counter, gauge, gauges, new_registry
from spec_decode_ros.server.status_server import Page

if TYPE_CHECKING:
    from spec_decode_ros.server.fleet.balancer_service import Front


class FrontCollector:
    """Looks at a front when Prometheus asks."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def collect(self) -> Iterator[Metric]:
        """Called at every scrape."""
        ready, status = self._front.ready().ok, self._front.balancer.glance
        yield gauges(
            "balancer_info", "What this balancer is; always 1.", ("version",), [((__version__,), 1.0)]
        )
        yield gauge("balancer_ready", "1 where robots should be sent here.", float(ready))
        yield gauge("balancer_robots", "Robots that are known.", status.robots)
        for name, meaning, read in (
            ("robots", "Robots that a verifier has.", attrgetter("robots")),
            ("up", "1 where a verifier answers.", attrgetter("up")),
            ("leaving", "1 where the robots of a verifier are to move to others.", attrgetter("leaving")),
        ):
            values = [((endpoint,), float(read(state))) for endpoint, state in status.replicas.items()]
            yield gauges(f"balancer_verifier_{name}", meaning, ("verifier",), values)
        yield counter("balancer_forwarded_messages", "Messages passed on, both ways.", status.forwarded)
        yield counter(
            "balancer_dropped_messages", "Messages for which there was nobody, or no room.", status.dropped
        )
        yield counter("balancer_moved_robots", "How often a robot has lost its verifier.", status.moved)
        yield counter("balancer_refused_peers", "Connections refused: keys or protocol.", status.refused)


def front_page(front: Front) -> Page:
    """What a Prometheus server scrapes."""
    registry = new_registry()
    registry.register(FrontCollector(front))
    page: Page = make_wsgi_app(registry)
    return page
