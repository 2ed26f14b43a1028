"""The thread of the draft model. It drafts token by token; a new order replaces the one at work."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.rejection import DraftedToken
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import Drafter, DraftSession

_log = logging.getLogger(__name__)

_JOIN_S = 10.0


@dataclass(frozen=True)
class Frame:
    """Prompt, images and sampling of one action, and whether second choices are wanted, which cost a little."""

    prompt: str
    images: tuple[bytes, ...]
    sampling: Sampling
    second_choices: bool = False


@dataclass(frozen=True)
class Drafted:
    """News from the drafting thread; times are of `time.perf_counter`.

    `token` is None when the run has ended before its budget was used; `error` says why, if it failed. For separate
    rejection sampling it comes with the distribution that it was drawn from.
    """

    run: int
    token: int | DraftedToken | None
    began: float
    at: float
    error: Exception | None = None
    second: tuple[int, float] | None = None


@dataclass(frozen=True)
class _Order:
    frame: Frame
    run: int
    prefix: tuple[int, ...]
    budget: int
    report: Callable[[Drafted], None]


class DraftingThread:
    """Runs the drafter. The newest order replaces the one at work, after at most one more token."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._current: _Order | None = None
        self._closing = False
        self._frame: Frame | None = None
        self._session: DraftSession | None = None
        self._thread = threading.Thread(target=self._run, name="drafter", daemon=True)
        self._thread.start()

    def draft(
        self,
        frame: Frame,
        run: int,
        prefix: Sequence[int],
        budget: int,
        report: Callable[[Drafted], None],
    ) -> None:
        """Draft up to `budget` tokens after `prefix`; `report` is called in the drafting thread for each."""
        self._current = _Order(frame, run, tuple(prefix), budget, report)
        self._orders.put(self._current)

    def pause(self) -> None:
        """Drop the order at work."""
        self._current = None

    def close(self) -> None:
        """End the thread; a token that is being drafted is waited for."""
        self._closing = True
        self._current = None
        self._orders.put(None)
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while (order := self._orders.get()) is not None and not self._closing:
            if order is not self._current:
                continue
            began = time.perf_counter()
            try:
                self._work(order)
            except Exception as error:
                if order is self._current:
                    # What a user can mend needs no traceback.
                    _log.error("drafting failed: %s", error, exc_info=not isinstance(error, SpecDecodeError))
                order.report(Drafted(order.run, None, began, time.perf_counter(), error))
        self._drop_session()

    def _work(self, order: _Order) -> None:
        began = time.perf_counter()
        session = self._session_for(order.frame)
        sampling = order.frame.sampling
        drafted: Iterator[int | DraftedToken] = (
            session.draft_sampled(order.prefix, sampling)
            if sampling.separate
            else session.draft(order.prefix, sampling)
        )
        for made, token in enumerate(drafted, 1):
            if order is not self._current:
                return
            now = time.perf_counter()
            second = session.runner_up if order.frame.second_choices else None
            order.report(Drafted(order.run, token, began, now, second=second))
            began = now
            if made == order.budget:
                return
        order.report(Drafted(order.run, None, began, time.perf_counter()))

    def _session_for(self, frame: Frame) -> DraftSession:
        if self._session is None or self._frame is not frame:
            self._drop_session()
            self._session = self._drafter.open(frame.prompt, frame.images)
            self._frame = frame
        return self._session

    def _drop_session(self) -> None:
        session, self._session, self._frame = self._session, None, None
        if session is not None:
            session.close()
