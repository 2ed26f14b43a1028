"""Replicas and their balancer as one service: how it is, for those who watch it."""

from __future__ import annotations

from spec_decode_ros.server.fleet.balancer import Balancer
from spec_decode_ros.server.fleet.balancer_service import Front
from spec_decode_ros.server.fleet.supervisor import Supervisor
from spec_decode_ros.server.health import Worker
from spec_decode_ros.server.status_server import Page


class ReplicasFront(Front):
    """One address in front of replicas.

    Attributes:
        supervisor: of the replicas, as soon as there is one.
    """

    def __init__(self, balancer: Balancer, stuck_s: float) -> None:
        super().__init__(balancer, stuck_s)
        self.supervisor: Supervisor | None = None

    def metrics_page(self) -> Page:
        """What Prometheus reads. Raises ModuleNotFoundError without prometheus_client."""
        from spec_decode_ros.server.fleet.replica_metrics import replicas_page

        return replicas_page(self)

    @property
    def workers(self) -> list[Worker]:
        """The threads that it cannot do without."""
        if self.supervisor is None:
            return super().workers
        return [*super().workers, Worker("supervisor", self.supervisor.round_s)]
