"""The engine: the thread that alone drives the models of a server, in rounds over the waiting sessions.

Work comes from the state machines as commands. In each round the thread frees what has finished, prepares a few new
prompts, and makes one pass over a batch of waiting sessions (:mod:`spec_decode_ros.server.scheduler`). The models run
outside the lock, so that messages reach the machines in the meantime; whatever goes wrong in one session ends that
session, never the thread.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from spec_decode_ros.decoding.commands import CloudCommand, Finished, Prepare, RunPass, Wait
from spec_decode_ros.decoding.states import CloudState
from spec_decode_ros.models.interfaces import Choices, ForwardInput, OnEarly, Verifier
from spec_decode_ros.server.observer import ServerObserver
from spec_decode_ros.server.scheduler import NEWEST_PASS, VerifyRequest, schedule_step
from spec_decode_ros.server.server_drafts import ServerDraft, ServerDrafter, ServerDrafts
from spec_decode_ros.server.session import Session

_log = logging.getLogger(__name__)

_SWEEP_S = 1.0
_JOIN_S = 30.0


class EngineOwner(Protocol):
    """The server, as its engine sees it. All methods are called with the lock held."""

    lock: threading.Condition
    """Guards all sessions and their machines; the engine waits on it for work."""

    def execute(self, session: Session, commands: list[CloudCommand]) -> None:
        """Carry out a machine's commands; those for the models come back by :meth:`Engine.take`."""
        ...

    def fail(self, session: Session, error: Exception) -> None:
        """End a session because of an exception."""
        ...

    def models_idle(self) -> None:
        """Nothing waits for the models."""
        ...

    def sweep(self, now: float) -> None:
        """About a second has passed."""
        ...


class _Waiting(NamedTuple):
    """A session that waits for a pass; with `prefill` it is in one with so many tokens of its prompt only."""

    session: Session
    run: RunPass
    prefill: int = 0


class Engine:
    """Drives one target, and the server's own draft model if it has one.

    Args:
        verifier: the target.
        drafter: how the server drafts.
        budget: about how many tokens a shared pass may have.
        owner: has the sessions and the lock.
        observer: of passes.
    """

    def __init__(
        self,
        verifier: Verifier,
        drafter: ServerDrafter | None,
        budget: int,
        owner: EngineOwner,
        observer: ServerObserver,
    ) -> None:
        self._verifier = verifier
        self._budget = budget
        self._owner = owner
        self._lock = owner.lock
        self._observer = observer
        self._thresholds = tuple(exit.threshold for exit in verifier.exits)
        self._new: collections.deque[Session] = collections.deque()
        self._ready: list[_Waiting] = []
        self._finished: collections.deque[Session] = collections.deque()
        self._timers: list[tuple[float, int, Session]] = []
        self._order = itertools.count()
        self._next_sweep = 0.0
        self._prompt_tokens = 1
        self._waited_at_start: set[int] = set()  # sessions, of the round
        self._left_out = False  # whether one of these is not in the pass that runs
        self._stopping = False
        self._round_began: float | None = None
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self.drafts = ServerDrafts(drafter, self._lock)
        self.busy_ms = 0.0
        self.passes = 0
        self.sharing = 1.0
        """Moving average of how many sessions share a pass."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a pass that runs is waited for."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    @property
    def round_s(self) -> float | None:
        """For how many seconds the present round has been running; None while idle, infinite where the thread has ended."""
        if not self._thread.is_alive():
            return float("inf")
        began = self._round_began
        return None if began is None else time.monotonic() - began

    @property
    def waiting(self) -> int:
        """How many sessions wait for the models."""
        return len(self._new) + len(self._ready)

    def take(self, session: Session, command: CloudCommand) -> None:
        """Queue what a machine has commanded; call it under the lock."""
        if isinstance(command, Prepare):
            self._new.append(session)
        elif isinstance(command, RunPass):
            self._ready.append(_Waiting(session, command))
        elif isinstance(command, Wait):
            due = time.monotonic() + command.milliseconds / 1000.0
            heapq.heappush(self._timers, (due, next(self._order), session))
        elif isinstance(command, Finished):
            session.images = ()
            self._finished.append(session)
        self._lock.notify_all()

    # ---- rounds --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait_for_work():
            for step in (self._free, self._prepare, self._pass):
                try:
                    step()
                except Exception:
                    _log.exception("the model thread goes on after a failure")
            self._round_began = None

    def _wait_for_work(self) -> bool:
        with self._lock:
            while not self._stopping:
                now = time.monotonic()
                while self._timers and self._timers[0][0] <= now:
                    session = heapq.heappop(self._timers)[2]
                    self._report(session, session.machine.waited)
                if now >= self._next_sweep:
                    self._next_sweep = now + _SWEEP_S
                    self._owner.sweep(now)
                if not self.waiting:
                    self._owner.models_idle()
                if self.waiting or self._finished:
                    self._round_began = now
                    return True
                due = self._timers[0][0] if self._timers else float("inf")
                self._lock.wait(max(0.0, min(due, self._next_sweep) - now))
            return False

    def _free(self) -> None:
        while self._finished:
            session = self._finished.popleft()
            self.drafts.action_ended(session)
            opened = [each for each in (session.verify_session, session.draft_session) if each is not None]
            session.verify_session = session.draft_session = None
            for each in opened:
                try:
                    each.close()
                except Exception:
                    _log.exception("freeing the caches of action %d failed", session.action_id)

    def _prepare(self) -> None:
        with self._lock:
            self._waited_at_start = set(self._waiting_ids())
            # About as many prompts as fit into a pass.
            count = max(1, self._budget // self._prompt_tokens)
            sessions = [self._new.popleft() for _ in range(min(count, len(self._new)))]
            sessions = [session for session in sessions if not self._was_closed(session)]
        if not sessions:
            return
        start = time.perf_counter()
        prepared = self._verifier.prepare_many([(session.prompt, session.images) for session in sessions])
        busy_ms = (time.perf_counter() - start) * 1000.0
        with self._lock:
            self.busy_ms += busy_ms
            for session, made in zip(sessions, prepared, strict=True):
                if isinstance(made, Exception):
                    self._owner.fail(session, made)
                    continue
                session.verify_session = made
                self._prompt_tokens = max(1, made.not_prefilled)
                self._report(session, session.machine.prepared, busy_ms / len(sessions), made.answer_room)

    def _pass(self) -> None:
        with self._lock:
            batch = self._next_batch()
        if not batch:
            return
        self.sharing += NEWEST_PASS * (len(batch) - self.sharing)
        drafts = self.drafts.make(
            [(each.session, 0 if each.prefill else each.run.server_tokens) for each in batch]
        )
        inputs: list[ForwardInput] = []
        sharing: list[_Waiting] = []
        with self._lock:
            self._observer.queue(self.waiting, len(batch))
            for each, draft in zip(batch, drafts, strict=True):
                try:
                    inputs.append(self._input(each, draft))
                    sharing.append(each)
                except Exception as error:
                    self._owner.fail(each.session, error)
            widths = [each.width for each in inputs]
        if not inputs:
            return
        start = time.perf_counter()
        results = self._verifier.verify_many(inputs)
        busy_ms = (time.perf_counter() - start) * 1000.0
        with self._lock:
            self.passes += 1
            self.busy_ms += busy_ms
            self._observer.pass_done(len(inputs), sum(widths), busy_ms)
            for each, result, width in zip(sharing, results, widths, strict=True):
                each.session.unreported_ms += busy_ms * width / sum(widths)
                self._report_pass(each, result)

    # ---- under the lock ------------------------------------------------------------------------------------

    def _next_batch(self) -> list[_Waiting]:
        """The waiting sessions that share the next pass; they wait no longer."""
        self._ready = [each for each in self._ready if not self._was_closed(each.session)]
        requests = [
            VerifyRequest(
                each.session.verify_session.not_prefilled if each.session.verify_session else 0,
                len(each.run.draft),
            )
            for each in self._ready
        ]
        slots = schedule_step(requests, self._budget)
        batch = [self._ready[slot.index]._replace(prefill=slot.prefill) for slot in slots]
        taken = {slot.index for slot in slots}
        self._ready = [each for index, each in enumerate(self._ready) if index not in taken]
        # Those that have come since are in the next pass, and need not be made room for.
        self._left_out = any(each in self._waited_at_start for each in self._waiting_ids())
        return batch

    def _input(self, each: _Waiting, draft: ServerDraft) -> ForwardInput:
        """What the session has in the pass, with what came while it waited."""
        session, machine = each.session, each.session.machine
        assert session.verify_session is not None
        if each.prefill:
            return ForwardInput(session.verify_session, prefill=each.prefill)
        run = machine.pass_begins(*draft)
        on_early = self._early_callback(session) if self._thresholds and machine.wants_early else None
        return ForwardInput(
            session.verify_session, run.committed, run.draft, machine.sampling, run.tree, on_early
        )

    def _early_callback(self, session: Session) -> OnEarly:
        """Called in the middle of a pass, once at every exit, in the order of the exits."""
        thresholds = iter(self._thresholds)

        def on_early(choices: tuple[int, ...], confidences: tuple[float, ...]) -> None:
            with self._lock:
                self._owner.execute(
                    session, session.machine.early(choices, confidences, next(thresholds, 1.0))
                )

        return on_early

    def _report_pass(self, each: _Waiting, result: Choices | Exception) -> None:
        session, machine = each.session, each.session.machine
        session.last_heard = time.monotonic()  # a robot that only listens is still there
        if isinstance(result, Exception):
            self._owner.fail(session, result)
        elif each.prefill:
            self._ready.append(_Waiting(session, each.run))
        else:
            machine.others_wait(self._left_out)
            spent_ms, session.unreported_ms = session.unreported_ms, 0.0
            self._report(session, machine.pass_finished, result, spent_ms)

    def _waiting_ids(self) -> Iterator[int]:
        return map(id, itertools.chain(self._new, (each.session for each in self._ready)))

    def _report(self, session: Session, event: Callable[..., list[CloudCommand]], *arguments: object) -> None:
        """Report an event to a session's machine; a failure of it ends the session."""
        try:
            self._owner.execute(session, event(*arguments))
        except Exception as error:
            self._owner.fail(session, error)

    def _was_closed(self, session: Session) -> bool:
        """Whether it was closed while it waited, which spares the model the work."""
        if session.machine.state is not CloudState.CLOSING:
            return False
        self._owner.execute(session, session.machine.failed("closed"))
        return True
