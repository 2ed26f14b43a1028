"""What the pages of a verifier, a balancer and its replicas expose, without starting any of them."""

from __future__ import annotations

import re
from types import SimpleNamespace

from prometheus_client import CollectorRegistry, generate_latest

from spec_decode_ros.server.fleet.balancer import BalancerStatus
from spec_decode_ros.server.fleet.balancer_metrics import BalancerMetrics
from spec_decode_ros.server.fleet.supervisor import SupervisorStatus
from spec_decode_ros.server.metrics import ServiceMetrics
from spec_decode_ros.server.verifier_server import ServerCounts
from spec_decode_ros.transport.server import Traffic


def exposed_page() -> str:
    """All of them as one page."""
    metrics = ServiceMetrics("tiny", lambda: True)
    metrics.watch(SimpleNamespace(counts=ServerCounts(), socket=SimpleNamespace(traffic=Traffic())))  # type: ignore[arg-type]
    whole = CollectorRegistry()
    whole.register(BalancerMetrics(BalancerStatus, lambda: True, SupervisorStatus))  # type: ignore[arg-type]
    return generate_latest(metrics.registry).decode() + generate_latest(whole).decode()


def exposed_metrics(page: str) -> dict[str, str]:
    """The project's own metrics with their types."""
    return dict(re.findall(r"^# TYPE (spec_decode_\w+) (\w+)$", page, re.M))
