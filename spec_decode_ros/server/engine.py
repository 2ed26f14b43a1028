"""The thread that alone drives the models of a server: it prepares prompts and makes passes that sessions share.

Work comes from the state machines as commands. In each round the thread frees what has finished, prepares a few new
prompts, and makes one pass over what waits, as :mod:`spec_decode_ros.server.scheduler` shares it out. The models run
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
from collections.abc import Callable, Iterator, Sequence

from spec_decode_ros.decoding.commands import CloudCommand, Finished, Prepare, RunPass, Wait
from spec_decode_ros.decoding.states import CloudState
from spec_decode_ros.models.interfaces import Choices, ForwardInput, OnEarly, Verifier
from spec_decode_ros.server.observer import ServerObserver
from spec_decode_ros.server.scheduler import NEWEST_PASS, BatchSlot, VerifyRequest, schedule_step
from spec_decode_ros.server.server_drafts import ServerDraft, ServerDrafter, ServerDrafts
from spec_decode_ros.server.session import Session

_log = logging.getLogger(__name__)

_SWEEP_S = 1.0
_JOIN_S = 30.0


class Engine:
    """Drives one target, and the server's own draft model if it has one.

    Args:
        verifier: the target.
        own: how the server drafts by itself.
        budget: about how many tokens a shared pass may have.
        lock: guards the machines; the engine waits on it for work.
        obey: does with a machine's commands what they say, under the lock; see :meth:`take`.
        fail: ends a session because of an exception, under the lock.
        idle: called under the lock when nothing waits for the models any more.
        sweep: called with the time about once a second, under the lock.
        observer: who is told of passes.
    """

    def __init__(
        self,
        verifier: Verifier,
        own: ServerDrafter | None,
        budget: int,
        lock: threading.Condition,
        obey: Callable[[Session, list[CloudCommand]], None],
        fail: Callable[[Session, Exception], None],
        idle: Callable[[], None],
        sweep: Callable[[float], None],
        observer: ServerObserver,
    ) -> None:
        self._verifier = verifier
        self._budget = budget
        self._changed = lock
        self._obey = obey
        self._fail = fail
        self._idle = idle
        self._sweep = sweep
        self._observer = observer
        self._thresholds = tuple(exit.threshold for exit in verifier.exits)
        self._new: collections.deque[Session] = collections.deque()
        self._ready: list[tuple[Session, RunPass]] = []
        self._over: collections.deque[Session] = collections.deque()
        self._timers: list[tuple[float, int, Session]] = []
        self._order = itertools.count()
        self._next_sweep = 0.0
        self._prompt_tokens = 1
        self._in_line: set[int] = set()  # who waited as the round began
        self._left_out = False  # whether one of these found no seat in the pass that runs
        self._stopping = False
        self._round_began: float | None = None
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self.drafts = ServerDrafts(own, lock)
        self.busy_ms = 0.0
        self.passes = 0
        self.sharing = 1.0
        """How many sessions have had a part in a pass lately: a running average."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a pass that runs is waited for."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    @property
    def round_s(self) -> float | None:
        """For how many seconds the round that runs has been running; None while there is nothing to do.

        Infinite where the thread has ended.
        """
        if not self._thread.is_alive():
            return float("inf")
        began = self._round_began
        return None if began is None else time.monotonic() - began

    @property
    def waiting(self) -> int:
        """How many sessions wait for the models."""
        return len(self._new) + len(self._ready)

    def take(self, session: Session, command: CloudCommand) -> None:
        """Do what a machine has commanded, as soon as it is its turn; call it under the lock."""
        if isinstance(command, Prepare):
            self._new.append(session)
        elif isinstance(command, RunPass):
            self._ready.append((session, command))
        elif isinstance(command, Wait):
            due = time.monotonic() + command.milliseconds / 1000.0
            heapq.heappush(self._timers, (due, next(self._order), session))
        elif isinstance(command, Finished):
            session.images = ()
            self._over.append(session)
        self._changed.notify_all()

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
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                while self._timers and self._timers[0][0] <= now:
                    session = heapq.heappop(self._timers)[2]
                    self._tell(session, session.machine.waited)
                if now >= self._next_sweep:
                    self._next_sweep = now + _SWEEP_S
                    self._sweep(now)
                if not (self._new or self._ready):
                    self._idle()
                if self._new or self._ready or self._over:
                    self._round_began = now
                    return True
                due = self._timers[0][0] if self._timers else float("inf")
                self._changed.wait(max(0.0, min(due, self._next_sweep) - now))
            return False

    def _free(self) -> None:
        while self._over:
            session = self._over.popleft()
            self.drafts.over(session)
            models = [model for model in (session.model, session.own) if model is not None]
            session.model = session.own = None
            for model in models:
                try:
                    model.close()
                except Exception:
                    _log.exception("freeing the caches of action %d failed", session.action_id)

    def _prepare(self) -> None:
        with self._changed:
            self._in_line = {id(session) for session in self._waiting()}
            # About as many prompts as a pass takes in.
            count = max(1, self._budget // self._prompt_tokens)
            sessions = [self._new.popleft() for _ in range(min(count, len(self._new)))]
            sessions = [session for session in sessions if not self._has_left(session)]
        if not sessions:
            return
        start = time.perf_counter()
        prepared = self._verifier.prepare_many([(session.prompt, session.images) for session in sessions])
        busy_ms = (time.perf_counter() - start) * 1000.0
        with self._changed:
            self.busy_ms += busy_ms
            for session, model in zip(sessions, prepared, strict=True):
                if isinstance(model, Exception):
                    self._fail(session, model)
                    continue
                session.model = model
                self._prompt_tokens = max(1, model.unread)
                share_ms = busy_ms / len(sessions)
                self._tell(session, session.machine.prepared, share_ms, model.answer_room)

    def _pass(self) -> None:
        with self._changed:
            self._ready = [entry for entry in self._ready if not self._has_left(entry[0])]
            turns = [VerifyRequest(_unread(session), len(run.draft)) for session, run in self._ready]
            seats = schedule_step(turns, self._budget)
            seated = [self._ready[seat.index] for seat in seats]
            taken = {seat.index for seat in seats}
            self._ready = [entry for index, entry in enumerate(self._ready) if index not in taken]
            # Who has come since shares the next pass, and need not be made room for.
            self._left_out = any(id(session) in self._in_line for session in self._waiting())
        if not seated:
            return
        self.sharing += NEWEST_PASS * (len(seated) - self.sharing)
        wanted = [
            (session, 0 if seat.prefill else run.server_tokens)
            for (session, run), seat in zip(seated, seats, strict=True)
        ]
        made = self.drafts.make(wanted)
        with self._changed:
            self._observer.queue(self.waiting, len(seated))
            parts: list[ForwardInput] = []
            sharing: list[tuple[Session, RunPass, BatchSlot]] = []
            for (session, run), seat, own in zip(seated, seats, made, strict=True):
                try:
                    parts.append(self._part(session, seat, own))
                    sharing.append((session, run, seat))
                except Exception as error:
                    self._fail(session, error)
            widths = [part.width for part in parts]
        if not parts:
            return
        start = time.perf_counter()
        results = self._verifier.verify_many(parts)
        busy_ms = (time.perf_counter() - start) * 1000.0
        self._report(sharing, results, [busy_ms * width / sum(widths) for width in widths])
        self._observer.pass_done(len(parts), sum(widths), busy_ms)

    def _part(self, session: Session, seat: BatchSlot, own: ServerDraft) -> ForwardInput:
        """Under the lock: what the session has in the pass, with what came while it stood in line."""
        assert session.model is not None
        if seat.prefill:
            return ForwardInput(session.model, prefill=seat.prefill)
        machine = session.machine
        run = machine.pass_begins(*own)
        on_early = self._foretell(session) if self._thresholds and machine.wants_early else None
        return ForwardInput(session.model, run.committed, run.draft, machine.sampling, run.tree, on_early)

    def _report(
        self,
        sharing: Sequence[tuple[Session, RunPass, BatchSlot]],
        results: Sequence[Choices | Exception],
        busy_ms: Sequence[float],
    ) -> None:
        with self._changed:
            self.passes += 1
            self.busy_ms += sum(busy_ms)
            for (session, run, seat), result, took_ms in zip(sharing, results, busy_ms, strict=True):
                session.used = time.monotonic()  # a robot that only listens is still there
                session.owed_ms += took_ms
                if isinstance(result, Exception):
                    self._fail(session, result)
                elif seat.prefill:
                    self._ready.append((session, run))
                else:
                    machine = session.machine
                    machine.others_wait(self._left_out)
                    spent_ms, session.owed_ms = session.owed_ms, 0.0
                    self._tell(session, machine.pass_finished, result, spent_ms)

    def _foretell(self, session: Session) -> OnEarly:
        """What is called in the middle of a pass, once at every exit, in the order of the exits."""
        thresholds = iter(self._thresholds)

        def on_early(choices: tuple[int, ...], confidences: tuple[float, ...]) -> None:
            with self._changed:
                self._obey(session, session.machine.early(choices, confidences, next(thresholds, 1.0)))

        return on_early

    # ---- under the lock ------------------------------------------------------------------------------------

    def _waiting(self) -> Iterator[Session]:
        return itertools.chain(self._new, (session for session, _ in self._ready))

    def _tell(self, session: Session, event: Callable[..., list[CloudCommand]], *arguments: object) -> None:
        """Let a session's machine know of an event; a failure of it ends the session."""
        try:
            self._obey(session, event(*arguments))
        except Exception as error:
            self._fail(session, error)

    def _has_left(self, session: Session) -> bool:
        """Whether it was closed while it stood in line, which spares the model the work."""
        if session.machine.state is not CloudState.CLOSING:
            return False
        self._obey(session, session.machine.failed("closed"))
        return True


def _unread(session: Session) -> int:
    return session.model.unread if session.model is not None else 0
