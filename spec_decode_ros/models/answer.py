"""An answer that grows, on a cache that is kept at what the next pass has in common with the last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from spec_decode_ros.decoding.tree import Tree, ancestors
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.decoder import NOBODY, AfterLayer

if TYPE_CHECKING:
    from spec_decode_ros.models.hf_model import HfModel
    from spec_decode_ros.models.prompts import Prompt

NO_TREE = Tree()


@dataclass(frozen=True)
class SequenceInput:
    """What one answer puts into a pass.

    Attributes:
        answer: whose it is; its cache holds `past` tokens.
        read: how many tokens of the prompt come first.
        ids: the tokens after these, and their `positions`.
        keep: how many of the last tokens logits are wanted for.
        tokens: the answer as far as the cache holds it after the pass, and the `tree` behind it.
    """

    answer: CachedSequence
    past: int
    read: int
    ids: list[int]
    positions: list[int]
    keep: int
    tokens: list[int]
    tree: Tree = NO_TREE

    @property
    def new(self) -> int:
        """How many tokens it puts in."""
        return self.read + len(self.ids)

    @property
    def seen(self) -> torch.Tensor | None:
        """Which nodes of the tree each of them sees."""
        return torch.from_numpy(ancestors(self.tree)) if self.tree else None


class CachedSequence:
    """The cache of one prompt and one answer, kept at what the next pass has in common with the last."""

    def __init__(self, model: HfModel, prompt: Prompt) -> None:
        self.model = model
        self.prompt = prompt
        self._cache: Any = None
        self._cached: list[int] = []
        self._tree = NO_TREE  # what the cache holds behind `_cached`
        self._length = 0

    @property
    def unread(self) -> int:
        """How many tokens of the prompt the cache does not hold yet."""
        return max(0, len(self.prompt.ids) - self._length)

    def logits(
        self,
        answer: Sequence[int],
        keep: int,
        tree: Tree = NO_TREE,
        after_layer: AfterLayer = NOBODY,
    ) -> torch.Tensor:
        """Logits (keep, vocabulary) that follow the last `keep` tokens of prompt, `answer` and `tree`.

        Tokens outside the vocabulary stand for token 0: they can never be chosen, so what follows them is never used.
        What `after_layer` calls gets the hidden states (keep, width) of the same tokens as the pass goes on.
        """
        return self._run(self.plan(answer, keep, tree), after_layer)

    def read(self, count: int) -> None:
        """Take in the next `count` tokens of the prompt, fewer where it ends."""
        if self.unread:
            self._run(self.plan_reading(count), NOBODY)

    def _run(self, addition: SequenceInput, after_layer: AfterLayer) -> torch.Tensor:
        try:
            logits = self.model.run(addition, after_layer)
        except BaseException:
            self.close()  # a pass that broke off may leave the layers at different lengths
            raise
        self.hold(addition)
        return logits

    def plan(self, answer: Sequence[int], keep: int, tree: Tree = NO_TREE) -> SequenceInput:
        """What `logits` has to compute. The cache now holds what comes before it; after the pass call `hold`.

        Raises SpecDecodeError where prompt and answer exceed the context, or there is no memory for them.
        """
        tokens = self._known(answer)
        begin = len(self.prompt.ids)
        # The tokens whose outputs are asked for go through the model in any case.
        length = begin + len(tokens) + len(tree)
        past = self._settle(tokens, tree.height, length - keep)
        self.model.decoder.make_room(self._cache, past, length)
        return self._addition(tokens, tree, past, keep)

    def plan_reading(self, count: int) -> SequenceInput:
        """As `plan`, for `read`."""
        past = self._settle([], 0, self._length)
        count = min(count, len(self.prompt.ids) - past)
        self.model.decoder.make_room(self._cache, past, past + count)
        return SequenceInput(self, past, count, [], [], 0, [])

    def hold(self, addition: SequenceInput) -> None:
        """The pass with this addition is over."""
        self._cached, self._tree = addition.tokens, addition.tree
        self._length = addition.past + addition.new

    @property
    def cache(self) -> Any:
        """What the next pass writes to."""
        return self._cache

    def shallow(
        self, answer: Sequence[int], depth: int, read: Callable[[torch.Tensor, int], int | None], count: int
    ) -> list[int]:
        """Up to `count` tokens that follow `answer`, written one by one with the first `depth` layers only.

        The cache holds afterwards what a full pass has put there, as if nothing had been written. Ends early with an
        end token, and where the context is full.

        Args:
            read: makes a token of hidden states (1, width) and of its position in the answer, or None to stop.
        """
        tokens = self._known(answer)
        start, begin = len(tokens), len(self.prompt.ids)
        settled = past = self._settle(tokens, 0, begin + start - 1)
        decoder = self.model.decoder
        try:
            while len(tokens) - start < count and begin + len(tokens) <= self.model.context:
                with torch.inference_mode():
                    inputs = self.model.inputs([self._addition(tokens, NO_TREE, past, 1)])
                    hidden = decoder.run(*inputs, self._cache, past, depth=depth)
                past = begin + len(tokens)
                token = read(hidden[0, -1:], len(tokens))
                if token is None:
                    break
                tokens.append(token)
                if token in self.model.text.eos_ids:
                    break
            with torch.inference_mode():
                decoder.roll_back(self._cache, past, settled, depth)
        except BaseException:
            self.close()
            raise
        return tokens[start:]

    def _settle(self, tokens: list[int], further: int, most: int) -> int:
        """Forget what the cache does not share with `tokens`, and what is behind `most`; how many tokens it then holds.

        Raises SpecDecodeError where the prompt, `tokens` and `further` ones exceed the context.
        """
        if self._tree:
            self._keep_branch(tokens)
        begin = len(self.prompt.ids)
        if begin + len(tokens) + further > self.model.context:
            raise SpecDecodeError(
                f"Prompt and answer are longer than the model's context of {self.model.context} tokens: shorten the "
                "instruction or send a smaller image."
            )
        common = 0
        for cached, token in zip(self._cached, tokens, strict=False):
            if cached != token:
                break
            common += 1
        past = min(self._length, begin + common, most)
        self._roll_back(past)
        self._cached, self._length = self._cached[: max(0, past - begin)], past
        return past

    def _known(self, tokens: Sequence[int]) -> list[int]:
        """The tokens, token 0 in place of those outside the vocabulary."""
        size = self.model.text.size
        return [token if 0 <= token < size else 0 for token in tokens]

    @torch.inference_mode()
    def _keep_branch(self, tokens: list[int]) -> None:
        """Of the tree that the cache holds, keep the branch that the answer `tokens` follows, as if it was a draft."""
        start = len(self._cached)
        nodes = self._tree.follow(tokens[start:])
        first = len(self.prompt.ids) + start
        if nodes != tuple(range(len(nodes))):
            self.model.decoder.move_up(self._cache, first, nodes)
        self.model.decoder.roll_back(self._cache, self._length, first + len(nodes))
        self._cached = [*self._cached, *tokens[start : start + len(nodes)]]
        self._tree, self._length = NO_TREE, first + len(nodes)

    def _addition(self, tokens: list[int], tree: Tree, past: int, keep: int) -> SequenceInput:
        """Everything behind the first `past` tokens of prompt, answer and tree."""
        begin, following = len(self.prompt.ids), self.prompt.next_position
        start, end = max(past - begin, 0), following + len(tokens)
        return SequenceInput(
            self,
            past,
            max(begin - past, 0),
            [*tokens[start:], *self._known(tree.tokens)],
            [*range(following + start, end), *(end + depth for depth in tree.depths)],
            keep,
            tokens,
            tree,
        )

    def _roll_back(self, length: int) -> None:
        """Forget everything behind the first `length` tokens."""
        if self._cache is None or length == 0:
            self.close()
            self._cache = self.model.decoder.new_cache()
        elif length < self._length:
            self.model.decoder.roll_back(self._cache, self._length, length)

    def close(self) -> None:
        """Free the cache; a later call to `logits` begins again."""
        if self._cache is not None:
            self.model.decoder.free(self._cache)
        self._cache, self._cached, self._tree, self._length = None, [], NO_TREE, 0
