"""Server drafts: what a server drafts beside its target, for robots that ask for it.

With a draft model on the server, or with the target's own layers up to an early exit.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from spec_decode_ros.decoding.acceptance import AcceptanceAverage
from spec_decode_ros.decoding.controller import Measurements, alternative_places, server_draft_length
from spec_decode_ros.models.interfaces import Drafter, DraftSession, SharedDrafter, Verifier
from spec_decode_ros.models.pair import load_drafter
from spec_decode_ros.models.pair_config import PairConfig
from spec_decode_ros.models.warmup import PassTiming, warm_up
from spec_decode_ros.server.session import Session

_log = logging.getLogger(__name__)

_ACCEPTANCE = 0.8
"""Assumed of a pair before anything was verified."""


@dataclass(frozen=True)
class ServerDrafter:
    """How a server drafts.

    Attributes:
        length: how many tokens for one pass, given their acceptance; at least one is made.
        acceptance: assumed before anything was verified.
        token_ms: time of one token.
        prefill_ms: time before the first one of an action.
        drafter: the draft model; None for the target itself, with its layers up to an early exit.
        alternatives: behind how many of so many tokens, given their acceptance, the second choice is verified too, in
            a pass that is this action's alone.
    """

    length: Callable[[float], int]
    acceptance: float = _ACCEPTANCE
    token_ms: float = 0.0
    prefill_ms: float = 0.0
    drafter: Drafter | None = None
    alternatives: Callable[[float, int], int] = lambda acceptance, count: 0


def server_drafter(
    config: PairConfig,
    verifier: Verifier,
    timing: PassTiming,
    device: str | None = None,
    threads: int | None = None,
) -> ServerDrafter | None:
    """How the server of a pair drafts; None where that does not pay.

    With the draft side of the pair, where its file says ``colocated: true``; else with the target's own layers up to an
    early exit, where it has one.

    Args:
        config: the pair.
        verifier: its target.
        timing: of the target's passes here.
        device: where the target runs; by default what the pair says.
        threads: CPU threads; by default what the pair says.
    """
    acceptance, drafter, prefill_ms = _ACCEPTANCE, None, 0.0
    if config.colocated:
        drafter = load_drafter(config, device or config.target.device, threads)
        token_ms, _, prefill_ms, _ = warm_up(drafter)
    elif verifier.self_drafting:
        share, acceptance = verifier.self_drafting
        token_ms = share * timing.token_ms
    else:
        return None
    here = Measurements(
        0.0, token_ms, timing.token_ms, acceptance, timing.per_token_ms, token_ms, few_ms=timing.few_ms
    )
    if not server_draft_length(here):
        return None

    def alternatives(acceptance: float, count: int) -> int:
        return (
            alternative_places(replace(here, acceptance=acceptance), count)
            if verifier.can_verify_trees
            else 0
        )

    return ServerDrafter(
        lambda acceptance: server_draft_length(replace(here, acceptance=acceptance)),
        acceptance,
        token_ms,
        prefill_ms,
        drafter,
        alternatives,
    )


class ServerDraft(NamedTuple):
    """A draft of the server, and `alternatives`: beginnings of it, each with a second choice at its end."""

    tokens: Sequence[int] = ()
    alternatives: Sequence[tuple[int, ...]] = ()


_NONE = ServerDraft()


class ServerDrafts:
    """Makes the server's drafts in the thread of the models; a draft that fails leaves the action to the target.

    Args:
        drafter: how; None for a server that does not draft.
        lock: guards the state machines.
    """

    def __init__(self, drafter: ServerDrafter | None, lock: threading.Condition) -> None:
        self._how = drafter
        self._lock = lock
        self._acceptance = AcceptanceAverage(drafter.acceptance if drafter else 0.0)

    @property
    def acceptance(self) -> float:
        """Share of their tokens that the target has accepted lately."""
        return self._acceptance.value

    def length(self) -> int:
        """How many tokens are now drafted for a pass; 0 where none are."""
        return max(1, self._how.length(self.acceptance)) if self._how else 0

    def action_ended(self, session: Session) -> None:
        """Take the acceptance of the action's server drafts into account."""
        self._acceptance.observe(*session.machine.server_draft_judged)

    def make(self, wanted: Sequence[tuple[Session, int]]) -> list[ServerDraft]:
        """For each session so many tokens after its committed ones; fewer, or none, where they can't be had."""
        how = self._how
        if how is None:
            return [_NONE] * len(wanted)
        asking = [(session, count) for session, count in wanted if count and not session.server_draft_failed]
        made: dict[int, ServerDraft] = {}
        start = time.perf_counter()
        if len(asking) > 1 and isinstance(how.drafter, SharedDrafter):
            self._draft_together(how.drafter, asking, made)
        else:
            for session, count in asking:
                alternatives = how.alternatives(self.acceptance, count) if len(wanted) == 1 else 0
                try:
                    made[id(session)] = self._draft(how.drafter, session, count, alternatives)
                except Exception as error:
                    self._failed(session, error)
        for session, _ in asking:
            session.unreported_ms += (time.perf_counter() - start) * 1000.0 / len(asking)
        return [made.get(id(session), _NONE) for session, _ in wanted]

    def _draft_together(
        self, drafter: SharedDrafter, asking: Sequence[tuple[Session, int]], made: dict[int, ServerDraft]
    ) -> None:
        unopened = [session for session, _ in asking if session.draft_session is None]
        opened = drafter.open_many([(session.prompt, session.images) for session in unopened])
        for session, draft_session in zip(unopened, opened, strict=True):
            if isinstance(draft_session, Exception):
                self._failed(session, draft_session)
            else:
                session.draft_session = draft_session
        asking = [(session, count) for session, count in asking if session.draft_session is not None]
        with self._lock:
            requests = [
                (session.draft_session, session.machine.committed, session.machine.sampling)
                for session, _ in asking
            ]
        drafts = drafter.draft_many(requests, max((count for _, count in asking), default=0))
        for (session, count), draft in zip(asking, drafts, strict=True):
            if isinstance(draft, Exception):
                self._failed(session, draft)
            else:
                made[id(session)] = ServerDraft(draft[:count])

    def _draft(self, drafter: Drafter | None, session: Session, count: int, alternatives: int) -> ServerDraft:
        if drafter is None:
            assert session.verify_session is not None
            committed, sampling = session.machine.committed, session.machine.sampling
            return ServerDraft(session.verify_session.self_draft(committed, count, sampling))
        if session.draft_session is None:
            session.draft_session = drafter.open(session.prompt, session.images)
        return self._draft_until_robot_does(session, session.draft_session, count, alternatives)

    def _draft_until_robot_does(
        self, session: Session, draft_session: DraftSession, count: int, alternatives: int
    ) -> ServerDraft:
        """Draft tokens, fewer if a draft from the robot arrives before they are ready."""
        tokens: list[int] = []
        others: list[tuple[int, ...]] = []
        for token in draft_session.draft(session.machine.committed, session.machine.sampling):
            second = draft_session.runner_up if len(tokens) < alternatives else None
            if second is not None:
                others.append((*tokens, second[0]))
            tokens.append(token)
            with self._lock:
                if len(tokens) == count or session.machine.has_draft:
                    break
        return ServerDraft(tokens, others)

    def _failed(self, session: Session, error: Exception) -> None:
        _log.error("a server draft failed; the target finishes this action without it", exc_info=error)
        session.server_draft_failed = True
