"""A balancer as a process: robots connect to it, and it follows a list of verifiers until it is told to end."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
from collections.abc import Sequence
from pathlib import Path

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server import notify
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.fleet.balancer import Balancer
from spec_decode_ros.server.fleet.balancer_service import BalancerService
from spec_decode_ros.server.fleet.routing import RoutingPolicy
from spec_decode_ros.server.service import keys_of
from spec_decode_ros.server.service_process import announce, prepare
from spec_decode_ros.transport.endpoint import EndpointError, parse_endpoint
from spec_decode_ros.transport.keys import robot_keys
from spec_decode_ros.transport.signals import end_with_parent, listening

_log = logging.getLogger(__name__)

_TIDY_S = 1.0
_STUCK_S = 10.0
"""The balancer's loop runs several times a second."""


class VerifierList:
    """Verifiers that are named, and further ones from a file, which may change.

    Args:
        named: their endpoints. file: one endpoint a line; None for no further ones.

    Raises:
        SpecDecodeError: the file can't be read, something is not an endpoint, or there is neither an endpoint nor a file.
    """

    def __init__(self, named: Sequence[str], file: Path | None) -> None:
        if not (named or file):
            raise SpecDecodeError(
                "Name at least one verifier, such as tcp://10.0.0.6:5555, or a --list of them."
            )
        self._named, self._file = named, file
        self.first = self._read()

    def _read(self) -> list[str]:
        named = [str(parse_endpoint(each)) for each in self._named]
        if self._file is None:
            return named
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SpecDecodeError(f"The list of verifiers {self._file} can't be read: {error}.") from error
        listed = (word for line in lines if (word := line.partition("#")[0].strip()))
        try:
            return [*named, *(str(parse_endpoint(each)) for each in listed)]
        except EndpointError as error:
            raise SpecDecodeError(f"The list of verifiers {self._file}: {error}") from None

    def apply(self, balancer: Balancer) -> None:
        """Read the file again. What is wrong with it is logged; what was good before goes on."""
        try:
            wanted = self._read()
            for replica in wanted:
                balancer.add(replica)
        except SpecDecodeError as error:
            _log.error("%s", error)
            return
        for replica in balancer.status.replicas:
            if replica not in wanted:
                balancer.leave(replica)


def balance(
    config: ServiceConfig,
    verifiers: VerifierList,
    policy: RoutingPolicy,
    verifier_keys: str | None = None,
    with_parent: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP reads the list again.

    Args:
        config: of the service.
        verifiers: to serve robots with.
        policy: when robots are moved.
        verifier_keys: folder of what to show to verifiers that want keys.
        with_parent: end also when standard input closes.

    Raises:
        SpecDecodeError: keys can't be read, or the address can't be bound.
    """
    prepare(config)
    keys = keys_of(config)
    if with_parent:
        end_with_parent()
    balancer = Balancer(
        config.bind,
        verifiers.first,
        keys=keys,
        insecure=config.insecure,
        replica_keys=robot_keys(verifier_keys) if verifier_keys else None,
        policy=policy,
        own_process=True,
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
        announce(balancer.endpoint)
        extra = {"endpoint": balancer.endpoint, "keys": keys is not None}
        _log.info("robots can connect to %s", balancer.endpoint, extra=extra)
        while True:
            with contextlib.suppress(queue.Empty):
                asked.get(timeout=_TIDY_S)
                verifiers.apply(balancer)
            _remove_the_empty(balancer)
            watchdog.look()


def _remove_the_empty(balancer: Balancer) -> None:
    for replica, state in balancer.status.replicas.items():
        if state.leaving and not state.robots:
            balancer.remove(replica)
            _log.info("no robot is left at %s, which can be stopped", replica)
