"""The runtime on the robot: decodes one action after the other, by one method."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence

from spec_decode_ros.decoding.controller import OBJECTIVES, Objective, plan
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.methods import Method, method_named
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.edge.action import OFFLINE, EdgeParts, RunningAction
from spec_decode_ros.edge.drafting import DraftingThread
from spec_decode_ros.edge.measurements import LinkStatistics
from spec_decode_ros.edge.outcome import ActionCancelled, ActionFailed, ActionResult, Progress
from spec_decode_ros.edge.recording import Recorder
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.transport.client import Client

__all__ = ["OFFLINE", "ActionCancelled", "ActionFailed", "ActionResult", "EdgeRuntime", "Progress"]

_FIRST_UPLINK_MBPS = 1.0
"""What is assumed of the uplink before a frame has crossed it."""

_LEAST_RESEND_S = 0.5


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
        self._client = client if self.method.uses_cloud else None
        self._deadline_s = deadline_s
        self._max_tokens = max_tokens
        self._fallback = fallback
        self._link = LinkStatistics()
        self._offline_ids = itertools.count(1)
        self._busy = threading.Lock()
        self._action: RunningAction | None = None
        self._newest_seed = -1
        thread = DraftingThread(drafter) if self.method.uses_draft_model else None
        self._parts = EdgeParts(drafter, thread, self._client)

    def __enter__(self) -> EdgeRuntime:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the drafting thread; the client is the caller's and stays open."""
        if self._parts.thread:
            self._parts.thread.close()

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
            self._client.next_action_id() if self._client else next(self._offline_ids),
            prompt,
            len(images),
            sampling,
            self._max_tokens,
            tuple(last_tokens) if sampling.seed > self._newest_seed or not sampling.separate else (),
            resend_s=self._resend_s(sum(map(len, images))),
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
            self._action = RunningAction(self._parts, self.plan(), request, tuple(images), recorder, on_event)
            result = self._action.run()
            self._link.observe(result.outcomes, recorder.measured())
            return result
        finally:
            self._action = None
            self._busy.release()

    def _resend_s(self, image_bytes: int) -> float:
        """Seconds of silence after which a message is sent again: at least twice what frame and answer should take."""
        rtt_ms = (self._client.rtt_ms if self._client else None) or 0.0
        mbps = self._link.uplink_mbps or _FIRST_UPLINK_MBPS
        return max(_LEAST_RESEND_S, (4.0 * rtt_ms + 2.0 * image_bytes * 8e-3 / mbps) / 1000.0)

    def plan(self) -> Method:
        """How the next action is decoded: the method, fitted to what was measured if it adapts."""
        if not self.method.adapts or self._client is None:
            return self.method
        return plan(
            self.method, self.objective, self._link.measurements(self._client.rtt_ms, self._client.welcome)
        )
