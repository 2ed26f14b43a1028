"""The verifier as a live server: a socket thread, a model thread, and one state machine per action.

The socket thread feeds every message to its machine at once, also while the models run, so that a draft which
arrives during a pass is there when the next one is chosen. The model thread (:mod:`spec_decode_ros.server.engine`)
lets the sessions of many robots share its passes. Whatever goes wrong in one session ends that session with an error
to its robot, never the server.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from spec_decode_ros.decoding.acceptance import AcceptanceAverage
from spec_decode_ros.decoding.cloud import CloudMachine
from spec_decode_ros.decoding.commands import CloudCommand, Finished, Send
from spec_decode_ros.decoding.controller import Measurements, worth_verifying
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
from spec_decode_ros.decoding.states import CloudState
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import SharedDrafter, Verifier
from spec_decode_ros.models.warmup import UNKNOWN, PassTiming
from spec_decode_ros.server.admission import Admission, ServiceLimits
from spec_decode_ros.server.engine import Engine
from spec_decode_ros.server.observer import NoObserver, ServerObserver
from spec_decode_ros.server.scheduler import pass_budget
from spec_decode_ros.server.server_drafts import ServerDrafter
from spec_decode_ros.server.session import Session
from spec_decode_ros.transport.keys import ServerKeys
from spec_decode_ros.transport.server import LOOPBACK, Server, Traffic

_log = logging.getLogger(__name__)

_STALE_ACCEPTANCE = 0.5
"""What is assumed of drafts that were wrong before, as guesses at what follows."""

_OVER = (CloudState.DONE, CloudState.FAILED, CloudState.CLOSED)


@dataclass
class ServerCounts:
    """What a server has done since its start, for diagnostics.

    `passes` are those of the model, however many sessions shared them; `sessions` and `waiting` are of this moment.
    """

    actions: int = 0
    refused: int = 0
    failures: int = 0
    passes: int = 0
    busy_ms: float = 0.0
    sessions: int = 0
    waiting: int = 0


class VerifierServer:
    """Serves one target model to any number of robots.

    Args:
        verifier: the target; only the model thread calls it.
        own: the server's own draft model, for robots that ask it to draft by itself; the model thread calls it too.
        pair: name of the model pair, compared with the robots'.
        bind: endpoint to listen on; by default a free port of this machine only.
        keys: with them only robots that have keys are served; see :mod:`spec_decode_ros.transport.keys`.
        limits: how many actions it takes on; their memory is reserved here.
        pace: what a target pass takes, as robots are told; zeros say nothing.
        insecure: listen beyond this machine although there are no keys.
        pass_tokens: about how many tokens a pass may have that sessions share; by default it follows from the pace.
        observer: who is told what the server does.
    """

    def __init__(
        self,
        verifier: Verifier,
        pair: str,
        bind: str = LOOPBACK,
        *,
        own: ServerDrafter | None = None,
        keys: ServerKeys | None = None,
        limits: ServiceLimits | None = None,
        pace: PassTiming = UNKNOWN,
        insecure: bool = False,
        pass_tokens: int | None = None,
        observer: ServerObserver | None = None,
    ) -> None:
        self._limits = limits or ServiceLimits()
        self._verifier = verifier
        self._pace = pace
        self._own_ms = own.token_ms if own else 0.0
        self._stale_average = AcceptanceAverage(_STALE_ACCEPTANCE)
        self._eos = frozenset(verifier.eos_ids)
        server_draft_prefill_ms = own.prefill_ms if own else 0.0
        eos = tuple(sorted(self._eos))
        welcome = Welcome(
            PROTOCOL,
            pair,
            verifier.vocabulary,
            eos,
            pace.token_ms,
            self._own_ms,
            pace.per_token_ms,
            server_draft_prefill_ms,
        )
        self._server = Server(welcome, self._on_message, self._on_gone, bind, keys, insecure=insecure)
        self._admission = Admission(self._reserve(own), self._limits.actions_per_second)
        self._observer = observer or NoObserver()
        self._sessions: dict[tuple[bytes, int], Session] = {}
        self._latest: dict[bytes, int] = {}
        self._changed = threading.Condition()
        self._counts = ServerCounts()
        self._draining = False
        self._engine = Engine(
            verifier,
            own,
            pass_tokens or pass_budget(pace),
            self._changed,
            obey=self._obey,
            fail=self._fail,
            idle=self._nobody_waits,
            sweep=self._sweep,
            observer=self._observer,
        )

    def _reserve(self, own: ServerDrafter | None) -> int:
        """Memory for as many actions as are let in at once; how many that are."""
        models: list[Verifier | SharedDrafter] = [self._verifier]
        if own and isinstance(own.drafter, SharedDrafter):
            models.append(own.drafter)
        known = [(model, size) for model in models if (size := model.bytes_per_token)]
        per_token, tokens = sum(size for _, size in known), self._limits.session_tokens
        most = self._limits.sessions(per_token)
        try:
            for model, _ in known:
                model.reserve(most, tokens)
        except RuntimeError as error:  # of torch, whose kind depends on the device
            raise SpecDecodeError(
                f"The caches of {most} actions of {tokens} tokens take {most * tokens * per_token / 1e6:.0f} MB, which this "
                "device does not have: lower max_sessions, session_tokens or memory_mb."
            ) from error
        return most

    def start(self) -> str:
        """Bind, begin to serve, and return the bound endpoint."""
        endpoint = self._server.start()
        self._engine.start()
        return endpoint

    def stop(self) -> None:
        """End both threads; a pass that runs is waited for."""
        self._engine.stop()
        self._server.stop()

    def drain(self, timeout_s: float) -> bool:
        """Take no new actions and wait until the running ones are over; whether they all are within `timeout_s`."""
        with self._changed:
            self._draining = True
            # So that those who know another server go there between two actions, before one is refused.
            self._server.broadcast(Error(0, ErrorCode.DRAINING, _DRAINING, _DRAINING_RETRY_MS))
            return self._changed.wait_for(lambda: not self._at_work(), timeout_s)

    def __enter__(self) -> VerifierServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        return self._server.endpoint

    @property
    def draining(self) -> bool:
        """Whether new actions are sent elsewhere."""
        return self._draining

    @property
    def socket_alive(self) -> bool:
        """Whether the socket's thread runs."""
        return self._server.alive

    @property
    def traffic(self) -> Traffic:
        """What went over the socket so far."""
        return self._server.traffic

    @property
    def round_s(self) -> float | None:
        """For how many seconds the models have been at one round of work; None while idle, infinite where they ended."""
        return self._engine.round_s

    @property
    def counts(self) -> ServerCounts:
        """A copy of the counts so far."""
        with self._changed:
            counts = ServerCounts(**vars(self._counts))
            counts.passes, counts.busy_ms = self._engine.passes, self._engine.busy_ms
            counts.waiting = self._engine.waiting
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
            if isinstance(message, Open) and session.machine.state is CloudState.NEW:
                session.prompt, session.images, session.began = message.prompt, images, session.used
                self._counts.actions += 1
            try:
                self._obey(session, session.machine.receive(message))
            except Exception as error:
                self._fail(session, error)

    def _session_for(self, client: bytes, message: Open | Draft | Branches | Close) -> Session | None:
        key = (client, message.action_id)
        if key in self._sessions or isinstance(message, Close):
            return self._sessions.get(key)
        if message.action_id < self._latest.get(client, 0):
            self._refuse(client, message.action_id, ErrorCode.UNKNOWN_ACTION, _UNKNOWN)
            return None
        for other in [known for known in self._sessions if known[0] == client]:
            self._drop(other)  # a robot's newest action replaces its older ones
        if not self._lets_in(client, message):
            return None
        self._latest[client] = message.action_id
        stale = worth_verifying(self._stale_average.value, self._pace.token_ms, self._pace.per_token_ms)
        own = self._engine.drafts.length()
        machine = CloudMachine(
            self._eos, server_draft_tokens=own, stale_tokens=stale, measured=self._measured()
        )
        session = Session(client, message.action_id, machine, time.monotonic())
        self._sessions[key] = session
        return session

    def _measured(self) -> Measurements | None:
        """What is known of drafts and passes here; nothing of any robot.

        All who share a pass wait until the server's own draft for one of them is made.
        """
        pace = self._pace
        if not pace.token_ms:
            return None
        return Measurements(
            0.0,
            self._own_ms,
            pace.token_ms,
            self._engine.drafts.acceptance,
            pace.per_token_ms,
            server_draft_ms=self._own_ms * self._engine.sharing,
            stale_acceptance=self._stale_average.value,
            few_ms=pace.few_ms,
        )

    def _lets_in(self, client: bytes, message: Message) -> bool:
        """Whether a new action may begin; a draft that has overtaken its `Open` does not count yet."""
        assert isinstance(message, Open | Draft | Branches)
        if self._draining:
            self._refuse(client, message.action_id, ErrorCode.DRAINING, _DRAINING, _DRAINING_RETRY_MS)
            return False
        robot = self._server.robot(client) or client  # whatever connections it has
        refusal = self._admission.ask(robot, time.monotonic(), self._unfinished())
        if refusal is not None:
            self._refuse(
                client, message.action_id, ErrorCode.BUSY, refusal.sentence, retry_ms=refusal.retry_ms
            )
        return refusal is None

    def _refuse(self, client: bytes, action_id: int, code: str, sentence: str, retry_ms: float = 0.0) -> None:
        self._counts.refused += code != ErrorCode.UNKNOWN_ACTION
        self._observer.failed(code)
        self._server.send(client, Error(action_id, code, sentence, retry_ms))

    def _unfinished(self) -> int:
        return sum(session.machine.state not in _OVER for session in self._sessions.values())

    def _at_work(self) -> bool:
        waits = (*_OVER, CloudState.NEW)  # a new one has not been opened, and may never be
        return any(session.machine.state not in waits for session in self._sessions.values())

    def _on_gone(self, client: bytes) -> None:
        with self._changed:
            for key in [known for known in self._sessions if known[0] == client]:
                self._drop(key)
            self._latest.pop(client, None)

    def _drop(self, key: tuple[bytes, int]) -> None:
        session = self._sessions.pop(key)
        self._obey(session, session.machine.receive(Close(session.action_id)))

    # ---- in either thread, under the lock ------------------------------------------------------------------

    def _obey(self, session: Session, commands: list[CloudCommand]) -> None:
        for command in commands:
            if isinstance(command, Send):
                if isinstance(command.message, Error):
                    self._observer.failed(command.message.code)
                self._server.send(session.client, command.message)
                continue
            if isinstance(command, Finished):
                self._over(session)
            self._engine.take(session, command)

    def _over(self, session: Session) -> None:
        machine = session.machine
        passes, drafted, accepted = machine.counts
        if machine.state is CloudState.DONE:
            self._admission.lasted((time.monotonic() - session.began) * 1000.0)
        self._stale_average.observe(*machine.stale_judged)
        self._observer.action_done(accepted, drafted, passes, machine.state.name.lower())

    def _fail(self, session: Session, error: Exception) -> None:
        extra = {
            "robot": self._server.robot(session.client) or session.client.hex()[:8],
            "action_id": session.action_id,
        }
        if isinstance(error, SpecDecodeError):
            sentence = str(error)
            _log.warning("an action failed: %s", sentence, extra=extra)
        else:
            _log.error("an action failed", exc_info=error, extra=extra)
            sentence = f"The verifier failed on this action ({type(error).__name__}); its log says more."
        self._counts.failures += 1
        self._obey(session, session.machine.failed(sentence[:500]))

    # ---- in the model thread, under the lock ---------------------------------------------------------------

    def _nobody_waits(self) -> None:
        for session in [s for s in self._sessions.values() if s.machine.yielding]:
            self._obey(session, session.machine.others_wait(False))

    def _sweep(self, now: float) -> None:
        for key, session in list(self._sessions.items()):
            if now - session.used > self._limits.expire_s:
                self._drop(key)
        clients = {client for client, _ in self._sessions}
        self._latest = {client: latest for client, latest in self._latest.items() if client in clients}
        self._admission.forget(now)


_UNKNOWN = "The verifier does not know this action; open it again."
_DRAINING_RETRY_MS = 1_000.0
_DRAINING = "The verifier ends and takes no new actions; use another one, or try again when it is back."
