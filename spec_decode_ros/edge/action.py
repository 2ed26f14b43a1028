"""Drives the edge machine of one action with the draft model's thread and the connection to the verifier.

Everything that happens (a token drafted, a message arrived, time passed) goes through one queue to the thread that called
`RunningAction.run`, which alone talks to the state machine.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass

from spec_decode_ros.decoding.commands import Done, DraftFrom, EdgeCommand, Failed, Send, Show, StopDrafting
from spec_decode_ros.decoding.edge import EdgeMachine
from spec_decode_ros.decoding.messages import Close, Error, Open
from spec_decode_ros.decoding.methods import Method
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.edge.drafting import Drafted, DraftingThread, Frame
from spec_decode_ros.edge.outcome import ActionCancelled, ActionFailed, ActionResult, Progress
from spec_decode_ros.edge.recording import Recorder
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.transport.client import Arrival, Client, Reconnected

OFFLINE = "offline"
"""`Error.code` with which an action is told that the verifier has been silent for too long to be waited for."""

_OFFLINE_AFTER_S = 3.5
_LONGEST_WAIT_S = 0.5


@dataclass(frozen=True)
class EdgeParts:
    """What every action of a runtime uses.

    Attributes:
        drafter: the draft model; also turns tokens into text.
        thread: drafts with it; None for methods that do not draft.
        client: connection to the verifier; None for methods that need none.
    """

    drafter: Drafter
    thread: DraftingThread | None
    client: Client | None


class RunningAction:
    """One action from its frame to its result.

    Args:
        parts: draft model and connection.
        method: how it is decoded.
        request: what is asked for.
        images: JPEG bytes.
        recorder: takes down times and bytes.
        on_event: called whenever the answer has grown or changed.
    """

    def __init__(
        self,
        parts: EdgeParts,
        method: Method,
        request: Request,
        images: tuple[bytes, ...],
        recorder: Recorder,
        on_event: Callable[[Progress], None] | None,
    ) -> None:
        self._client = parts.client
        self._drafter = parts.drafter
        self._thread = parts.thread
        self._method = method
        self._request = request
        self._images = images
        self._frame = Frame(request.prompt, images, request.sampling, method.branches > 0)
        self._recorder = recorder
        self._on_event = on_event
        self._eos = frozenset(self._drafter.eos_ids)
        self._machine = EdgeMachine(self._method, request, self._eos)
        self._events: queue.SimpleQueue[Drafted | Arrival | None] = queue.SimpleQueue()
        self._run = 0  # the drafting whose tokens were seen last
        self._end: Done | Failed | None = None
        self._draft_error: Exception | None = None

    def cancel(self) -> None:
        self._events.put(None)

    def run(self) -> ActionResult:
        try:
            if self._client:
                self._client.listen(self._events.put)
            self._obey(self._machine.start(time.perf_counter()))
            self._notice_absence()
            while self._end is None:
                self._step()
        finally:
            if self._client:
                self._client.listen(None)
            if self._thread:
                self._thread.pause()
        return self._result(self._end)

    def _notice_absence(self) -> None:
        """Do not wait for a verifier that has refused this robot or has been silent for long."""
        if self._client is None:
            return
        sentence = self._client.refusal
        if not sentence and self._client.silence_s > _OFFLINE_AFTER_S:
            where = " or ".join(self._client.endpoints)
            sentence = f"The verifier at {where} does not answer; check that it runs and the network."
        if sentence:
            self._obey(self._machine.receive(Error(self._request.action_id, OFFLINE, sentence)))

    def _step(self) -> None:
        now = time.perf_counter()
        wake_at = self._machine.wake_at
        wait_s = _LONGEST_WAIT_S if wake_at is None else min(max(0.0, wake_at - now), _LONGEST_WAIT_S)
        try:
            event = self._events.get(timeout=wait_s)
        except queue.Empty:
            pass
        else:
            if event is None:
                self._leave()
            elif isinstance(event, Drafted):
                self._on_drafted(event)
            else:
                self._on_arrival(event)
        if self._end is None:
            self._obey(self._machine.tick(time.perf_counter()))

    def _leave(self) -> None:
        if self._client:
            self._client.send(Close(self._request.action_id))
        raise ActionCancelled("The action was cancelled.")

    def _on_drafted(self, event: Drafted) -> None:
        if event.token is None:
            self._draft_error = event.error or self._draft_error
            self._obey(self._machine.draft_ended(event.run))
            return
        self._recorder.drafted(event.began, event.at, event.run != self._run)
        self._run = event.run
        self._obey(self._machine.drafted(event.run, event.token, event.second))

    def _on_arrival(self, event: Arrival) -> None:
        if isinstance(event.message, Reconnected):
            self._obey(self._machine.reconnected(event.message.known))
            return
        if getattr(event.message, "action_id", 0) in (0, self._request.action_id):
            self._recorder.arrived(event.message, event.size, event.at)
        self._obey(self._machine.receive(event.message))  # type: ignore[arg-type]

    def _obey(self, commands: list[EdgeCommand]) -> None:
        for command in commands:
            if isinstance(command, Send):
                assert self._client is not None
                images = self._images if isinstance(command.message, Open) else ()
                at = time.perf_counter()
                size = self._client.send(command.message, images)
                self._recorder.sent(command.message, size, images, at)
            elif isinstance(command, DraftFrom):
                assert self._thread is not None
                self._thread.draft(self._frame, command.run, command.prefix, command.budget, self._events.put)
            elif isinstance(command, StopDrafting):
                assert self._thread is not None
                self._thread.pause()
            elif isinstance(command, Show):
                self._show(command)
            else:
                self._end = command

    def _show(self, show: Show) -> None:
        at = time.perf_counter()
        text = self._drafter.decode(show.tokens)
        ended = bool(show.tokens) and show.tokens[-1] in self._eos
        final = len(show.tokens) if not self._method.uses_cloud else show.committed
        self._recorder.shown(text, ended, final, at)
        if self._on_event:
            committed_text = self._drafter.decode(show.tokens[: show.committed])
            elapsed_ms = self._recorder.ms(at)
            self._on_event(Progress(show.tokens, show.committed, text, committed_text, ended, elapsed_ms))

    def _result(self, end: Done | Failed | None) -> ActionResult:
        at = time.perf_counter()
        if isinstance(end, Failed):
            raise ActionFailed(end.sentence)
        assert end is not None
        if not end.verified and not end.tokens:
            raise ActionFailed(self._why_nothing()) from self._draft_error
        return ActionResult(
            tokens=end.tokens,
            text=self._drafter.decode(end.tokens),
            verified=end.verified,
            complete=end.complete,
            outcomes=tuple(outcome.label for outcome in end.outcomes),
            stats={
                **self._recorder.stats(end, self._method.name, at),
                "target_fingerprint": self._target_fingerprint() if end.verified else None,
            },
            timeline=self._recorder.spans(),
        )

    def _target_fingerprint(self) -> str | None:
        """Of the target that has verified this action; None where its weights are not known."""
        welcome = self._client.welcome if self._client is not None else None
        return (welcome.target_fingerprint if welcome is not None else "") or None

    def _why_nothing(self) -> str:
        if self._draft_error is not None:
            return f"The draft model failed: {self._draft_error}"
        return f"Nothing was decoded within {self._request.deadline_s:g} s; is the verifier running?"
