"""Builds the messages of the edge about one action from the answer as it stands."""

from __future__ import annotations

from dataclasses import dataclass

from spec_decode_ros.decoding.messages import Branches, Draft, Open
from spec_decode_ros.decoding.methods import Method
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.decoding.resampling import Resampler
from spec_decode_ros.decoding.tree import Tree


@dataclass(frozen=True)
class DraftState:
    """An answer as it stands.

    Attributes:
        committed: its final tokens.
        draft: what may follow them.
        drafting: the draft model is at work on the draft.
        exhausted: it can say nothing after it.
        rounds: of the newest `Committed`.
    """

    committed: tuple[int, ...]
    draft: tuple[int, ...]
    drafting: bool
    exhausted: bool
    rounds: int

    @property
    def answer(self) -> tuple[int, ...]:
        return self.committed + self.draft


class MessageBuilder:
    """The messages of one action. `resampler` is only asked where the sampling is separate."""

    def __init__(self, request: Request, method: Method, resampler: Resampler) -> None:
        self._request = request
        self._method = method
        self._resampler = resampler

    def opening(self, at: DraftState) -> Open:
        request, method = self._request, self._method
        assert method.server is not None
        draft = request.previous if method.temporal else ()
        settled = len(at.committed) if request.sampling.separate else 0
        if settled and draft[:settled] != at.committed:
            draft = at.committed
        elif at.committed and not settled:
            draft = at.answer  # a server that does not know the action can confirm it in one pass
        return Open(
            request.action_id,
            request.prompt,
            request.images,
            request.sampling,
            method.server,
            draft,
            request.max_tokens,
            method.patience_ms,
            method.early,
            method.yields,
            settled,
        )

    def draft(self, at: DraftState, length: int = 0, final: bool = False) -> Draft:
        """The first `length` draft tokens; a poll if there are none."""
        if self._request.sampling.separate:
            return self._sampled(at, self._resampler.unconfirmed, length, final)
        whole = bool(length) and not at.drafting and length == len(at.draft)
        return Draft(
            self._request.action_id,
            len(at.committed),
            at.draft[:length],
            final=final or whole,
            round=at.rounds + 1,
        )

    def reminder(self, at: DraftState, position: int) -> Draft:
        """Everything from `position` on, for a restarted server that has no more than that."""
        if self._request.sampling.separate:
            return self._sampled(at, position, len(at.draft))
        return Draft(self._request.action_id, position, at.answer[position:], round=at.rounds + 1)

    def branches(self, at: DraftState, tree: Tree) -> Branches:
        parents = tuple(parent if parent >= 0 else node for node, parent in enumerate(tree.parents))
        return Branches(self._request.action_id, len(at.committed), tree.tokens, parents, at.rounds + 1)

    def _sampled(self, at: DraftState, position: int | None, length: int, final: bool = False) -> Draft:
        """What is settled from `position` on (by default nothing), and the first `length` draft tokens."""
        known = len(at.committed)
        settled = 0 if position is None else known - position
        whole = bool(length) and not at.drafting and length == len(at.draft)
        if self._method.ahead:  # it drafts on behind a full window as soon as a verdict comes
            whole = whole and (at.exhausted or len(at.answer) >= self._request.max_tokens - 1)
        return Draft(
            self._request.action_id,
            known - settled,
            at.answer[known - settled : known + length],
            final=final or whole,
            round=at.rounds + 1,
            probabilities=(1.0,) * settled + self._resampler.probabilities(known, known + length),
            settled=settled,
        )
