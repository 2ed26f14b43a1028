"""One address for robots in front of verifiers on several machines."""

from __future__ import annotations

import argparse
import contextlib
import logging
import queue
import signal
from collections.abc import Sequence
from pathlib import Path

from spec_decode_ros.commands._settings import add_settings, resolved_settings
from spec_decode_ros.commands._signals import end_with_parent, listening
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server import logs, notify
from spec_decode_ros.server.fleet.balancer import Balancer
from spec_decode_ros.server.fleet.balancer_service import BalancerService
from spec_decode_ros.server.fleet.routing import RoutingPolicy
from spec_decode_ros.server.service import keys_of
from spec_decode_ros.transport.connection_guard import allow_many_connections
from spec_decode_ros.transport.keys import robot_keys
from spec_decode_ros.transport.process import READY

_log = logging.getLogger(__name__)

_TIDY_S = 1.0
_STUCK_S = 10.0
"""The balancer's thread comes round several times a second."""
_OFFERED = ("bind", "keys", "insecure", "metrics", "log_format", "log_level")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Robots connect here; each of them is served by one of the verifiers, the same one as long as that answers. "
        "When it does not, its robots go on at the others, with the tokens that they have."
    )
    parser.add_argument(
        "verifiers",
        nargs="*",
        metavar="URL",
        help="verifiers, such as tcp://10.0.0.6:5555 (spec-decode serve)",
    )
    parser.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="further verifiers, one a line; read again on SIGHUP, when those that are gone from it lose their robots",
    )
    add_settings(parser, _OFFERED)
    parser.add_argument(
        "--verifier-keys",
        metavar="DIR",
        help="what to show to verifiers that want keys: a folder that `spec-decode keygen --balancer` has made there",
    )
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
    if not (args.verifiers or args.list):
        raise SpecDecodeError("Name at least one verifier, such as tcp://10.0.0.6:5555, or a --list of them.")
    listed = _read(args.list)
    logs.set_up(config.log_format, config.log_level)
    keys = keys_of(config)
    if args.with_parent:
        end_with_parent()
    allow_many_connections()
    balancer = Balancer(
        config.bind,
        [*args.verifiers, *listed],
        keys=keys,
        insecure=config.insecure,
        replica_keys=robot_keys(args.verifier_keys) if args.verifier_keys else None,
        policy=RoutingPolicy(patience_s=args.patience_s),
    )
    service = BalancerService(balancer, _STUCK_S)
    watchdog = notify.SystemdWatchdog(service.alive)
    # Not an event: a signal may come while this thread holds the lock of one.
    asked: queue.SimpleQueue[None] = queue.SimpleQueue()
    with (
        listening({signal.SIGHUP: lambda: asked.put(None)}),
        service.watched(config.metrics_address),
        balancer,
        service.serving(),
    ):
        print(f"{READY}{balancer.endpoint}", flush=True)
        notify.tell(notify.READY)
        extra = {"endpoint": balancer.endpoint, "keys": keys is not None}
        _log.info("robots can connect to %s", balancer.endpoint, extra=extra)
        while True:
            with contextlib.suppress(queue.Empty):
                asked.get(timeout=_TIDY_S)
                _read_again(balancer, args.verifiers, args.list)
            _remove_the_empty(balancer)
            watchdog.look()
    return 0


def _read(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecDecodeError(f"The list of verifiers {file} can't be read: {error}.") from error
    return [word for line in lines if (word := line.partition("#")[0].strip())]


def _read_again(balancer: Balancer, always: Sequence[str], file: Path | None) -> None:
    """What is wrong with the list is logged; what was good before goes on."""
    try:
        wanted = [*always, *_read(file)]
        for replica in wanted:
            balancer.add(replica)
    except SpecDecodeError as error:
        _log.error("%s", error)
        return
    for replica in balancer.status.replicas:
        if replica not in wanted:
            balancer.leave(replica)


def _remove_the_empty(balancer: Balancer) -> None:
    for replica, state in balancer.status.replicas.items():
        if state.leaving and not state.robots:
            balancer.remove(replica)
            _log.info("no robot is left at %s, which can be stopped", replica)
