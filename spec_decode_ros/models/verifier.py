"""The target model as a verifier: many positions judged in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.cached_sequence import CachedSequence
from spec_decode_ros.models.exits import Exits
from spec_decode_ros.models.forward_pass import forward
from spec_decode_ros.models.hf_model import HfModel, HfSide
from spec_decode_ros.models.interfaces import (
    Choices,
    ExitFigures,
    ForwardInput,
    PromptWithImages,
    SelfDrafting,
    Verifier,
    VerifySession,
    only,
)
from spec_decode_ros.models.prompts import prepare_many


class HfVerifier(HfSide, Verifier):
    """A checkpoint that says what it would have chosen itself."""

    def __init__(self, model: HfModel, exits: Exits | None = None) -> None:
        super().__init__(model)
        self.early_exits = exits

    @property
    def dtype(self) -> str:
        """The precision of the weights as they were loaded, such as `float32`."""
        return str(self.model.model.dtype).removeprefix("torch.")

    @property
    def exits(self) -> tuple[ExitFigures, ...]:
        return self.early_exits.figures if self.early_exits else ()

    @property
    def self_drafting(self) -> SelfDrafting | None:
        if not (self.early_exits and self.exits and self.model.decoder.stops_early):
            return None
        best = self.early_exits.drafting
        return SelfDrafting((best.layer + 1) / self.model.layer_count, best.agreement)

    @property
    def can_verify_trees(self) -> bool:
        """Not with sliding windows, recurrent layers or ALiBi."""
        return self.model.decoder.takes_trees

    def prepare(self, prompt: str, images: Sequence[bytes] = ()) -> HfVerifySession:
        return only(self.prepare_many([(prompt, images)]))

    def prepare_many(self, prompts: Sequence[PromptWithImages]) -> list[HfVerifySession | Exception]:
        return [
            made if isinstance(made, Exception) else HfVerifySession(self, CachedSequence(self.model, made))
            for made in prepare_many(self.model, prompts)
        ]

    def verify_many(self, inputs: Sequence[ForwardInput]) -> list[Choices | Exception]:
        return forward(self.model, self.early_exits, inputs)


class HfVerifySession(VerifySession):
    """One prompt on the target."""

    def __init__(self, verifier: HfVerifier, sequence: CachedSequence) -> None:
        self.verifier: HfVerifier = verifier
        self.sequence = sequence

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt in tokens, image included."""
        return len(self.sequence.prompt.ids)

    @property
    def answer_room(self) -> int:
        return self.sequence.model.context - self.prompt_tokens

    @property
    def not_prefilled(self) -> int:
        return self.sequence.not_prefilled

    def self_draft(self, committed: Sequence[int], count: int, sampling: Sampling) -> tuple[int, ...]:
        exits = self.verifier.early_exits
        if exits is None or self.verifier.self_drafting is None:
            raise SpecDecodeError(
                "This target cannot draft for itself: train early exits for it with `spec-decode train-exits`, or give "
                "the server a draft model."
            )
        layer = exits.drafting.layer
        choose = partial(exits.choose, layer, sampling=sampling)
        return tuple(self.sequence.draft_early(committed, layer + 1, choose, count))

    def jump_forward(self, committed: Sequence[int]) -> tuple[int, ...]:
        answer = list(committed)
        while (token := self.sequence.forced_token(answer)) is not None and len(answer) < self.answer_room:
            answer.append(token)
        return tuple(answer[len(committed) :])

    def close(self) -> None:
        self.sequence.close()
