"""A verifier as a service, for ``spec-decode serve`` and ``cloud_bridge_node``, built from one configuration.

The status page opens first, so that an orchestrator sees a service that loads; robots are served when it is warm.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from spec_decode_ros.models.fingerprint import target_fingerprint
from spec_decode_ros.models.grammar import with_grammar
from spec_decode_ros.models.interfaces import Verifier
from spec_decode_ros.models.pair import load_verifier
from spec_decode_ros.models.pair_config import load_pair_config
from spec_decode_ros.models.warmup import PassTiming, be_responsive, warm_up
from spec_decode_ros.server import health, logs
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.health import HealthReport, ServicePhase, Worker
from spec_decode_ros.server.server_drafts import ServerDrafter, server_drafter
from spec_decode_ros.server.status_server import Page, StatusServer, open_status
from spec_decode_ros.server.verifier_server import ServerCounts, VerifierServer
from spec_decode_ros.transport.keys import ServerKeys, make_keys, server_keys

if TYPE_CHECKING:
    from spec_decode_ros.server.metrics import ServiceMetrics

_log = logging.getLogger(__name__)


class Target(NamedTuple):
    """A target that is loaded and warm, how its server drafts, and the fingerprint of its weights."""

    verifier: Verifier
    drafter: ServerDrafter | None
    timing: PassTiming
    fingerprint: str = ""


def load_target(config: ServiceConfig) -> Target:
    """Load the target of the pair and make its first passes. Raises SpecDecodeError."""
    pair = with_grammar(load_pair_config(config.pair), config.grammar)
    if config.dtype:
        pair = replace(pair, target=replace(pair.target, dtype=config.dtype))
    device = config.device or None
    threads = None if config.threads < 0 else config.threads
    with contextlib.suppress(ModuleNotFoundError):  # which `load_verifier` explains
        import_module("spec_decode_ros.models.loading")
    logs.adopt_libraries()
    verifier = load_verifier(pair, device, threads)
    timing = warm_up(verifier)
    drafter = server_drafter(pair, verifier, timing, device, threads)
    return Target(verifier, drafter, timing, target_fingerprint(pair, verifier.dtype))


def keys_of(config: ServiceConfig, new_robot: str | None = None) -> ServerKeys | None:
    """The server's keys, made where there are none yet; None without a folder of keys. Raises SpecDecodeError."""
    if not config.keys:
        return None
    for made in make_keys(config.keys, new_robot):
        _log.warning("new keys: copy %s to the robot, then delete it here", made)
    return server_keys(config.keys)


class VerifierService:
    """One verifier server with its status page, started and ended in order.

    Args:
        config: all settings.
        new_robot: with keys: make some for one more robot.
        load: how the target is loaded.
    """

    def __init__(
        self,
        config: ServiceConfig,
        new_robot: str | None = None,
        load: Callable[[ServiceConfig], Target] = load_target,
    ) -> None:
        self._config = config
        self._load = load
        self._new_robot = new_robot
        self._phase = ServicePhase.LOADING
        self._server: VerifierServer | None = None
        self._status: StatusServer | None = None
        self._metrics: ServiceMetrics | None = None
        self._ended = False

    def start(self) -> str:
        """Load the target, begin to serve, and return the endpoint; takes as long as loading takes.

        Raises:
            SpecDecodeError: something can't be loaded or bound; nothing is left running then.
        """
        began = time.monotonic()
        try:
            return self._start(began)
        except BaseException:
            self.stop()
            raise

    def _start(self, began: float) -> str:
        config = self._config
        pair = load_pair_config(config.pair).name
        _log.info("loading the pair %s", pair, extra={"pair": pair})
        if config.metrics_address:  # before anything that takes long
            page = partial(self._metrics_page, pair)
            self._status = open_status(config.metrics_address, self.alive, self.ready, page)
        keys = keys_of(config, self._new_robot)
        target = self._load(config)
        be_responsive()
        self._server = VerifierServer(
            target.verifier,
            pair,
            config,
            drafter=target.drafter,
            timing=target.timing,
            keys=keys,
            observer=self._metrics,
            target_fingerprint=target.fingerprint,
        )
        endpoint = self._server.start(own_process=True)
        if self._metrics:
            self._metrics.watch(self._server)
        self._phase = ServicePhase.SERVING
        _log.info(
            "serving the pair %s at %s with the target %s",
            pair,
            endpoint,
            target.fingerprint or "of unknown weights",
            extra={
                "pair": pair,
                "target_fingerprint": target.fingerprint,
                "endpoint": endpoint,
                "keys": keys is not None,
                "load_s": round(time.monotonic() - began, 1),
            },
        )
        return endpoint

    def _metrics_page(self, pair: str) -> Page:
        from spec_decode_ros.server.metrics import ServiceMetrics

        self._metrics = ServiceMetrics(pair, lambda: self.ready().ok)
        return self._metrics.page()

    def drain(self, timeout_s: float | None = None) -> bool:
        """Refuse new actions and let the running ones end; whether they all did in time.

        Args:
            timeout_s: by default what the configuration says.
        """
        if self._server is None:
            return True
        self._phase = ServicePhase.DRAINING
        timeout_s = self._config.drain_s if timeout_s is None else timeout_s
        _log.info(
            "draining: new actions are refused, running ones have %g s",
            timeout_s,
            extra={"sessions": self._server.counts.sessions, "drain_s": timeout_s},
        )
        done = self._server.drain(timeout_s)
        if not done:
            sessions = self._server.counts.sessions
            _log.warning("the time to drain is over: actions are cut off", extra={"sessions": sessions})
        return done

    def stop(self) -> None:
        """End all threads; a pass that runs is waited for. Stopping twice does nothing."""
        if self._ended:
            return
        self._ended = True
        self._phase = ServicePhase.ENDED  # from here on threads end in order
        if self._server is not None:
            counts = self._server.counts
            self._server.stop()
            _log.info(
                "ended",
                extra={"actions": counts.actions, "passes": counts.passes, "failures": counts.failures},
            )
        if self._status is not None:
            self._status.stop()

    @property
    def counts(self) -> ServerCounts:
        """What the server has done; zeros while it loads."""
        return self._server.counts if self._server else ServerCounts()

    @property
    def status_url(self) -> str:
        """Where metrics and health are; empty where there are none."""
        return self._status.url if self._status else ""

    def alive(self) -> HealthReport:
        """Whether it works at all."""
        return health.alive(self._phase, self._workers(), self._config.stuck_s)

    def ready(self) -> HealthReport:
        """Whether robots should be sent here now."""
        return health.ready(self._phase, self._workers(), self._config.stuck_s)

    def _workers(self) -> list[Worker]:
        if self._server is None:
            return []
        socket_s = None if self._server.socket.alive else math.inf
        return [Worker("model", self._server.engine.round_s, "pass"), Worker("socket", socket_s)]
