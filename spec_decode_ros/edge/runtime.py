"""One action after the other on the robot: joins the edge machine, the draft model and the connection.

Everything that happens (a token drafted, a message arrived, time passed) goes through one queue to the thread
that called :meth:`EdgeRuntime.act`, which alone talks to the state machine.
"""

from __future__ import annotations

import itertools
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence

from spec_decode_ros.decoding.commands import Done, DraftFrom, EdgeCommand, Failed, Send, Show, StopDrafting
from spec_decode_ros.decoding.controller import OBJECTIVES, Objective, plan
from spec_decode_ros.decoding.edge import EdgeMachine
from spec_decode_ros.decoding.messages import Close, Error, Open, Sampling
from spec_decode_ros.decoding.methods import Method, method_named
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.edge.drafting import Drafted, DraftingThread, Frame
from spec_decode_ros.edge.measurements import LinkStatistics
from spec_decode_ros.edge.outcome import ActionCancelled, ActionFailed, ActionResult, Progress
from spec_decode_ros.edge.recording import Recorder
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.transport.client import Arrival, Client, Reconnected

__all__ = ["OFFLINE", "ActionCancelled", "ActionFailed", "ActionResult", "EdgeRuntime", "Progress"]

OFFLINE = "offline"
"""`Error.code` with which an action is told that the verifier has been silent for too long to be waited for."""

_OFFLINE_AFTER_S = 3.5
_FIRST_UPLINK_MBPS = 1.0
"""What is assumed of the uplink before a frame has crossed it."""

_LEAST_RESEND_S = 0.5
_LONGEST_WAIT_S = 0.5


class EdgeRuntime:
    """Decodes actions with one method.

    Args:
        drafter: the draft model; also the side that turns tokens into text.
        client: connection to the verifier, or None for methods that need none.
        method: a method or its name.
        deadline_s: an action that takes longer ends with the tokens that there are, unverified.
        max_tokens: longest answer.
        fallback: go on with the draft model alone when the cloud fails; without it, raise.
        objective: what a method that adapts aims at, see :func:`~spec_decode_ros.decoding.controller.plan`.
    """

    def __init__(
        self,
        drafter: Drafter,
        client: Client | None,
        method: Method | str,
        *,
        deadline_s: float = 10.0,
        max_tokens: int = 64,
        fallback: bool = True,
        objective: Objective = "latency",
    ) -> None:
        if objective not in OBJECTIVES:
            raise SpecDecodeError(
                f"There is no objective {objective!r}; choose one of {', '.join(OBJECTIVES)}."
            )
        self.objective: Objective = objective
        self.method = method_named(method) if isinstance(method, str) else method
        if self.method.uses_cloud and client is None:
            raise SpecDecodeError(
                f"The method {self.method.name!r} needs a verifier to connect to; name its endpoint."
            )
        self._drafter = drafter
        self._client = client if self.method.uses_cloud else None
        self._deadline_s = deadline_s
        self._max_tokens = max_tokens
        self._fallback = fallback
        self._gauge = LinkStatistics()
        self._own_ids = itertools.count(1)
        self._busy = threading.Lock()
        self._action: _Action | None = None
        self._newest_seed = -1
        self._thread = DraftingThread(drafter) if self.method.uses_draft_model else None

    def __enter__(self) -> EdgeRuntime:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the drafting thread; the client is the caller's and stays open."""
        if self._thread:
            self._thread.close()
            self._thread = None

    def cancel(self) -> None:
        """End the action that runs, if one does, from any thread: its `act` raises `ActionCancelled`."""
        action = self._action
        if action:
            action.cancel()

    def act(
        self,
        prompt: str,
        images: Sequence[bytes] = (),
        last_tokens: Sequence[int] = (),
        *,
        sampling: Sampling | None = None,
        on_event: Callable[[Progress], None] | None = None,
        captured: float | None = None,
    ) -> ActionResult:
        """Decode one action.

        Args:
            prompt: the text that goes with the images.
            images: JPEG bytes.
            last_tokens: the last verified answer, a draft that costs nothing. Separate rejection sampling can use
                it only with a seed above those of the runtime's earlier actions: draws must not judge what they made.
            on_event: called in this thread whenever the answer has grown or changed; must return quickly.
            captured: time of `time.perf_counter` when the frame was captured; by default now.

        One action at a time: another thread may call `cancel`, but not `act`.

        Raises:
            ActionFailed: without fallback, when the cloud fails or the deadline passes; with it, when the draft
                model fails too.
            ActionCancelled: after `cancel`.
            WireError: if an image or the prompt is larger than the protocol allows.
        """
        now = time.perf_counter()
        sampling = sampling or Sampling()
        request = Request(
            self._client.next_action_id() if self._client else next(self._own_ids),
            prompt,
            len(images),
            sampling,
            self._max_tokens,
            tuple(last_tokens) if sampling.seed > self._newest_seed or not sampling.separate else (),
            resend_s=self._patience_s(sum(map(len, images))),
            deadline_s=self._deadline_s,
            fallback=self._fallback,
            spread=random.random(),
        )
        recorder = Recorder(
            now if captured is None else captured, self._client.rtt_ms if self._client else None
        )
        if not self._busy.acquire(blocking=False):
            raise SpecDecodeError(
                "This runtime decodes one action at a time; cancel the one that runs first."
            )
        try:
            self._newest_seed = max(self._newest_seed, sampling.seed)
            self._action = _Action(self, request, tuple(images), recorder, on_event)
            result = self._action.run()
            self._gauge.observe(result.outcomes, recorder.measured())
            return result
        finally:
            self._action = None
            self._busy.release()

    def _patience_s(self, image_bytes: int) -> float:
        """Seconds of silence after which a message is sent again: twice what frame and answer should take, at least."""
        rtt_ms = (self._client.rtt_ms if self._client else None) or 0.0
        mbps = self._gauge.uplink_mbps or _FIRST_UPLINK_MBPS
        return max(_LEAST_RESEND_S, (4.0 * rtt_ms + 2.0 * image_bytes * 8e-3 / mbps) / 1000.0)

    def plan(self) -> Method:
        """How the next action is decoded: the method, fitted to what was measured if it adapts."""
        if not self.method.adapts or self._client is None:
            return self.method
        return plan(
            self.method, self.objective, self._gauge.measurements(self._client.rtt_ms, self._client.welcome)
        )


class _Action:
    """One call of `act`."""

    def __init__(
        self,
        runtime: EdgeRuntime,
        request: Request,
        images: tuple[bytes, ...],
        recorder: Recorder,
        on_event: Callable[[Progress], None] | None,
    ) -> None:
        self._client = runtime._client
        self._drafter = runtime._drafter
        self._thread = runtime._thread
        self._method = runtime.plan()
        self._request = request
        self._images = images
        self._frame = Frame(request.prompt, images, request.sampling)
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
        self._obey(self._machine.drafted(event.run, event.token))

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
            stats=self._recorder.stats(end, self._method.name, at),
            timeline=self._recorder.spans(),
        )

    def _why_nothing(self) -> str:
        if self._draft_error is not None:
            return f"The draft model failed: {self._draft_error}"
        return f"Nothing was decoded within {self._request.deadline_s:g} s; is the verifier running?"
