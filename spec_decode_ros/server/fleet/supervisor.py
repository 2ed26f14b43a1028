"""Keeps so many replicas alive, and tells a balancer which there are."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.fleet.actor import Replica, StartableService, Started
from spec_decode_ros.server.fleet.balancer import Balancer, BalancerStatus
from spec_decode_ros.server.fleet.scaling import ReplicaPhase, ReplicaStatus, delay_s, plan
from spec_decode_ros.server.process import START_TIMEOUT_S
from spec_decode_ros.transport.watchdog import Watchdog

_log = logging.getLogger(__name__)

_LOOK_S = 0.2
_CALLS_AT_ONCE = 4
_HEALTHY_S = 60.0
"""A replica that has served for so long has not failed to start."""
_LONGEST_STOP_S = 30.0
_END_S = 5.0
_ASK_EVERY_S = 2.0
_ANSWER_S = 20.0
"""A replica that has not said for so long whether it is alive is not; one pass of a large target keeps it that busy."""


@dataclass
class _Entry:
    number: int
    actor: Any
    starting: Any
    """What will say where it serves."""
    since: float
    phase: ReplicaPhase = ReplicaPhase.STARTING
    served: Started = field(default_factory=Started)
    life: Any = None
    """What ends with the process."""
    asked: Any = None
    """What will say whether it is alive."""
    asked_at: float = 0.0
    ending: bool = False

    @property
    def awaited(self) -> list[Any]:
        """What may be there at the next look."""
        return [ref for ref in (self.starting, self.life, self.asked) if ref is not None]


@dataclass(frozen=True)
class ReplicaRow:
    """One replica, as operators see it."""

    number: int
    phase: ReplicaPhase
    endpoint: str
    pid: int
    robots: int
    status_url: str
    """Where its own metrics are; empty where there are none."""


class Supervisor:
    """Runs replicas as Ray's actors in a thread of its own.

    Args:
        ray: the module, with a Ray that runs (:func:`spec_decode_ros.server.fleet.cluster.local_ray`).
        serve: makes a service in the replica's process; it travels there, so it has to be configuration only.
        balancer: learns of every replica.
        wanted: how many; change it with `scale`.
        gpus: how many GPUs each of them has for itself.
        start_s: one that does not serve after so long is started anew.
        drain_s: so long actions may go on at one that is told to end.
        patience_s: a replica that is to leave ends after so long, whether it has robots or not.
    """

    def __init__(
        self,
        ray: Any,
        serve: Callable[[], StartableService],
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
        self._check(wanted)
        self._wanted = wanted
        self._entries: list[_Entry] = []
        self._number = 0
        self._failures = 0
        self._not_before = 0.0
        self._failure: Exception | None = None
        self._deaths = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._rounds = Watchdog()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin to start replicas; see `wait_serving`."""
        self._thread.start()

    def wait_serving(self, count: int, timeout_s: float) -> None:
        """Wait until so many serve.

        Raises:
            SpecDecodeError: one could not start and none serves, or it takes longer.
        """
        until = time.monotonic() + timeout_s
        with self._changed:
            while (serving := self._count(ReplicaPhase.SERVING)) < count:
                if self._failure is not None and not serving:
                    raise SpecDecodeError(f"A replica does not start: {self._why(self._failure)}")
                if not self._changed.wait(min(1.0, max(0.0, until - time.monotonic()))) and (
                    time.monotonic() >= until
                ):
                    raise SpecDecodeError(
                        f"{serving} of {count} replicas serve after {timeout_s:g} s; is the machine too small for them?"
                    )

    def scale(self, wanted: int) -> None:
        """Have so many from now on. Raises SpecDecodeError if there are not enough GPUs."""
        self._check(wanted)
        self._wanted = wanted

    @property
    def wanted(self) -> int:
        """How many there are to be."""
        return self._wanted

    @property
    def rows(self) -> tuple[ReplicaRow, ...]:
        """Every replica; never waits for the balancer, so that robots are those of some tenths of a second ago."""
        robots = _robots(self._balancer.glance)
        with self._changed:
            return tuple(
                ReplicaRow(
                    entry.number,
                    entry.phase,
                    entry.served.endpoint,
                    entry.served.pid,
                    robots.get(entry.served.endpoint, 0),
                    entry.served.status_url,
                )
                for entry in self._entries
            )

    @property
    def deaths(self) -> int:
        """How many replicas have died or could not start."""
        return self._deaths

    @property
    def round_s(self) -> float | None:
        """For how many seconds its thread has not come round; see :meth:`Watchdog.missed_s`."""
        return self._rounds.missed_s(self._thread, self._stopping)

    def stop(self) -> None:
        """End every replica, after its running actions or after `drain_s`. Safe to call twice."""
        with self._changed:
            self._stopping = True
        if self._thread.is_alive():
            self._thread.join(_LONGEST_STOP_S)
        ending = [entry.actor.stop.remote(self._drain_s) for entry in self._entries if entry.life is not None]
        try:
            if ending:
                self._ray.wait(ending, num_returns=len(ending), timeout=self._drain_s + _END_S)
        finally:
            for entry in self._entries:
                self._ray.kill(entry.actor)
            self._entries = []

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _check(self, wanted: int) -> None:
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

    def _why(self, error: Exception) -> str:
        if isinstance(error, self._ray.exceptions.RayActorError):
            return "its process has died"
        return str(getattr(error, "cause", None) or error)  # what was raised in the replica's process

    # ---- in the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            self._rounds.comes_round()
            try:
                self._look()
            except Exception:
                _log.exception("the supervisor goes on after a failure")
                time.sleep(_LOOK_S)

    def _look(self) -> None:
        """Take in what has happened, and do what follows from it; takes `_LOOK_S` at most where nothing has."""
        refs = {ref: entry for entry in self._entries for ref in entry.awaited}
        if refs:
            ended, _ = self._ray.wait(list(refs), num_returns=1, timeout=_LOOK_S)
        else:
            ended = []
            time.sleep(_LOOK_S)
        for ref in ended:
            self._take_in(refs[ref], ref)
        self._ask()
        self._obey()

    def _take_in(self, entry: _Entry, ref: Any) -> None:
        try:
            result = self._ray.get(ref)
        except Exception as error:
            self._died(entry, error)
            return
        if ref == entry.starting:
            self._serves(entry, result)
            entry.starting = None  # last: what fails in between is tried again
        elif ref == entry.life:
            self._forget(entry)  # it was told to end, and has
        else:
            entry.asked = None
            if result:
                self._died(entry, SpecDecodeError(result))

    def _serves(self, entry: _Entry, served: Started) -> None:
        self._balancer.add(served.endpoint)
        life = entry.actor.last.remote()
        with self._changed:
            entry.served, entry.life = served, life
            entry.phase, entry.since = ReplicaPhase.SERVING, time.monotonic()
            self._changed.notify_all()
        _log.info(
            "replica %d serves at %s",
            entry.number,
            served.endpoint,
            extra={"replica": entry.number, "endpoint": served.endpoint, "replica_pid": served.pid},
        )

    def _ask(self) -> None:
        """Whether those that serve are alive: a process can live on while its model hangs."""
        now = time.monotonic()
        for entry in list(self._entries):
            if entry.life is None:
                if now - entry.since > self._start_s:
                    self._died(entry, SpecDecodeError(f"it does not serve after {self._start_s:g} s"))
            elif entry.asked is not None and now - entry.asked_at > _ANSWER_S:
                self._died(entry, SpecDecodeError(f"it has not answered for {_ANSWER_S:g} s"))
            elif entry.asked is None and now - entry.asked_at > _ASK_EVERY_S:
                entry.asked, entry.asked_at = entry.actor.alive.remote(), now

    def _died(self, entry: _Entry, error: Exception) -> None:
        served_s = time.monotonic() - entry.since if entry.phase is not ReplicaPhase.STARTING else 0.0
        self._forget(entry)
        if entry.ending:
            return
        with self._changed:
            self._deaths += 1
            self._failures = 1 if served_s >= _HEALTHY_S else self._failures + 1
            self._not_before = time.monotonic() + delay_s(self._failures)
            if entry.phase is ReplicaPhase.STARTING:
                self._failure = error
            self._changed.notify_all()
        _log.warning(
            "replica %d has failed: %s", entry.number, self._why(error), extra={"replica": entry.number}
        )

    def _forget(self, entry: _Entry) -> None:
        if entry.served.endpoint:
            self._balancer.remove(entry.served.endpoint)
        self._ray.kill(entry.actor)
        with self._changed:
            self._entries.remove(entry)
            self._changed.notify_all()

    def _obey(self) -> None:
        now = time.monotonic()
        robots = _robots(self._balancer.status)
        by_number = {entry.number: entry for entry in self._entries}
        rows = [
            ReplicaStatus(entry.number, entry.phase, entry.since, robots.get(entry.served.endpoint, 0))
            for entry in self._entries
        ]
        todo = plan(rows, self._wanted, now, self._patience_s)
        for number in todo.leave:
            self._move(by_number[number], ReplicaPhase.LEAVING, self._balancer.leave)
        for number in todo.stay:
            self._move(by_number[number], ReplicaPhase.SERVING, self._balancer.add)
        for number in todo.end:
            self._end(by_number[number])
        if now >= self._not_before:
            for _ in range(todo.start):
                self._begin()

    def _move(self, entry: _Entry, phase: ReplicaPhase, tell: Callable[[str], None]) -> None:
        if entry.ending:
            return
        with self._changed:
            entry.phase, entry.since = phase, time.monotonic()
            self._changed.notify_all()
        tell(entry.served.endpoint)
        _log.info(
            "replica %d at %s is %s",
            entry.number,
            entry.served.endpoint,
            phase.value,
            extra={"replica": entry.number, "endpoint": entry.served.endpoint},
        )

    def _begin(self) -> None:
        self._number += 1
        make = self._ray.remote(
            num_cpus=0, num_gpus=self._gpus, max_restarts=0, max_concurrency=_CALLS_AT_ONCE
        )
        actor = make(Replica).remote(self._serve)
        entry = _Entry(self._number, actor, actor.start.remote(), time.monotonic())
        with self._changed:
            self._entries.append(entry)

    def _end(self, entry: _Entry) -> None:
        if entry.phase is ReplicaPhase.STARTING:
            entry.ending = True
            self._forget(entry)
        elif not entry.ending:
            entry.ending, entry.since = True, time.monotonic()
            self._balancer.remove(entry.served.endpoint)
            entry.actor.stop.remote(self._drain_s)
        elif time.monotonic() - entry.since > self._drain_s + _LONGEST_STOP_S:
            self._forget(entry)

    def _count(self, phase: ReplicaPhase) -> int:
        return sum(entry.phase is phase for entry in self._entries)


def _robots(status: BalancerStatus) -> dict[str, int]:
    return {endpoint: state.robots for endpoint, state in status.replicas.items()}
