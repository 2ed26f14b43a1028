"""The draft model: answer tokens one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from spec_decode_ros.decoding.rejection import DraftedToken, draft_token
from spec_decode_ros.decoding.sampling import runner_up
from spec_decode_ros.models.answer import Answer
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.text import TextSide

if TYPE_CHECKING:
    import torch

    from spec_decode_ros.decoding.messages import Sampling


class HfDrafter(TextSide):
    """A checkpoint that proposes answers; satisfies `interfaces.Drafter`."""

    def __init__(self, model: HfModel) -> None:
        super().__init__(model.text)
        self.model = model

    def open(self, prompt: str, images: Sequence[bytes] = ()) -> HfDraftSession:
        return HfDraftSession(Answer(self.model, self.model.prepare(prompt, images)))


class HfDraftSession:
    """One prompt on the draft model; satisfies `interfaces.DraftSession`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
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
            self._newest = logits[-1], len(tokens), sampling
            tokens.append(self._answer.model.choose(logits, len(tokens), sampling)[0])
            yield tokens[-1]

    def _sampled(
        self, tokens: list[int], rows: Iterator[torch.Tensor], sampling: Sampling
    ) -> Iterator[DraftedToken]:
        for logits in rows:
            drafted = draft_token(logits[0].float().cpu().numpy(), len(tokens), sampling)
            tokens.append(drafted.token)
            yield drafted

    def _rows(self, tokens: list[int]) -> Iterator[torch.Tensor]:
        """Logits (1, vocabulary) of what follows `tokens`, to which the caller adds one before asking on."""
        self._turn += 1
        return self._logits(tokens, self._turn)

    def _logits(self, tokens: list[int], turn: int) -> Iterator[torch.Tensor]:
        model = self._answer.model
        room = model.context - len(self._answer.prompt.ids)
        while (
            turn == self._turn and len(tokens) <= room and not (tokens and tokens[-1] in model.text.eos_ids)
        ):
            yield self._answer.logits(tokens, 1)

    @property
    def runner_up(self) -> tuple[int, float] | None:
        if self._newest is None:
            return None
        logits, position, sampling = self._newest
        return runner_up(logits.float().cpu().numpy(), position, sampling)

    def close(self) -> None:
        self._turn += 1
        self._answer.close()
