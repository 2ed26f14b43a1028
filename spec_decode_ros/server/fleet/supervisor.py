"""Supervisor of replicas: keeps the wanted number alive as Ray actors, and tells a balancer about them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.fleet.actor import Replica, ReplicaAddress
from spec_decode_ros.server.fleet.balancer import Balancer, BalancerStatus
from spec_decode_ros.server.fleet.scaling import ReplicaPhase, ReplicaStatus, plan_scaling
from spec_decode_ros.server.process import START_TIMEOUT_S
from spec_decode_ros.server.service import VerifierService
from spec_decode_ros.transport.backoff import backoff_s
from spec_decode_ros.transport.watchdog import Watchdog

_log = logging.getLogger(__name__)

_STEP_S = 0.2
_CALLS_AT_ONCE = 4
_RESTART_FIRST_S = 1.0
_RESTART_LONGEST_S = 60.0
_HEALTHY_S = 60.0
"""After this time of serving, a failure does not count as a failed start."""
_LONGEST_STOP_S = 30.0
_END_S = 5.0
_CHECK_EVERY_S = 2.0
_CHECK_ANSWER_S = 20.0
"""A replica that takes longer to answer a check has failed. One pass of a large target can take most of that."""


@dataclass
class _ReplicaActor:
    """A replica, its Ray actor, and the calls to it that have not returned yet."""

    status: ReplicaStatus
    actor: Any
    start_call: Any
    stopped_call: Any = None
    check_call: Any = None
    checked: float = 0.0
    ending: bool = False

    @property
    def calls(self) -> list[Any]:
        return [ref for ref in (self.start_call, self.stopped_call, self.check_call) if ref is not None]

    def enter(self, phase: ReplicaPhase, address: ReplicaAddress | None = None) -> None:
        changes = address._asdict() if address else {}
        self.status = replace(self.status, phase=phase, since=time.monotonic(), **changes)


@dataclass(frozen=True)
class SupervisorStatus:
    """All replicas, how many there are to be, and how many have died, hung or could not start."""

    replicas: tuple[ReplicaStatus, ...] = ()
    wanted: int = 0
    failures: int = 0


class Supervisor:
    """Runs replicas in a thread of its own.

    Args:
        ray: the module, with a Ray that runs (:func:`spec_decode_ros.server.fleet.cluster.local_ray`).
        serve: makes a service in the replica's process; it is pickled, so it holds configuration only.
        balancer: is told about every replica.
        wanted: how many replicas; change it with `scale`.
        gpus: how many GPUs each of them has for itself.
        start_s: a replica that does not serve after this time is started again.
        drain_s: how long running actions may go on when a replica is ended.
        patience_s: a leaving replica is ended after this time, whether it has robots or not.
    """

    def __init__(
        self,
        ray: Any,
        serve: Callable[[], VerifierService],
        balancer: Balancer,
        wanted: int,
        *,
        gpus: int = 0,
        start_s: float = START_TIMEOUT_S,
        drain_s: float = 5.0,
        patience_s: float = 60.0,
    ) -> None:
        self._ray = ray
        self._serve = serve
        self._balancer = balancer
        self._gpus = gpus
        self._start_s = start_s
        self._drain_s = drain_s
        self._patience_s = patience_s
        self._most = int(ray.cluster_resources().get("GPU", 0)) // gpus if gpus else None
        self.scale(wanted)
        self._actors: list[_ReplicaActor] = []
        self._started = 0
        self._failures = 0
        self._failures_in_a_row = 0
        self._next_start = 0.0
        self._start_error: Exception | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self._watchdog = Watchdog()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin to start replicas; see `wait_serving`."""
        self._thread.start()

    def wait_serving(self, count: int, timeout_s: float) -> None:
        """Wait until `count` serve. Raises SpecDecodeError if one could not start and none serves, or after `timeout_s`."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while (serving := self._count_serving()) < count:
                if self._start_error is not None and not serving:
                    raise SpecDecodeError(f"A replica does not start: {self._reason(self._start_error)}")
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise SpecDecodeError(
                        f"{serving} of {count} replicas serve after {timeout_s:g} s; is the machine too small for them?"
                    )
                self._changed.wait(min(1.0, left_s))

    def scale(self, wanted: int) -> None:
        """Have this number of replicas from now on. Raises SpecDecodeError if there are not enough GPUs."""
        if wanted < 0:
            raise SpecDecodeError(f"{wanted} replicas can't be had: give 0 or more.")
        if self._most is not None and wanted > self._most:
            remedy = (
                f"give --replicas {self._most}"
                if self._most
                else "lower tensor_parallel, or say --device cpu"
            )
            raise SpecDecodeError(
                f"There are GPUs for {self._most} replicas here, not for {wanted}: {remedy}."
            )
        self._wanted = wanted

    @property
    def status(self) -> SupervisorStatus:
        """The present status; never waits for the balancer, so numbers of robots are some tenths of a second old."""
        with self._changed:
            replicas = self._replicas(self._balancer.last_status)
            return SupervisorStatus(replicas, self._wanted, self._failures)

    @property
    def stalled_s(self) -> float | None:
        """See :meth:`Watchdog.stalled_s`."""
        return self._watchdog.stalled_s(self._thread, self._stopping)

    def stop(self) -> None:
        """End every replica, after its running actions or after `drain_s`. Safe to call twice."""
        with self._changed:
            self._stopping = True
        if self._thread.is_alive():
            self._thread.join(_LONGEST_STOP_S)
        ending = [each.actor.stop.remote(self._drain_s) for each in self._actors if each.stopped_call]
        try:
            if ending:
                self._ray.wait(ending, num_returns=len(ending), timeout=self._drain_s + _END_S)
        finally:
            for each in self._actors:
                self._ray.kill(each.actor)
            self._actors = []

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _replicas(self, balancer: BalancerStatus) -> tuple[ReplicaStatus, ...]:
        robots = {endpoint: state.robots for endpoint, state in balancer.replicas.items()}
        return tuple(
            replace(each.status, robots=robots.get(each.status.endpoint, 0)) for each in self._actors
        )

    def _count_serving(self) -> int:
        return sum(each.status.phase is ReplicaPhase.SERVING for each in self._actors)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, self._ray.exceptions.RayActorError):
            return "its process has died"
        return str(getattr(error, "cause", None) or error)  # what was raised in the replica's process

    # ---- in the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            self._watchdog.feed()
            try:
                self._step()
            except Exception:
                _log.exception("the supervisor goes on after a failure")
                time.sleep(_STEP_S)

    def _step(self) -> None:
        """Handle calls that have returned, check the replicas, and scale; waits up to `_STEP_S` if nothing returns."""
        calls = {ref: each for each in self._actors for ref in each.calls}
        if calls:
            returned, _ = self._ray.wait(list(calls), num_returns=1, timeout=_STEP_S)
        else:
            returned = []
            time.sleep(_STEP_S)
        for ref in returned:
            self._on_returned(calls[ref], ref)
        self._check()
        self._scale()

    def _on_returned(self, replica: _ReplicaActor, ref: Any) -> None:
        try:
            result = self._ray.get(ref)
        except Exception as error:
            self._fail(replica, error)
            return
        if ref == replica.start_call:
            self._on_started(replica, result)
            replica.start_call = None  # last: what fails in between is tried again
        elif ref == replica.stopped_call:
            self._remove(replica)  # it was told to end, and has
        else:
            replica.check_call = None
            if result:
                self._fail(replica, SpecDecodeError(result))

    def _on_started(self, replica: _ReplicaActor, address: ReplicaAddress) -> None:
        self._balancer.add(address.endpoint)
        replica.stopped_call = replica.actor.wait_stopped.remote()
        with self._changed:
            replica.enter(ReplicaPhase.SERVING, address)
            self._changed.notify_all()
        number = replica.status.number
        extra = {"replica": number, "endpoint": address.endpoint, "replica_pid": address.pid}
        _log.info("replica %d serves at %s", number, address.endpoint, extra=extra)

    def _check(self) -> None:
        """Whether the replicas work: a process can live on while its model hangs."""
        now = time.monotonic()
        for each in list(self._actors):
            if each.stopped_call is None:
                if now - each.status.since > self._start_s:
                    self._fail(each, SpecDecodeError(f"it does not serve after {self._start_s:g} s"))
            elif each.check_call is not None and now - each.checked > _CHECK_ANSWER_S:
                self._fail(each, SpecDecodeError(f"it has not answered for {_CHECK_ANSWER_S:g} s"))
            elif each.check_call is None and now - each.checked > _CHECK_EVERY_S:
                each.check_call, each.checked = each.actor.problem.remote(), now

    def _fail(self, replica: _ReplicaActor, error: Exception) -> None:
        self._remove(replica)
        if replica.ending:
            return
        starting = replica.status.phase is ReplicaPhase.STARTING
        healthy = not starting and time.monotonic() - replica.status.since >= _HEALTHY_S
        with self._changed:
            self._failures += 1
            self._failures_in_a_row = 1 if healthy else self._failures_in_a_row + 1
            pause_s = backoff_s(
                self._failures_in_a_row, first_s=_RESTART_FIRST_S, longest_s=_RESTART_LONGEST_S
            )
            self._next_start = time.monotonic() + pause_s
            if starting:
                self._start_error = error
            self._changed.notify_all()
        number = replica.status.number
        _log.warning("replica %d has failed: %s", number, self._reason(error), extra={"replica": number})

    def _remove(self, replica: _ReplicaActor) -> None:
        if replica.status.endpoint:
            self._balancer.remove(replica.status.endpoint)
        self._ray.kill(replica.actor)
        with self._changed:
            self._actors.remove(replica)
            self._changed.notify_all()

    def _scale(self) -> None:
        now = time.monotonic()
        replicas = self._replicas(self._balancer.status)
        by_number = {each.status.number: each for each in self._actors}
        plan = plan_scaling(replicas, self._wanted, now, self._patience_s)
        for number in plan.leave:
            self._enter(by_number[number], ReplicaPhase.LEAVING, self._balancer.leave)
        for number in plan.stay:
            self._enter(by_number[number], ReplicaPhase.SERVING, self._balancer.add)
        for number in plan.end:
            self._end(by_number[number])
        if now >= self._next_start:
            for _ in range(plan.start):
                self._start_replica()

    def _enter(self, replica: _ReplicaActor, phase: ReplicaPhase, tell: Callable[[str], None]) -> None:
        if replica.ending:
            return
        with self._changed:
            replica.enter(phase)
            self._changed.notify_all()
        number, endpoint = replica.status.number, replica.status.endpoint
        tell(endpoint)
        extra = {"replica": number, "endpoint": endpoint}
        _log.info("replica %d at %s is %s", number, endpoint, phase.value, extra=extra)

    def _start_replica(self) -> None:
        self._started += 1
        make = self._ray.remote(
            num_cpus=0, num_gpus=self._gpus, max_restarts=0, max_concurrency=_CALLS_AT_ONCE
        )
        actor = make(Replica).remote(self._serve)
        status = ReplicaStatus(self._started, ReplicaPhase.STARTING, time.monotonic())
        with self._changed:
            self._actors.append(_ReplicaActor(status, actor, actor.start.remote()))

    def _end(self, replica: _ReplicaActor) -> None:
        if replica.status.phase is ReplicaPhase.STARTING:
            replica.ending = True
            self._remove(replica)
        elif not replica.ending:
            replica.ending = True
            replica.enter(ReplicaPhase.LEAVING)
            self._balancer.remove(replica.status.endpoint)
            replica.actor.stop.remote(self._drain_s)
        elif time.monotonic() - replica.status.since > self._drain_s + _LONGEST_STOP_S:
            self._remove(replica)
