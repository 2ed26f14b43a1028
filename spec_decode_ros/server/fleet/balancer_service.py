"""A balancer as a service: how it is, for those who watch it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from spec_decode_ros.server import health, notify
from spec_decode_ros.server.fleet.balancer import Balancer
from spec_decode_ros.server.health import HealthReport, ServicePhase, Worker
from spec_decode_ros.server.status_server import Page, open_status


class Front:
    """One address in front of several verifiers. Nothing here waits for the balancer.

    Args:
        balancer: which may still be to be started.
        stuck_s: a thread that does not come round for so long is reported as stuck.
    """

    def __init__(self, balancer: Balancer, stuck_s: float) -> None:
        self.balancer = balancer
        self._stuck_s = stuck_s
        self._phase = ServicePhase.LOADING

    @contextlib.contextmanager
    def watched(self, address: tuple[str, int] | None) -> Iterator[str]:
        """Serve metrics and health while this context lasts, at the URL that it yields; nothing without an address.

        Raises:
            SpecDecodeError: the address can't be used.
        """
        if address is None:
            yield ""
            return
        status = open_status(address, self.alive, self.ready, self.metrics_page)
        try:
            yield status.url
        finally:
            status.stop()

    def metrics_page(self) -> Page:
        """What Prometheus reads. Raises ModuleNotFoundError without prometheus_client."""
        from spec_decode_ros.server.fleet.balancer_metrics import front_page

        return front_page(self)

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Robots are served here from now on; when this context ends, they are to go elsewhere."""
        self._phase = ServicePhase.SERVING
        try:
            yield
        finally:
            self._phase = ServicePhase.DRAINING
            notify.tell(notify.STOPPING)

    def alive(self) -> HealthReport:
        """Whether it works at all."""
        return health.alive(self._phase, self.workers, self._stuck_s)

    def ready(self) -> HealthReport:
        """Whether robots should be sent here now."""
        behind = sum(state.up for state in self.balancer.glance.replicas.values())
        return health.ready(self._phase, self.workers, self._stuck_s, behind)

    @property
    def workers(self) -> list[Worker]:
        """The threads that it cannot do without."""
        return [Worker("balancer", self.balancer.round_s)]
