"""The target model as a verifier: many positions judged in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spec_decode_ros.decoding.distribution import Distribution, warped
from spec_decode_ros.decoding.tree import Tree
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.answer import CachedSequence
from spec_decode_ros.models.decoders import NOBODY
from spec_decode_ros.models.exits import ExitFigures, Exits, layer_count
from spec_decode_ros.models.hf_model import HfModel, HfSide
from spec_decode_ros.models.interfaces import Choices, ForwardInput, OnEarly, SelfDrafting, VerifySession
from spec_decode_ros.models.packed_pass import verify_packed
from spec_decode_ros.models.together import verify_one_by_one

if TYPE_CHECKING:
    from spec_decode_ros.decoding.messages import Sampling


class HfVerifier(HfSide):
    """A checkpoint that says what it would have chosen itself; satisfies `interfaces.Verifier`."""

    def __init__(self, model: HfModel, exits: Exits | None = None) -> None:
        super().__init__(model)
        self._exits = exits

    @property
    def exits(self) -> tuple[ExitFigures, ...]:
        """The target's early exits, in the order in which a pass comes through them; often none."""
        return self._exits.figures if self._exits else ()

    @property
    def self_drafting(self) -> SelfDrafting | None:
        if not (self._exits and self._exits.figures and self.model.decoder.stops_early):
            return None
        best = self._exits.drafting
        return SelfDrafting((best.layer + 1) / layer_count(self.model), best.agreement)

    @property
    def can_verify_trees(self) -> bool:
        """Whether `verify_tree` works with this checkpoint: not with sliding windows, recurrent layers or ALiBi."""
        return self.model.decoder.takes_trees

    def prepare(self, prompt: str, images: Sequence[bytes] = ()) -> HfVerifySession:
        return HfVerifySession(CachedSequence(self.model, self.model.prepare(prompt, images)), self._exits)

    def prepare_many(
        self, prompts: Sequence[tuple[str, Sequence[bytes]]]
    ) -> Sequence[VerifySession | Exception]:
        return [
            made
            if isinstance(made, Exception)
            else HfVerifySession(CachedSequence(self.model, made), self._exits)
            for made in self.model.prepare_many(prompts)
        ]

    def verify_many(self, parts: Sequence[ForwardInput]) -> Sequence[Choices | Exception]:
        if len(parts) > 1 and self.model.packs:
            return verify_packed(self.model, self._exits, parts)
        return verify_one_by_one(parts)


class HfVerifySession:
    """One prompt on the target; satisfies `interfaces.VerifySession`."""

    def __init__(self, answer: CachedSequence, exits: Exits | None = None) -> None:
        self.answer = answer
        self._exits = exits

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt in tokens, image included."""
        return len(self.answer.prompt.ids)

    @property
    def answer_room(self) -> int:
        return self.answer.model.context - self.prompt_tokens

    @property
    def unread(self) -> int:
        return self.answer.unread

    def read(self, count: int) -> None:
        """Take in the next `count` of the `unread` tokens."""
        self.answer.read(count)

    def verify(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        sampling: Sampling,
        on_early: OnEarly | None = None,
    ) -> tuple[int, ...]:
        first = len(committed)
        watch = self._exits.watch(first, sampling, on_early) if on_early and self._exits else NOBODY
        logits = self.answer.logits([*committed, *draft], len(draft) + 1, after_layer=watch)
        return self.answer.model.choose(logits, first, sampling)

    def distributions(
        self, committed: Sequence[int], draft: Sequence[int], sampling: Sampling
    ) -> tuple[Distribution, ...]:
        logits = self.answer.logits([*committed, *draft], len(draft) + 1)
        return tuple(warped(row, sampling) for row in logits.float().cpu().numpy())

    @property
    def can_verify_trees(self) -> bool:
        return self.answer.model.decoder.takes_trees

    def verify_tree(self, committed: Sequence[int], tree: Tree, sampling: Sampling) -> tuple[int, ...]:
        if not self.can_verify_trees:
            raise SpecDecodeError(
                "This target's attention cannot take a token tree in one pass: send drafts without branches."
            )
        if tree.is_line:
            return self.verify(committed, tree.tokens, sampling)
        logits = self.answer.logits(committed, len(tree) + 1, tree)
        start = len(committed)
        positions = [start, *(start + 1 + depth for depth in tree.depths)]
        return self.answer.model.choose_at(logits, positions, sampling)

    def self_draft(self, committed: Sequence[int], count: int, sampling: Sampling) -> tuple[int, ...]:
        exits = self._exits
        if not (exits and exits.figures and self.answer.model.decoder.stops_early):
            raise SpecDecodeError(
                "This target cannot draft for itself: train early exits for it with `spec-decode train-exits`, or give "
                "the server a draft model."
            )
        layer = exits.drafting.layer
        tokens = self.answer.shallow(
            committed,
            layer + 1,
            lambda hidden, position: exits.choose(layer, hidden, position, sampling),
            count,
        )
        return tuple(tokens)

    def close(self) -> None:
        self.answer.close()
