"""A balancer as a service, with or without replicas of its own: health, readiness and metrics. Nothing here waits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from spec_decode_ros.server import health, notify
from spec_decode_ros.server.fleet.balancer import Balancer
from spec_decode_ros.server.fleet.supervisor import Supervisor, SupervisorStatus
from spec_decode_ros.server.health import HealthReport, ServicePhase, Worker
from spec_decode_ros.server.status_server import Page, open_status


class BalancerService:
    """One address in front of several verifiers.

    Args:
        balancer: may be started later.
        stuck_s: a thread that stalls for longer is reported as stuck.
        with_replicas: whether the verifiers are replicas of this service, which metrics then show.

    Attributes:
        supervisor: of the replicas, as soon as there is one.
    """

    def __init__(self, balancer: Balancer, stuck_s: float, with_replicas: bool = False) -> None:
        self.supervisor: Supervisor | None = None
        self._balancer = balancer
        self._stuck_s = stuck_s
        self._with_replicas = with_replicas
        self._phase = ServicePhase.LOADING

    @contextlib.contextmanager
    def watched(self, address: tuple[str, int] | None) -> Iterator[str]:
        """Serve metrics and health while this context lasts, at the URL that it yields; nothing without an address.

        Raises SpecDecodeError if the address can't be used.
        """
        if address is None:
            yield ""
            return
        status = open_status(address, self.alive, self.ready, self._metrics_page)
        try:
            yield status.url
        finally:
            status.stop()

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Robots are served while this context lasts; when it ends, they are to go elsewhere."""
        self._phase = ServicePhase.SERVING
        try:
            yield
        finally:
            self._phase = ServicePhase.DRAINING
            notify.send(notify.STOPPING)

    def alive(self) -> HealthReport:
        """Whether it works at all."""
        return health.alive(self._phase, self._workers(), self._stuck_s)

    def ready(self) -> HealthReport:
        """Whether robots should be sent here now."""
        verifiers_up = sum(state.up for state in self._balancer.last_status.replicas.values())
        return health.ready(self._phase, self._workers(), self._stuck_s, verifiers_up)

    def _workers(self) -> list[Worker]:
        workers = [Worker("balancer", self._balancer.stalled_s)]
        if self.supervisor is not None:
            workers.append(Worker("supervisor", self.supervisor.stalled_s))
        return workers

    def _metrics_page(self) -> Page:
        # Raises ModuleNotFoundError where prometheus_client is not installed.
        from spec_decode_ros.server.fleet.balancer_metrics import BalancerMetrics

        replicas = self._replicas_status if self._with_replicas else None
        return BalancerMetrics(lambda: self._balancer.last_status, lambda: self.ready().ok, replicas).page()

    def _replicas_status(self) -> SupervisorStatus:
        return self.supervisor.status if self.supervisor else SupervisorStatus()
