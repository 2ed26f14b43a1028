"""The draft model: answer tokens one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spec_decode_ros.decoding.rejection import DraftedToken, draft_token
from spec_decode_ros.decoding.sampling import runner_up
from spec_decode_ros.models.answer import CachedSequence
from spec_decode_ros.models.hf_model import HfSide
from spec_decode_ros.models.packed_pass import logits_after

if TYPE_CHECKING:
    import torch

    from spec_decode_ros.decoding.messages import Sampling


class HfDrafter(HfSide):
    """A checkpoint that proposes answers; satisfies `interfaces.Drafter`."""

    def open(self, prompt: str, images: Sequence[bytes] = ()) -> HfDraftSession:
        return HfDraftSession(CachedSequence(self.model, self.model.prepare(prompt, images)))

    def open_many(self, prompts: Sequence[tuple[str, Sequence[bytes]]]) -> list[HfDraftSession | Exception]:
        """`open` for several at once; in the place of one that cannot be opened, why."""
        return [
            made if isinstance(made, Exception) else HfDraftSession(CachedSequence(self.model, made))
            for made in self.model.prepare_many(prompts)
        ]

    def draft_many(
        self, parts: Sequence[tuple[HfDraftSession, Sequence[int], Sampling]], count: int
    ) -> list[list[int] | Exception]:
        """The first `count` tokens of `DraftSession.draft` for several different sessions, a token of each in every pass.

        Each part is a session, the prefix and the sampling. Fewer tokens where an answer ends; in the place of a draft
        that cannot be made, why.
        """
        drafts = [_Draft(session, list(prefix), sampling) for session, prefix, sampling in parts]
        for draft in drafts:
            draft.session.begin()
        for _ in range(count):
            going = [
                draft for draft in drafts if draft.failure is None and draft.session.goes_on(draft.tokens)
            ]
            if not going:
                break
            rows = logits_after(self.model, [(draft.session.answer, draft.tokens) for draft in going])
            for draft, logits in zip(going, rows, strict=True):
                draft.add(logits)
        return [
            draft.failure or draft.tokens[len(prefix) :]
            for draft, (_, prefix, _) in zip(drafts, parts, strict=True)
        ]


@dataclass
class _Draft:
    """A draft in the making; `failure` says why it went no further."""

    session: HfDraftSession
    tokens: list[int]
    sampling: Sampling
    failure: Exception | None = None

    def add(self, logits: torch.Tensor | Exception) -> None:
        try:
            if isinstance(logits, Exception):
                raise logits
            self.tokens.append(self.session.choose(logits, len(self.tokens), self.sampling))
        except Exception as error:
            self.failure = error


class HfDraftSession:
    """One prompt on the draft model; satisfies `interfaces.DraftSession`."""

    def __init__(self, answer: CachedSequence) -> None:
        self.answer = answer
        self._turn = 0
        self._newest: tuple[torch.Tensor, int, Sampling] | None = None

    def draft(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[int]:
        tokens = list(prefix)
        return self._chosen(tokens, self._rows(tokens), sampling)

    def draft_sampled(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[DraftedToken]:
        tokens = list(prefix)
        return self._sampled(tokens, self._rows(tokens), sampling)

    def _chosen(self, tokens: list[int], rows: Iterator[torch.Tensor], sampling: Sampling) -> Iterator[int]:
        for logits in rows:
            tokens.append(self.choose(logits, len(tokens), sampling))
            yield tokens[-1]

    def choose(self, logits: torch.Tensor, position: int, sampling: Sampling) -> int:
        """The token that logits (1, vocabulary) stand for."""
        self._newest = logits[-1], position, sampling
        return self.answer.model.choose(logits, position, sampling)[0]

    def _sampled(
        self, tokens: list[int], rows: Iterator[torch.Tensor], sampling: Sampling
    ) -> Iterator[DraftedToken]:
        for logits in rows:
            drafted = draft_token(logits[0].float().cpu().numpy(), len(tokens), sampling)
            tokens.append(drafted.token)
            yield drafted

    def _rows(self, tokens: list[int]) -> Iterator[torch.Tensor]:
        """Logits (1, vocabulary) of what follows `tokens`, to which the caller adds one before asking on."""
        self.begin()
        return self._logits(tokens, self._turn)

    def begin(self) -> None:
        """End the drafts that are under way."""
        self._turn += 1

    def goes_on(self, tokens: Sequence[int]) -> bool:
        """Whether a token can follow these: the answer has not ended, and the context has room."""
        model = self.answer.model
        ended = bool(tokens) and tokens[-1] in model.text.eos_ids
        return len(self.answer.prompt.ids) + len(tokens) <= model.context and not ended

    def _logits(self, tokens: list[int], turn: int) -> Iterator[torch.Tensor]:
        while turn == self._turn and self.goes_on(tokens):
            yield self.answer.logits(tokens, 1)

    @property
    def runner_up(self) -> tuple[int, float] | None:
        if self._newest is None:
            return None
        logits, position, sampling = self._newest
        return runner_up(logits.float().cpu().numpy(), position, sampling)

    def close(self) -> None:
        self._turn += 1
        self.answer.close()
