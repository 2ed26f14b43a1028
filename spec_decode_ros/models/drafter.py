"""The draft model: answer tokens one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from spec_decode_ros.models.hf_model import Answer, HfModel
from spec_decode_ros.models.text import TextSide

if TYPE_CHECKING:
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

    def draft(self, prefix: Sequence[int], sampling: Sampling) -> Iterator[int]:
        self._turn += 1
        return self._tokens(list(prefix), sampling, self._turn)

    def _tokens(self, tokens: list[int], sampling: Sampling, turn: int) -> Iterator[int]:
        model = self._answer.model
        room = model.context - len(self._answer.prompt.ids)
        while (
            turn == self._turn and len(tokens) <= room and not (tokens and tokens[-1] in model.text.eos_ids)
        ):
            logits = self._answer.logits(tokens, 1)
            tokens.append(model.choose(logits, len(tokens), sampling)[0])
            yield tokens[-1]

    def close(self) -> None:
        self._turn += 1
        self._answer.close()
