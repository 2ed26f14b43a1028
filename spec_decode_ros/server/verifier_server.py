"""The verifier server: a socket thread, a model thread (`engine.py`), and one state machine per action.

The socket thread feeds every message to its machine at once, also while the models run, so that a draft which arrives
during a pass is there when the next one is chosen. Whatever goes wrong in one session ends that session with an error
to its robot, never the server.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace

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
from spec_decode_ros.models.interfaces import SharedDrafter, SharedModel, Verifier
from spec_decode_ros.models.warmup import UNKNOWN, PassTiming
from spec_decode_ros.server.admission import Admission
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.engine import Engine
from spec_decode_ros.server.observer import ServerObserver
from spec_decode_ros.server.scheduler import pass_budget
from spec_decode_ros.server.server_drafts import ServerDrafter
from spec_decode_ros.server.session import Session
from spec_decode_ros.transport.keys import ServerKeys
from spec_decode_ros.transport.server import Server

_log = logging.getLogger(__name__)

_STALE_ACCEPTANCE = 0.5
"""Assumed of stale drafts before any was verified."""

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
        pair: name of the model pair, compared with the robots'.
        config: where to listen, and limits; the memory for that many actions is reserved here.
        drafter: how the server drafts for robots that ask it to; the model thread calls it too.
        timing: of target passes, which is sent to robots; zeros for unknown.
        keys: with them only robots that have keys are served; see :mod:`spec_decode_ros.transport.keys`.
        observer: is called with what the server does.
        target_fingerprint: of the target's weights, which is sent to robots; empty for unknown.

    Attributes:
        socket: the ZeroMQ server.
        engine: drives the models.
        lock: guards all sessions.
        draining: new actions are refused.
    """

    def __init__(
        self,
        verifier: Verifier,
        pair: str,
        config: ServiceConfig | None = None,
        *,
        drafter: ServerDrafter | None = None,
        timing: PassTiming = UNKNOWN,
        keys: ServerKeys | None = None,
        observer: ServerObserver | None = None,
        target_fingerprint: str = "",
    ) -> None:
        self._config = config = config or ServiceConfig()
        self._verifier = verifier
        self._timing = timing
        self._draft_ms = drafter.token_ms if drafter else 0.0
        self._stale_average = AcceptanceAverage(_STALE_ACCEPTANCE)
        self._eos = frozenset(verifier.eos_ids)
        welcome = Welcome(
            PROTOCOL,
            pair,
            verifier.vocabulary,
            tuple(sorted(self._eos)),
            timing.token_ms,
            self._draft_ms,
            timing.per_token_ms,
            drafter.prefill_ms if drafter else 0.0,
            target_fingerprint,
            verifier.grammar,
        )
        self.socket = Server(
            welcome, self._on_message, self._on_gone, config.bind, keys, insecure=config.insecure
        )
        self._admission = Admission(self._reserve(drafter), config.actions_per_second)
        self._observer = observer or ServerObserver()
        self._sessions: dict[tuple[bytes, int], Session] = {}
        self._latest: dict[bytes, int] = {}
        self.lock = threading.Condition()
        self._counts = ServerCounts()
        self.draining = False
        self.engine = Engine(verifier, drafter, pass_budget(timing), self, self._observer)

    def _reserve(self, drafter: ServerDrafter | None) -> int:
        """Reserve memory for as many actions as are admitted at once, and return how many that are."""
        models: list[SharedModel] = [self._verifier]
        if drafter and isinstance(drafter.drafter, SharedDrafter):
            models.append(drafter.drafter)
        known = [(model, size) for model in models if (size := model.bytes_per_token)]
        per_token, tokens = sum(size for _, size in known), self._config.session_tokens
        most = self._config.sessions(per_token)
        try:
            for model, _ in known:
                model.reserve(most, tokens)
        except RuntimeError as error:  # of torch, whose kind depends on the device
            raise SpecDecodeError(
                f"The caches of {most} actions of {tokens} tokens take {most * tokens * per_token / 1e6:.0f} MB, which this "
                "device does not have: lower max_sessions, session_tokens or memory_mb."
            ) from error
        return most

    def start(self, own_process: bool = False) -> str:
        """Bind, begin to serve, and return the bound endpoint; see :meth:`Server.start`."""
        endpoint = self.socket.start(own_process)
        self.engine.start()
        return endpoint

    def stop(self) -> None:
        """End both threads; a pass that runs is waited for."""
        self.engine.stop()
        self.socket.stop()

    def drain(self, timeout_s: float) -> bool:
        """Take no new actions and wait until the running ones are over; whether they all are within `timeout_s`."""
        with self.lock:
            self.draining = True
            # Robots that know another server then go there between two actions, before one is refused.
            self.socket.broadcast(Error(0, ErrorCode.DRAINING, _DRAINING, _DRAINING_RETRY_MS))
            return self.lock.wait_for(lambda: not self._busy(), timeout_s)

    def __enter__(self) -> VerifierServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        return self.socket.endpoint

    @property
    def counts(self) -> ServerCounts:
        """A copy of the counts so far."""
        with self.lock:
            return replace(
                self._counts,
                passes=self.engine.passes,
                busy_ms=self.engine.busy_ms,
                waiting=self.engine.waiting,
                sessions=sum(each.verify_session is not None for each in self._sessions.values()),
            )

    # ---- in the socket thread ------------------------------------------------------------------------------

    def _on_message(self, client: bytes, message: Message, images: tuple[bytes, ...]) -> None:
        assert isinstance(message, Open | Draft | Branches | Close)
        with self.lock:
            session = self._session_for(client, message)
            if session is None:
                return
            session.last_heard = time.monotonic()
            if isinstance(message, Open) and session.machine.state is CloudState.NEW:
                session.prompt, session.images, session.began = message.prompt, images, session.last_heard
                self._counts.actions += 1
            try:
                self.execute(session, session.machine.receive(message))
            except Exception as error:
                self.fail(session, error)

    def _session_for(self, client: bytes, message: Open | Draft | Branches | Close) -> Session | None:
        key = (client, message.action_id)
        if key in self._sessions or isinstance(message, Close):
            return self._sessions.get(key)
        if message.action_id < self._latest.get(client, 0):
            self._refuse(client, message.action_id, ErrorCode.UNKNOWN_ACTION, _UNKNOWN)
            return None
        for other in [known for known in self._sessions if known[0] == client]:
            self._drop(other)  # a robot's newest action replaces its older ones
        if not self._admits(client, message):
            return None
        self._latest[client] = message.action_id
        stale = worth_verifying(self._stale_average.value, self._timing.token_ms, self._timing.per_token_ms)
        machine = CloudMachine(
            self._eos,
            server_draft_tokens=self.engine.drafts.length(),
            stale_tokens=stale,
            measured=self._measured(),
            jump_forward=lambda committed: session.jump_forward(committed),
        )
        session = Session(client, message.action_id, machine, time.monotonic())
        self._sessions[key] = session
        return session

    def _measured(self) -> Measurements | None:
        """Measurements of drafts and passes here; of no particular robot."""
        timing = self._timing
        if not timing.token_ms:
            return None
        return Measurements(
            0.0,
            self._draft_ms,
            timing.token_ms,
            self.engine.drafts.acceptance,
            timing.per_token_ms,
            # All sessions of a pass wait until the server draft of one of them is made.
            server_draft_ms=self._draft_ms * self.engine.sharing,
            stale_acceptance=self._stale_average.value,
            few_ms=timing.few_ms,
        )

    def _admits(self, client: bytes, message: Message) -> bool:
        """Whether a new action is admitted, or is refused here."""
        assert isinstance(message, Open | Draft | Branches)
        if self.draining:
            self._refuse(client, message.action_id, ErrorCode.DRAINING, _DRAINING, _DRAINING_RETRY_MS)
            return False
        robot = self.socket.robot(client)  # which may have several connections
        own = self._unfinished(robot) if robot else 0
        refusal = self._admission.ask(
            robot or client, time.monotonic(), self._unfinished(), own, self.socket.robots
        )
        if refusal is not None:
            self._refuse(client, message.action_id, ErrorCode.BUSY, refusal.sentence, refusal.retry_ms)
        return refusal is None

    def _refuse(self, client: bytes, action_id: int, code: str, sentence: str, retry_ms: float = 0.0) -> None:
        self._counts.refused += code != ErrorCode.UNKNOWN_ACTION
        self._observer.failed(code)
        self.socket.send(client, Error(action_id, code, sentence, retry_ms))

    def _unfinished(self, robot: str = "") -> int:
        """How many actions are not over, of one robot or of all."""
        return sum(
            session.machine.state not in _OVER
            for session in self._sessions.values()
            if not robot or self.socket.robot(session.client) == robot
        )

    def _busy(self) -> bool:
        waits = (*_OVER, CloudState.NEW)  # a new one has not been opened, and may never be
        return any(session.machine.state not in waits for session in self._sessions.values())

    def _on_gone(self, client: bytes) -> None:
        with self.lock:
            for key in [known for known in self._sessions if known[0] == client]:
                self._drop(key)
            self._latest.pop(client, None)

    def _drop(self, key: tuple[bytes, int]) -> None:
        session = self._sessions.pop(key)
        self.execute(session, session.machine.receive(Close(session.action_id)))

    # ---- in either thread, under the lock ------------------------------------------------------------------

    def execute(self, session: Session, commands: list[CloudCommand]) -> None:
        for command in commands:
            if isinstance(command, Send):
                if isinstance(command.message, Error):
                    self._observer.failed(command.message.code)
                self.socket.send(session.client, command.message)
                continue
            if isinstance(command, Finished):
                self._record(session)
            self.engine.take(session, command)

    def _record(self, session: Session) -> None:
        """Take a finished action into the averages and metrics."""
        machine = session.machine
        passes, drafted, accepted = machine.counts
        if machine.state is CloudState.DONE:
            self._admission.lasted((time.monotonic() - session.began) * 1000.0)
        self._stale_average.observe(*machine.stale_judged)
        self._observer.action_done(accepted, drafted, passes, machine.state.name.lower())

    def fail(self, session: Session, error: Exception) -> None:
        extra = {
            "robot": self.socket.robot(session.client) or session.client.hex()[:8],
            "action_id": session.action_id,
        }
        if isinstance(error, SpecDecodeError):
            sentence = str(error)
            _log.warning("an action failed: %s", sentence, extra=extra)
        else:
            _log.error("an action failed", exc_info=error, extra=extra)
            sentence = f"The verifier failed on this action ({type(error).__name__}); its log says more."
        self._counts.failures += 1
        self.execute(session, session.machine.failed(sentence[:500]))

    # ---- in the model thread, under the lock ---------------------------------------------------------------

    def models_idle(self) -> None:
        for session in [s for s in self._sessions.values() if s.machine.yielding]:
            self.execute(session, session.machine.others_wait(False))

    def sweep(self, now: float) -> None:
        for key, session in list(self._sessions.items()):
            if now - session.last_heard > self._config.expire_s:
                self._drop(key)
        clients = {client for client, _ in self._sessions}
        self._latest = {client: latest for client, latest in self._latest.items() if client in clients}
        self._admission.forget(now)


_UNKNOWN = "The verifier does not know this action; open it again."
_DRAINING_RETRY_MS = 1_000.0
_DRAINING = "The verifier ends and takes no new actions; use another one, or try again when it is back."
