"""The target model as a verifier: many positions judged in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spec_decode_ros.models.hf_model import Answer, HfModel
from spec_decode_ros.models.text import TextSide

if TYPE_CHECKING:
    from spec_decode_ros.decoding.messages import Sampling


class HfVerifier(TextSide):
    """A checkpoint that says what it would have chosen itself; satisfies `interfaces.Verifier`."""

    def __init__(self, model: HfModel) -> None:
        super().__init__(model.text)
        self.model = model

    def prepare(self, prompt: str, images: Sequence[bytes] = ()) -> HfVerifySession:
        return HfVerifySession(Answer(self.model, self.model.prepare(prompt, images)))


class HfVerifySession:
    """One prompt on the target; satisfies `interfaces.VerifySession`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt in tokens, image included."""
        return len(self._answer.prompt.ids)

    def verify(self, committed: Sequence[int], draft: Sequence[int], sampling: Sampling) -> tuple[int, ...]:
        logits = self._answer.logits([*committed, *draft], len(draft) + 1)
        return self._answer.model.choose(logits, len(committed), sampling)

    def close(self) -> None:
        self._answer.close()
