"""Replicas of the verifier under Ray, behind one balancer, as a process that runs until it is told to end."""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import replace
from functools import partial
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.pair_config import load_pair_config
from spec_decode_ros.server import logs, notify
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.fleet.balancer import Balancer
from spec_decode_ros.server.fleet.balancer_service import BalancerService
from spec_decode_ros.server.fleet.cluster import ended_process, local_ray
from spec_decode_ros.server.fleet.replica_keys import ReplicaKeys, temporary_keys
from spec_decode_ros.server.fleet.routing import RoutingPolicy
from spec_decode_ros.server.fleet.supervisor import Supervisor
from spec_decode_ros.server.process import START_TIMEOUT_S
from spec_decode_ros.server.service import VerifierService, keys_of
from spec_decode_ros.server.service_process import announce, prepare
from spec_decode_ros.transport.keys import ServerKeys
from spec_decode_ros.transport.server import LOOPBACK
from spec_decode_ros.transport.signals import end_with_parent, listening

_log = logging.getLogger(__name__)


def serve_replicas(
    config: ServiceConfig, replicas: int | None, policy: RoutingPolicy, with_parent: bool = False
) -> None:
    """Serve until SIGINT or SIGTERM; SIGTTIN adds a replica, and SIGTTOU takes one away.

    Args:
        config: of the service.
        replicas: how many; None for one per GPU, or one without GPUs.
        policy: when robots are moved.
        with_parent: end also when standard input closes.

    Raises:
        SpecDecodeError: keys can't be read, the address can't be bound, or replicas do not start.
    """
    prepare(config)
    keys = keys_of(config)
    if with_parent:
        end_with_parent()
    with temporary_keys(needed=keys is not None) as replica_keys:
        _serve(config, replicas, policy, keys, replica_keys)


def _serve(
    config: ServiceConfig,
    replicas: int | None,
    policy: RoutingPolicy,
    keys: ServerKeys | None,
    replica_keys: ReplicaKeys,
) -> None:
    balancer = Balancer(
        config.bind,
        keys=keys,
        insecure=config.insecure,
        replica_keys=replica_keys.balancer,
        policy=policy,
        own_process=True,
    )
    service = BalancerService(balancer, config.stuck_s, with_replicas=True)
    with (
        listening(),
        service.watched(config.metrics_address),
        local_ray(log=True, prefix=config.log_format == "text") as ray,
        listening(),  # again: Ray has put its own handler for SIGTERM, which aborts, in place of the first one
        balancer,
    ):
        here = int(ray.cluster_resources().get("GPU", 0)) if config.device != "cpu" else 0
        gpus = load_pair_config(config.pair).target.tensor_parallel if here else 0
        wanted = replicas or (max(1, here // gpus) if gpus else 1)
        supervisor = Supervisor(
            ray,
            partial(_replica, _config_of_replicas(config, replica_keys)),
            balancer,
            wanted,
            gpus=gpus,
            drain_s=config.drain_s,
            patience_s=2 * policy.patience_s,
        )
        service.supervisor = supervisor
        with supervisor, service.serving():
            supervisor.wait_serving(wanted, START_TIMEOUT_S)
            announce(balancer.endpoint)
            more, fewer = partial(_scale, supervisor, 1), partial(_scale, supervisor, -1)
            with listening({signal.SIGTTIN: more, signal.SIGTTOU: fewer}):
                _watch(ray, notify.SystemdWatchdog(service.alive))


def _watch(ray: Any, watchdog: notify.SystemdWatchdog) -> None:
    """Look once a second, until Ray has ended, with which this process ends."""
    while not (name := ended_process(ray)):
        time.sleep(1.0)
        watchdog.look()
    _log.error(
        "Ray's process %s has ended, and no replica can be started any more: start this command anew", name
    )
    os._exit(1)  # in order Ray would wait for it; what is left of it is cleared away by its janitor


def _config_of_replicas(config: ServiceConfig, replica_keys: ReplicaKeys) -> ServiceConfig:
    """The balancer in front of them checks the keys and shows the metrics, which it reads from them."""
    metrics = "127.0.0.1:0" if config.metrics else ""
    return replace(config, bind=LOOPBACK, keys=replica_keys.folder, insecure=False, metrics=metrics)


def _replica(config: ServiceConfig) -> VerifierService:
    """In the replica's process."""
    logs.set_up(config.log_format, config.log_level)
    return VerifierService(config)


def _scale(supervisor: Supervisor, by: int) -> None:
    try:
        wanted = max(1, supervisor.status.wanted + by)
        supervisor.scale(wanted)
        _log.info("%d replicas are wanted", wanted)
    except SpecDecodeError as error:
        _log.error("%s", error)
