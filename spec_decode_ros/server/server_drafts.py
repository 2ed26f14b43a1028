"""What a server drafts by itself, for robots that ask it to: with a draft model beside the target, or an early exit."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spec_decode_ros.decoding.acceptance import AcceptanceAverage
from spec_decode_ros.models.interfaces import Drafter, DraftSession, SharedDrafter
from spec_decode_ros.server.session import Session

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerDrafter:
    """How a server drafts by itself.

    Attributes:
        length: how many tokens for one pass, given their acceptance; at least one is made.
        seconds: at how many places of so many tokens, given their acceptance, a second choice stands beside the first in
            a pass that is this action's alone.
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
    seconds: Callable[[float, int], int] = lambda acceptance, count: 0


class ServerDraft(NamedTuple):
    """What a server has drafted by itself, and beginnings of it `instead`, each with a second choice behind."""

    tokens: Sequence[int] = ()
    instead: Sequence[tuple[int, ...]] = ()


_NOTHING = ServerDraft()


class ServerDrafts:
    """Makes the drafts in the thread of the models; a draft that fails leaves the action to the target.

    Args:
        own: how; None for a server that does not.
        lock: guards the machines.
    """

    def __init__(self, own: ServerDrafter | None, lock: threading.Condition) -> None:
        self._own = own
        self._changed = lock
        self._share = AcceptanceAverage(own.acceptance if own else 0.0)

    @property
    def acceptance(self) -> float:
        """Share of them that the target has confirmed lately."""
        return self._share.value

    def length(self) -> int:
        """How many tokens are now drafted for a pass; 0 where none are."""
        return max(1, self._own.length(self._share.value)) if self._own else 0

    def over(self, session: Session) -> None:
        """An action is over: learn from how its drafts were judged."""
        self._share.observe(*session.machine.server_draft_judged)

    def make(self, wanted: Sequence[tuple[Session, int]]) -> list[ServerDraft]:
        """For each session so many tokens after what it has committed; fewer, or none, where they can't be had."""
        drafter = self._own.drafter if self._own else None
        asking = [session for session, count in wanted if count and not session.own_failed]
        start = time.perf_counter()
        if len(asking) > 1 and isinstance(drafter, SharedDrafter):
            made = self._together(drafter, wanted)
        else:
            seconds = self._own.seconds if self._own and len(wanted) == 1 else None
            made = [
                self._alone(session, count, seconds(self._share.value, count) if seconds else 0)
                if count
                else _NOTHING
                for session, count in wanted
            ]
        for session in asking:
            session.owed_ms += (time.perf_counter() - start) * 1000.0 / len(asking)
        return made

    def _together(self, drafter: SharedDrafter, wanted: Sequence[tuple[Session, int]]) -> list[ServerDraft]:
        asking = [(session, count) for session, count in wanted if count and not session.own_failed]
        unopened = [session for session, _ in asking if session.own is None]
        opened = drafter.open_many([(session.prompt, session.images) for session in unopened])
        for session, own in zip(unopened, opened, strict=True):
            if isinstance(own, Exception):
                self._failed(session, own)
            else:
                session.own = own
        asking = [(session, count) for session, count in asking if session.own is not None]
        with self._changed:
            parts = [
                (session.own, session.machine.committed, session.machine.sampling) for session, _ in asking
            ]
        drafts = drafter.draft_many(parts, max((count for _, count in asking), default=0))
        made: dict[int, ServerDraft] = {}
        for (session, count), draft in zip(asking, drafts, strict=True):
            if isinstance(draft, Exception):
                self._failed(session, draft)
            else:
                made[id(session)] = ServerDraft(draft[:count])
        return [made.get(id(session), _NOTHING) for session, _ in wanted]

    def _alone(self, session: Session, count: int, seconds: int) -> ServerDraft:
        own = self._own
        if own is None or session.own_failed:
            return _NOTHING
        try:
            if own.drafter is None:
                assert session.model is not None
                return ServerDraft(
                    session.model.self_draft(session.machine.committed, count, session.machine.sampling)
                )
            if session.own is None:
                session.own = own.drafter.open(session.prompt, session.images)
            return self._until_heard(session, session.own, count, seconds)
        except Exception as error:
            self._failed(session, error)
            return _NOTHING

    def _until_heard(self, session: Session, model: DraftSession, count: int, seconds: int) -> ServerDraft:
        """Draft tokens, fewer if a draft from the robot arrives before they are ready."""
        made: list[int] = []
        instead: list[tuple[int, ...]] = []
        for token in model.draft(session.machine.committed, session.machine.sampling):
            second = model.runner_up if len(made) < seconds else None
            if second is not None:
                instead.append((*made, second[0]))
            made.append(token)
            with self._changed:
                if len(made) == count or session.machine.has_draft:
                    break
        return ServerDraft(made, instead)

    def _failed(self, session: Session, error: Exception) -> None:
        _log.error(
            "the server's own draft failed; the target finishes this action without it", exc_info=error
        )
        session.own_failed = True
