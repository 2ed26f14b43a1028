"""The verifier as a live server: a socket thread, a model thread, and one state machine per action.

The socket thread feeds every message to its machine at once, also while the model runs, so that a draft which
arrives during a pass is there when the next one is chosen. The model thread takes one piece of work after the
other, first come first served: a session has at most one piece waiting, so robots take turns. Whatever goes wrong
in one session ends that session with an error to its robot, never the server.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from spec_decode_ros.decoding.acceptance import Share
from spec_decode_ros.decoding.cloud import CloudMachine, State
from spec_decode_ros.decoding.commands import CloudCommand, Finished, Prepare, RunPass, Send, Wait
from spec_decode_ros.decoding.controller import worth_verifying
from spec_decode_ros.decoding.distribution import Distribution
from spec_decode_ros.decoding.messages import (
    PROTOCOL,
    Branches,
    Close,
    Draft,
    Error,
    ErrorCode,
    Message,
    Open,
    Welcome,
)
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import Drafter, DraftSession, OnEarly, Verifier, VerifySession
from spec_decode_ros.runtime.warmup import UNKNOWN, Pace
from spec_decode_ros.transport.codec import DEFAULT_LIMITS, Limits
from spec_decode_ros.transport.keys import ServerKeys
from spec_decode_ros.transport.server import LOOPBACK, Server

_log = logging.getLogger(__name__)

_SWEEP_S = 1.0
_JOIN_S = 30.0


_WILD_ACCEPTANCE = 0.5
"""What is assumed of drafts that were wrong before, as guesses at what follows."""


@dataclass(frozen=True)
class OwnDrafter:
    """How a server drafts by itself.

    Attributes:
        length: how many tokens for one pass, given their acceptance; at least one is made.
        acceptance: what is assumed before anything was verified.
        token_ms: what one of them takes.
        prefill_ms: what comes before the first one of an action.
        drafter: who makes them; None for the target itself, with its layers up to an early exit.
    """

    length: Callable[[float], int]
    acceptance: float = 0.8
    token_ms: float = 0.0
    prefill_ms: float = 0.0
    drafter: Drafter | None = None


@dataclass
class _Session:
    client: bytes
    action_id: int
    machine: CloudMachine
    used: float
    prompt: str = ""
    images: tuple[bytes, ...] = ()
    model: VerifySession | None = None
    own: DraftSession | None = None
    own_failed: bool = False


@dataclass
class ServerCounts:
    """What a server has done since its start, for diagnostics."""

    actions: int = 0
    passes: int = 0
    failures: int = 0
    busy_ms: float = 0.0
    sessions: int = 0


@dataclass
class _Work:
    """What waits for the model thread."""

    jobs: collections.deque[Callable[[], None]] = field(default_factory=collections.deque)
    timers: list[tuple[float, int, _Session]] = field(default_factory=list)


class VerifierServer:
    """Serves one target model to any number of robots.

    Args:
        verifier: the target; only the model thread calls it.
        own: the server's own draft model, for robots that ask it to draft by itself; the model thread calls it too.
        pair: name of the model pair, compared with the robots'.
        bind: endpoint to listen on; by default a free port of this machine only.
        keys: with them only robots that have keys are served; see :mod:`spec_decode_ros.transport.keys`.
        expire_s: an action of which nothing was heard for so long is dropped.
        pace: what a target pass takes, as robots are told; zeros say nothing.
        nodes: so many tokens of drafts that disagree with the best one are verified beside it, as a tree, where the
            target can; 0, the default, was as fast for the shipped pair.
        max_sessions: so many unfinished actions at once; further ones are answered with ``busy``.
    """

    def __init__(
        self,
        verifier: Verifier,
        pair: str,
        bind: str = LOOPBACK,
        *,
        own: OwnDrafter | None = None,
        limits: Limits = DEFAULT_LIMITS,
        keys: ServerKeys | None = None,
        pace: Pace = UNKNOWN,
        nodes: int = 0,
        expire_s: float = 30.0,
        max_sessions: int = 64,
    ) -> None:
        self._verifier = verifier
        self._own = own
        self._pace = pace
        self._own_share = Share(own.acceptance if own else 0.0)
        self._wild_share = Share(_WILD_ACCEPTANCE)
        self._nodes = nodes
        self._eos = frozenset(verifier.eos_ids)
        self._sure = tuple(exit.threshold for exit in verifier.exits)
        own_ms, own_prefill_ms = (own.token_ms, own.prefill_ms) if own else (0.0, 0.0)
        eos = tuple(sorted(self._eos))
        welcome = Welcome(
            PROTOCOL, pair, verifier.vocabulary, eos, pace.token_ms, own_ms, pace.per_token_ms, own_prefill_ms
        )
        self._server = Server(welcome, self._on_message, self._on_gone, bind, limits, keys)
        self._expire_s = expire_s
        self._max_sessions = max_sessions
        self._sessions: dict[tuple[bytes, int], _Session] = {}
        self._latest: dict[bytes, int] = {}
        self._work = _Work()
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._next_sweep = 0.0
        self._stopping = False
        self._counts = ServerCounts()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> str:
        """Bind, begin to serve, and return the bound endpoint."""
        endpoint = self._server.start()
        self._thread.start()
        return endpoint

    def stop(self) -> None:
        """End both threads; a pass that runs is waited for."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        self._server.stop()

    def __enter__(self) -> VerifierServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        return self._server.endpoint

    @property
    def counts(self) -> ServerCounts:
        """A copy of the counts so far."""
        with self._changed:
            counts = ServerCounts(**vars(self._counts))
            counts.sessions = sum(session.model is not None for session in self._sessions.values())
            return counts

    # ---- in the socket thread ------------------------------------------------------------------------------

    def _on_message(self, client: bytes, message: Message, images: tuple[bytes, ...]) -> None:
        assert isinstance(message, Open | Draft | Branches | Close)
        with self._changed:
            session = self._session_for(client, message)
            if session is None:
                return
            session.used = time.monotonic()
            if isinstance(message, Open) and session.machine.state is State.NEW:
                session.prompt, session.images = message.prompt, images
                self._counts.actions += 1
            try:
                self._obey(session, session.machine.receive(message))
            except Exception as error:
                self._fail(session, error)

    def _session_for(self, client: bytes, message: Open | Draft | Branches | Close) -> _Session | None:
        key = (client, message.action_id)
        if key in self._sessions or isinstance(message, Close):
            return self._sessions.get(key)
        if message.action_id < self._latest.get(client, 0):
            self._tell_unknown(client, message.action_id)
            return None
        self._latest[client] = message.action_id
        for other in [known for known in self._sessions if known[0] == client]:
            self._drop(other)  # a robot's newest action replaces its older ones
        if self._unfinished() >= self._max_sessions:
            sentence = (
                f"The verifier serves {self._max_sessions} actions already; try again or start another one."
            )
            self._server.send(client, Error(message.action_id, ErrorCode.BUSY, sentence))
            return None
        own = max(1, self._own.length(self._own_share.value)) if self._own else 0
        nodes = self._nodes if self._verifier.can_verify_trees else 0
        wild = worth_verifying(self._wild_share.value, self._pace.token_ms, self._pace.per_token_ms)
        machine = CloudMachine(self._eos, own=own, nodes=nodes, wild=wild)
        session = _Session(client, message.action_id, machine, time.monotonic())
        self._sessions[key] = session
        return session

    def _unfinished(self) -> int:
        over = (State.DONE, State.FAILED, State.CLOSED)
        return sum(session.machine.state not in over for session in self._sessions.values())

    def _tell_unknown(self, client: bytes, action_id: int) -> None:
        sentence = "The verifier does not know this action; open it again."
        self._server.send(client, Error(action_id, ErrorCode.UNKNOWN_ACTION, sentence))

    def _on_gone(self, client: bytes) -> None:
        with self._changed:
            for key in [known for known in self._sessions if known[0] == client]:
                self._drop(key)
            self._latest.pop(client, None)

    def _drop(self, key: tuple[bytes, int]) -> None:
        session = self._sessions.pop(key)
        self._obey(session, session.machine.receive(Close(session.action_id)))

    # ---- in either thread, under the lock ------------------------------------------------------------------

    def _obey(self, session: _Session, commands: list[CloudCommand]) -> None:
        for command in commands:
            if isinstance(command, Send):
                self._server.send(session.client, command.message)
            elif isinstance(command, Prepare):
                self._work.jobs.append(lambda: self._prepare(session))
            elif isinstance(command, RunPass):
                self._work.jobs.append(partial(self._pass, session, command.own))
            elif isinstance(command, Wait):
                due = time.monotonic() + command.milliseconds / 1000.0
                heapq.heappush(self._work.timers, (due, next(self._order), session))
            elif isinstance(command, Finished):
                session.images = ()
                self._work.jobs.append(lambda: self._free(session))
        self._changed.notify()

    # ---- in the model thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            try:
                job = self._next_job()
                if job is not None:
                    job()
            except Exception:
                _log.exception("the model thread goes on after a failure")
        with self._changed:
            left = list(self._sessions.values())
        for session in left:
            self._free(session)

    def _next_job(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                self._fire_timers(now)
                if now >= self._next_sweep:
                    self._next_sweep = now + _SWEEP_S
                    self._sweep(now)
                if not self._work.jobs:
                    self._go_on_where_nobody_waits()
                if self._work.jobs:
                    return self._work.jobs.popleft()
                due = self._work.timers[0][0] if self._work.timers else float("inf")
                self._changed.wait(max(0.0, min(due, self._next_sweep) - now))
            return None

    def _go_on_where_nobody_waits(self) -> None:
        for session in [s for s in self._sessions.values() if s.machine.yielding]:
            self._obey(session, session.machine.crowd(False))

    def _fire_timers(self, now: float) -> None:
        while self._work.timers and self._work.timers[0][0] <= now:
            session = heapq.heappop(self._work.timers)[2]
            self._obey(session, session.machine.waited())

    def _sweep(self, now: float) -> None:
        for key, session in list(self._sessions.items()):
            if now - session.used > self._expire_s:
                self._drop(key)
        clients = {client for client, _ in self._sessions}
        self._latest = {client: latest for client, latest in self._latest.items() if client in clients}

    def _prepare(self, session: _Session) -> None:
        def work() -> int:
            session.model = self._verifier.prepare(session.prompt, session.images)
            return session.model.answer_room

        self._at_work(session, work, lambda room, busy_ms: session.machine.prepared(busy_ms, room))

    def _pass(self, session: _Session, own: int) -> None:
        def work() -> tuple[int, ...] | tuple[Distribution, ...]:
            assert session.model is not None
            drafts = own and self._own and not session.own_failed
            made = self._draft_here(session, self._own, own) if drafts and self._own else ()
            with self._changed:
                run = session.machine.pass_begins(made)  # with what came while it stood in line
            if session.machine.sampling.separate:
                return session.model.distributions(run.committed, run.draft, session.machine.sampling)
            if run.tree is not None:
                return session.model.verify_tree(run.committed, run.tree, session.machine.sampling)
            on_early = self._foretell(session) if self._sure and session.machine.tells_early else None
            return session.model.verify(run.committed, run.draft, session.machine.sampling, on_early)

        def report(choices: Any, busy_ms: float) -> list[CloudCommand]:
            self._counts.passes += 1
            machine = session.machine
            finished = machine.trial_finished if machine.sampling.separate else machine.pass_finished
            return finished(choices, busy_ms)

        self._at_work(session, work, report)

    def _foretell(self, session: _Session) -> OnEarly:
        """What is called in the middle of a pass, once at every exit, in the order of the exits."""
        thresholds = iter(self._sure)

        def on_early(choices: tuple[int, ...], confidences: tuple[float, ...]) -> None:
            with self._changed:
                self._obey(session, session.machine.early(choices, confidences, next(thresholds, 1.0)))

        return on_early

    def _draft_here(self, session: _Session, own: OwnDrafter, count: int) -> Sequence[int]:
        """What the server's own draft says next; the target goes on without it if that fails."""
        try:
            if own.drafter is None:
                assert session.model is not None
                return session.model.self_draft(session.machine.committed, count, session.machine.sampling)
            if session.own is None:
                session.own = own.drafter.open(session.prompt, session.images)
            return self._draft_until_heard(session, session.own, count)
        except Exception:
            _log.exception("the server's own draft failed; the target finishes this action without it")
            session.own_failed = True
            return ()

    def _draft_until_heard(self, session: _Session, model: DraftSession, count: int) -> list[int]:
        """Draft tokens, fewer if a draft from the robot arrives before they are ready."""
        made: list[int] = []
        for token in model.draft(session.machine.committed, session.machine.sampling):
            made.append(token)
            with self._changed:
                if len(made) == count or session.machine.has_draft:
                    break
        return made

    def _at_work(
        self, session: _Session, work: Callable[[], object], report: Callable[..., list[CloudCommand]]
    ) -> None:
        """Do the model's work for one session outside the lock, then tell its machine within it."""
        if session.machine.state is State.CLOSING:  # closed while it stood in line: spare the model the work
            with self._changed:
                self._obey(session, session.machine.failed("closed"))
            return
        start = time.perf_counter()
        try:
            result = work()
        except Exception as error:
            self._fail(session, error)
            return
        busy_ms = (time.perf_counter() - start) * 1000.0
        with self._changed:
            session.used = time.monotonic()  # a robot that only listens is still there
            self._counts.busy_ms += busy_ms
            session.machine.crowd(bool(self._work.jobs))
            try:
                self._obey(session, report(result, busy_ms))
            except Exception as error:
                self._fail(session, error)

    def _fail(self, session: _Session, error: Exception) -> None:
        if isinstance(error, SpecDecodeError):
            sentence = str(error)
        else:
            _log.error("action %d failed", session.action_id, exc_info=error)
            sentence = f"The verifier failed on this action ({type(error).__name__}); its log says more."
        with self._changed:
            self._counts.failures += 1
            self._obey(session, session.machine.failed(sentence[:500]))

    def _free(self, session: _Session) -> None:
        self._own_share.observe(*session.machine.own_judged)
        self._wild_share.observe(*session.machine.wild_judged)
        models = [model for model in (session.model, session.own) if model is not None]
        session.model = session.own = None
        for model in models:
            try:
                model.close()
            except Exception:
                _log.exception("freeing the caches of action %d failed", session.action_id)
