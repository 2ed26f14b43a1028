"""Serve one pair from several processes, one per GPU, behind one address."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
from dataclasses import replace
from functools import partial

from spec_decode_ros.commands._settings import add_settings, resolved_settings
from spec_decode_ros.commands._signals import end_with_parent, listening
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.pair import load_pair_config
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
from spec_decode_ros.transport.connection_guard import allow_many_connections
from spec_decode_ros.transport.keys import ServerKeys
from spec_decode_ros.transport.process import READY
from spec_decode_ros.transport.server import LOOPBACK

_log = logging.getLogger(__name__)

_OFFERED = (
    "pair",
    "bind",
    "keys",
    "insecure",
    "device",
    "dtype",
    "threads",
    "max_sessions",
    "metrics",
    "log_format",
    "log_level",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Runs replicas of the verifier under Ray (pip install ray), each in a process of its own and on a GPU of its own "
        "where there are any, starts them anew when they die, and lets robots connect to all of them at one address. "
        "The signal TTIN adds a replica and TTOU takes one away, whose robots move to the others first. INT and TERM end "
        "all of them when their actions are over, and a second one ends them at once."
    )
    parser.epilog = "Further settings of `spec-decode serve` can stand in the file and in the environment."
    parser.add_argument(
        "--replicas", type=int, metavar="N", help="how many; by default one per GPU, or one without GPUs"
    )
    add_settings(parser, _OFFERED)
    parser.add_argument(
        "--patience-s",
        type=float,
        default=RoutingPolicy.patience_s,
        metavar="S",
        help="seconds until a robot that never pauses is moved in mid-action, where it has to (%(default)g)",
    )
    parser.add_argument("--with-parent", action="store_true", help="end when standard input closes")


def run(args: argparse.Namespace) -> int:
    config = resolved_settings(args).config
    if args.replicas is not None and args.replicas < 1:
        raise SpecDecodeError("--replicas counts processes: give 1 or more.")
    logs.set_up(config.log_format, config.log_level)
    keys = keys_of(config)
    if args.with_parent:
        end_with_parent()
    allow_many_connections()
    with temporary_keys(needed=keys is not None) as replica_keys:
        return _run(args, config, keys, replica_keys)


def _run(
    args: argparse.Namespace, config: ServiceConfig, keys: ServerKeys | None, replica_keys: ReplicaKeys
) -> int:
    policy = RoutingPolicy(patience_s=args.patience_s)
    balancer = Balancer(
        config.bind, keys=keys, insecure=config.insecure, replica_keys=replica_keys.balancer, policy=policy
    )
    service = BalancerService(balancer, config.stuck_s, with_replicas=True)
    watchdog = notify.SystemdWatchdog(service.alive)
    with (
        listening(),
        service.watched(config.metrics_address),
        local_ray(log=True, prefix=config.log_format == "text") as ray,
        listening(),  # again: Ray has put its own handler for SIGTERM, which aborts, in place of the first one
        balancer,
    ):
        here = int(ray.cluster_resources().get("GPU", 0)) if config.device != "cpu" else 0
        gpus = load_pair_config(config.pair).target.tensor_parallel if here else 0
        wanted = args.replicas or (max(1, here // gpus) if gpus else 1)
        supervisor = Supervisor(
            ray,
            partial(_serve, _config_of_replicas(config, replica_keys)),
            balancer,
            wanted,
            gpus=gpus,
            drain_s=config.drain_s,
            patience_s=2 * args.patience_s,
        )
        service.supervisor = supervisor
        with supervisor, service.serving():
            supervisor.wait_serving(wanted, START_TIMEOUT_S)
            print(f"{READY}{balancer.endpoint}", flush=True)
            notify.tell(notify.READY)
            more = partial(_scale, supervisor, 1)
            with listening({signal.SIGTTIN: more, signal.SIGTTOU: partial(_scale, supervisor, -1)}):
                while not (name := ended_process(ray)):
                    time.sleep(1.0)
                    watchdog.look()
                _log.error(
                    "Ray's process %s has ended, and no replica can be started any more: start this command anew",
                    name,
                )
                os._exit(
                    1
                )  # in order Ray would wait for it; what is left of it is cleared away by its janitor
    return 0


def _config_of_replicas(config: ServiceConfig, replica_keys: ReplicaKeys) -> ServiceConfig:
    """The balancer in front of them checks the keys and shows the metrics, which it reads from them."""
    metrics = "127.0.0.1:0" if config.metrics else ""
    return replace(config, bind=LOOPBACK, keys=replica_keys.folder, insecure=False, metrics=metrics)


def _serve(config: ServiceConfig) -> VerifierService:
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
