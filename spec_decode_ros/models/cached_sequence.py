"""KV-cached sequences: one prompt and its growing answer, on a cache that is kept as far as the next pass can use it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from spec_decode_ros.decoding.tree import Tree, path
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.decoder import NO_HOOKS, LayerHooks
from spec_decode_ros.models.hf_model import NO_TREE, HfModel, Prompt, SequenceInput
from spec_decode_ros.models.interfaces import try_each
from spec_decode_ros.models.structured_outputs import Bitmask, only_token

_log = logging.getLogger(__name__)


class CachedSequence:
    """The KV cache of one prompt and one answer.

    A pass is planned with `plan` or `plan_prefill`, run by the model, and then taken note of with `passed`.
    """

    def __init__(self, model: HfModel, prompt: Prompt) -> None:
        self.model = model
        self.prompt = prompt
        self._cache: Any = None
        self._answer: list[int] = []  # as far as the cache holds it
        self._tree = NO_TREE  # what the cache holds behind that
        self._length = 0
        self._matcher = model.grammar.matcher() if model.grammar else None
        self._planned: tuple[list[int], Tree, int] = ([], NO_TREE, 0)  # the same three after the planned pass

    @property
    def not_prefilled(self) -> int:
        """How many tokens of the prompt the cache does not hold yet."""
        return max(0, len(self.prompt.ids) - self._length)

    def logits(
        self, answer: Sequence[int], keep: int, tree: Tree = NO_TREE, hooks: LayerHooks = NO_HOOKS
    ) -> torch.Tensor:
        """Logits (keep, vocabulary) that follow the last `keep` tokens of prompt, `answer` and `tree`, in a pass alone."""
        planned = self.plan(answer, keep, tree)
        try:
            logits = self.model.run([planned], hooks)
        except BaseException:
            self.close()  # a pass that broke off may leave the layers at different lengths
            raise
        self.passed()
        return logits

    def forced_token(self, answer: Sequence[int]) -> int | None:
        """The one token that the grammar lets follow `answer`; None if there are several, or no grammar."""
        return only_token(self._matcher.bitmask([answer])[0]) if self._matcher else None

    def plan(self, answer: Sequence[int], keep: int, tree: Tree = NO_TREE) -> SequenceInput:
        """The input of a pass for logits after the last `keep` tokens of prompt, `answer` and `tree`.

        Tokens outside the vocabulary stand for token 0: they can never be chosen, so what follows them is never used.
        Raises SpecDecodeError where prompt and answer exceed the context, or there is no memory for them.
        """
        tokens, begin = self._known(answer), len(self.prompt.ids)
        # The tokens whose logits are asked for go through the model in any case.
        length = begin + len(tokens) + len(tree)
        past = self._keep_common(tokens, tree.height, length - keep)
        self.model.decoder.make_room(self._cache, past, length)
        self._planned = (tokens, tree, length)
        return self._input(tokens, tree, past, keep)

    def plan_prefill(self, count: int) -> SequenceInput:
        """The input of a pass that prefills the next `count` tokens of the prompt, fewer where it ends."""
        past = self._keep_common([], 0, self._length)
        count = min(count, len(self.prompt.ids) - past)
        self.model.decoder.make_room(self._cache, past, past + count)
        self._planned = ([], NO_TREE, past + count)
        return SequenceInput(self.prompt, self._cache, past, count)

    def passed(self) -> None:
        """The planned pass was made."""
        self._answer, self._tree, self._length = self._planned

    def draft_early(
        self,
        answer: Sequence[int],
        depth: int,
        choose: Callable[[torch.Tensor, int, Bitmask | None], int | None],
        count: int,
    ) -> list[int]:
        """Up to `count` tokens that follow `answer`, drafted one by one with the first `depth` layers only.

        The cache holds afterwards what a full pass has put there, as if nothing had been drafted. Ends early with an
        end token, and where the context is full.

        Args:
            choose: makes a token of hidden states (1, width), of its position in the answer and of the tokens that its
                grammar allows, or None to stop.
        """
        tokens = self._known(answer)
        start, begin = len(tokens), len(self.prompt.ids)
        kept = past = self._keep_common(tokens, 0, begin + start - 1)
        decoder = self.model.decoder
        try:
            with torch.inference_mode():
                while len(tokens) - start < count and begin + len(tokens) <= self.model.context:
                    token = self.forced_token(tokens)
                    if token is None:
                        planned = self._input(tokens, NO_TREE, past, 1)
                        hidden = decoder.run(*self.model.embed([planned]), [planned.segment], depth=depth)
                        past = begin + len(tokens)
                        token = choose(hidden[0, -1:], len(tokens), planned.bitmask)
                    if token is None:
                        break
                    tokens.append(token)
                    if token in self.model.text.eos_ids:
                        break
                decoder.roll_back(self._cache, past, kept, depth)
        except BaseException:
            self.close()
            raise
        return tokens[start:]

    def close(self) -> None:
        """Free the cache; a later call begins again."""
        if self._cache is not None:
            self.model.decoder.free(self._cache)
        self._cache, self._answer, self._tree, self._length = None, [], NO_TREE, 0

    def _keep_common(self, tokens: list[int], further: int, most: int) -> int:
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
        for cached, token in zip(self._answer, tokens, strict=False):
            if cached != token:
                break
            common += 1
        past = min(self._length, begin + common, most)
        if self._cache is None or past == 0:
            self.close()
            self._cache = self.model.decoder.new_cache()
        elif past < self._length:
            self.model.decoder.roll_back(self._cache, self._length, past)
        self._answer, self._length = self._answer[: max(0, past - begin)], past
        return past

    @torch.inference_mode()
    def _keep_branch(self, tokens: list[int]) -> None:
        """Of the tree that the cache holds, keep the branch that the answer `tokens` follows."""
        start = len(self._answer)
        nodes = self._tree.follow(tokens[start:])
        first = len(self.prompt.ids) + start
        if nodes != tuple(range(len(nodes))):
            self.model.decoder.move_up(self._cache, first, nodes)
        self.model.decoder.roll_back(self._cache, self._length, first + len(nodes))
        self._answer = [*self._answer, *tokens[start : start + len(nodes)]]
        self._tree, self._length = NO_TREE, first + len(nodes)

    def _input(self, tokens: list[int], tree: Tree, past: int, keep: int) -> SequenceInput:
        """Everything behind the first `past` tokens of prompt, answer and tree."""
        begin, following = len(self.prompt.ids), self.prompt.next_position
        start, end = max(past - begin, 0), following + len(tokens)
        ids = [*tokens[start:], *self._known(tree.tokens)]
        positions = [*range(following + start, end), *(end + depth for depth in tree.depths)]
        bitmask = self._bitmask(tokens, tree, keep)
        prefill = max(begin - past, 0)
        return SequenceInput(self.prompt, self._cache, past, prefill, ids, positions, keep, tree, bitmask)

    def _bitmask(self, tokens: list[int], tree: Tree, keep: int) -> Bitmask | None:
        """What may be chosen after the last `keep` tokens of prompt, answer and tree; None for anything."""
        if self._matcher is None:
            return None
        if tree:
            branches = ([tree.tokens[node] for node in path(tree, end)] for end in range(len(tree)))
            return self._matcher.bitmask([tokens, *([*tokens, *branch] for branch in branches)])
        first = len(tokens) + 1 - keep
        return self._matcher.bitmask(tokens[: max(0, first + row)] for row in range(keep))

    def _known(self, tokens: Sequence[int]) -> list[int]:
        """The tokens, token 0 in place of those outside the vocabulary."""
        size = self.model.text.size
        return [token if 0 <= token < size else 0 for token in tokens]


def logits_after(
    model: HfModel, requests: Sequence[tuple[CachedSequence, Sequence[int]]]
) -> list[torch.Tensor | Exception]:
    """Logits (1, vocabulary) that follow each of several answers, in one pass where the model packs."""
    if len(requests) > 1 and model.packs:
        planned = try_each(lambda request: request[0].plan(request[1], 1), requests)
        inputs = [each for each in planned if isinstance(each, SequenceInput)]
        try:
            rows = iter(model.run(inputs).split(1) if inputs else ())
        except Exception:
            _log.warning(
                "A pass over %d drafts broke off; each gets one of its own.", len(requests), exc_info=True
            )
        else:
            for each, (sequence, _) in zip(planned, requests, strict=True):
                if isinstance(each, SequenceInput):
                    sequence.passed()
            return [each if isinstance(each, Exception) else next(rows) for each in planned]
    return try_each(lambda request: request[0].logits(request[1], 1), requests)
