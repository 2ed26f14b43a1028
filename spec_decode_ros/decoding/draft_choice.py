"""Which draft the target verifies next: the edge's, one put together from stale drafts, or the server's own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from spec_decode_ros.decoding.acceptance import accepted_length, until_end
from spec_decode_ros.decoding.controller import (
    Measurements,
    edge_draft_ms_per_token,
    server_draft_ms_per_token,
    stale_draft_ms_per_token,
)


@dataclass(frozen=True)
class ReceivedDraft:
    """A draft of the edge: `tokens` from `position` on in the answer, made in its n-th `round`."""

    position: int
    tokens: tuple[int, ...]
    round: int = 1

    def disagreements(self, answer: Sequence[int]) -> int:
        """In how many places the part of the draft that lies within `answer` differs from it."""
        return sum(a != b for a, b in zip(answer[self.position :], self.tokens, strict=False))

    def lost(self, answer: Sequence[int]) -> bool:
        """Whether the two newest tokens that both have differ: one miss is a typo, two are another text."""
        overlap = list(zip(answer[self.position :], self.tokens, strict=False))[-2:]
        return len(overlap) == 2 and all(a != b for a, b in overlap)

    def continuation(self, length: int) -> tuple[int, ...]:
        """The tokens from place `length` of the answer on; empty if the draft begins after it."""
        return self.tokens[length - self.position :] if self.position <= length else ()


@dataclass(frozen=True)
class Continuation:
    """Draft tokens after the committed ones; the first `exact` are from a draft that agrees with all of these."""

    tokens: tuple[int, ...] = ()
    exact: int = 0

    def cut(self, length: int) -> Continuation:
        """Its first tokens."""
        return Continuation(self.tokens[:length], min(self.exact, length))


@dataclass(frozen=True)
class DraftChoice:
    """`edge` is what the edge offers; with `server_tokens` above 0 the server drafts that many by itself first."""

    edge: Continuation
    server_tokens: int = 0


@dataclass(frozen=True)
class DraftLimits:
    """Bounds of one choice, in tokens.

    Attributes:
        longest: of the draft.
        stale: of what stale drafts may add to it; None where only drafts that agree are used.
        server: of the server's own draft; 0 where it makes none.
        server_waits: an edge draft of any kind is preferred to the server's own.
    """

    longest: int
    stale: int | None
    server: int
    server_waits: bool = False


def exact_continuation(drafts: Sequence[ReceivedDraft], answer: Sequence[int]) -> tuple[int, ...]:
    """The longest continuation of `answer` by a draft that agrees with all of it."""
    tokens = [draft.continuation(len(answer)) for draft in drafts if not draft.disagreements(answer)]
    return max(tokens, key=len, default=())


def best_continuation(drafts: Sequence[ReceivedDraft], answer: Sequence[int]) -> tuple[int, ...]:
    """The most promising continuation of `answer`, put together from all drafts (newest last).

    A draft with a rejected token is not thrown away: an action's text has a fixed shape, so what it says about later
    places is still the best guess until the edge has drafted anew. Drafts with fewer disagreements go first, newer
    before older; where one ends the next goes on.
    """
    text = list(answer)
    for draft in sorted(reversed(drafts), key=lambda draft: draft.disagreements(answer)):
        if not draft.lost(text):
            text.extend(draft.continuation(len(text)))
    return tuple(text[len(answer) :])


def stale_continuation(
    drafts: Sequence[ReceivedDraft], answer: Sequence[int], eos: Collection[int]
) -> Continuation:
    """The best continuation, stale drafts included, up to an end token."""
    tokens = until_end(best_continuation(drafts, answer), eos)
    return Continuation(tokens, min(len(exact_continuation(drafts, answer)), len(tokens)))


def choose_draft(
    drafts: Sequence[ReceivedDraft],
    branches: Sequence[ReceivedDraft],
    committed: Sequence[int],
    eos: Collection[int],
    limits: DraftLimits,
    measured: Measurements | None,
) -> DraftChoice:
    """Choose what the next pass verifies. Nothing here can change the answer, only its time.

    1. The edge offers the longest draft that agrees with all committed tokens, else a prepared branch that does.
       Stale drafts extend such a draft, or stand in for it, by at most `limits.stale` tokens, unless a draft of the
       server's own would cost less per token.
    2. The server drafts by itself, `limits.server` tokens, if that costs less per token than what the edge offers. It
       does not in the first pass and while other robots wait (`limits.server_waits`) if the edge offers anything.
    3. Where the edge offers nothing for the next token, the server drafts unless a pass over one token, followed by what
       stale drafts say of later places, costs less.
    """
    server = limits.server
    exact = until_end(exact_continuation(drafts, committed), eos)
    edge = Continuation(exact, len(exact))
    prepared = () if exact else until_end(exact_continuation(branches, committed), eos)
    if prepared:
        edge = Continuation(prepared, len(prepared))
    elif limits.stale is not None:
        stale = stale_continuation(drafts, committed, eos).cut(edge.exact + limits.stale)
        if not server or edge_draft_pays(stale, server, eos, measured):
            edge = stale
    if edge.tokens:
        pays = limits.server_waits or edge_draft_pays(edge, server, eos, measured)
    elif measured is None or not drafts:
        pays = False
    else:
        later = max(len(draft.continuation(len(committed) + 1)) for draft in drafts)
        stale_ms = stale_draft_ms_per_token(measured, min(later, limits.stale or 0))
        pays = stale_ms <= server_draft_ms_per_token(measured, server)
    return DraftChoice(edge, 0 if pays else server)


def edge_draft_pays(
    edge: Continuation,
    server_tokens: int,
    eos: Collection[int],
    measured: Measurements | None,
    made: bool = False,
) -> bool:
    """Whether the edge's draft costs no more per token than the server's own, which is to be drafted or `made`.

    Without measurements a draft that is there is better than one that is to be made.
    """
    if measured is None:
        return True
    if edge.tokens and edge.tokens[-1] in eos:
        server_tokens = min(server_tokens, len(edge.tokens))  # no more than to the end of the answer
    edge_ms = edge_draft_ms_per_token(measured, edge.exact, len(edge.tokens) - edge.exact)
    if made:
        measured = replace(measured, server_draft_ms=0.0)
    return edge_ms <= server_draft_ms_per_token(measured, server_tokens)


def judged_more(judged: tuple[int, int], draft: Sequence[int], tokens: Sequence[int]) -> tuple[int, int]:
    """Add one draft to counts of tokens looked at and accepted; nothing after its first wrong token was looked at."""
    agreed = accepted_length(draft, tokens)
    return judged[0] + min(agreed + 1, len(draft), len(tokens)), judged[1] + agreed
