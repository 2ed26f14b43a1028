"""Prepared branches: short drafts after the draft model's second choice, made on the edge while it waits.

A draft is most often wrong where its model hesitated, and then the target's token is mostly the model's second choice. A
rejection that lands on one is then a look-up (AceSpec, arXiv 2609.02514). An early place is reached by more passes than a
late one, so early places come first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from spec_decode_ros.decoding.messages import MAX_BRANCH_NODES
from spec_decode_ros.decoding.tree import Tree, merge

SecondChoice = tuple[int, float]
"""The draft model's second choice in a place, and the probability that it gives to it."""

BRANCH_TOKENS = 4
"""Tokens that are drafted after a second choice."""

Text = tuple[int, ...]


class PreparedBranches:
    """The branches of one action, by the text that they continue.

    Args:
        most: how many places are prepared at a time; 0 for none.
        max_tokens: longest answer.
        eos: tokens that end an answer.
    """

    def __init__(self, most: int, max_tokens: int, eos: Collection[int]) -> None:
        self.used = 0
        self._most = most
        self._max_tokens = max_tokens
        self._eos = eos
        self._second_choices: dict[Text, SecondChoice] = {}
        self._prepared: dict[Text, list[int]] = {}
        self._place: Text | None = None  # the text after which a branch is being drafted

    @property
    def drafting(self) -> bool:
        """Whether a branch is being drafted."""
        return self._place is not None

    def note(self, text: Text, second: SecondChoice | None) -> None:
        """The draft model's second choice after `text`."""
        if self._most and second is not None and second[0] not in self._eos:
            self._second_choices[text] = second

    def begin(self, committed: Text, draft: Text) -> tuple[Text, int] | None:
        """Begin the next branch: the text to draft after, and how many tokens; None if nothing is to be begun."""
        if self._place is not None:
            if self._place[: len(committed)] == committed:
                return None
            self._place = None
        place = self._likeliest(committed, draft) if self._most else None
        if place is None or len(place) + 1 >= self._max_tokens:
            return None
        self._place = place
        self._prepared[place] = []
        return place, self._budget(place)

    def append(self, token: int, second: SecondChoice | None) -> bool:
        """Add one token to the branch that is being drafted; whether it is complete."""
        assert self._place is not None
        tokens = self._prepared[self._place]
        self.note((*self._place, *tokens), second)
        tokens.append(token)
        return token in self._eos or len(tokens) >= self._budget(self._place)

    def stop(self) -> None:
        """Nothing is drafted for a branch any more."""
        self._place = None

    def take(self, answer: Text) -> Text:
        """What is prepared after `answer`, to be used now; often nothing."""
        tokens = tuple(self._prepared.get(answer, ()))
        self.used += bool(tokens)
        return tokens

    def forget(self, committed: Text) -> None:
        """Drop what no longer continues the committed tokens."""
        for known in (self._second_choices, self._prepared):
            for text in [text for text in known if text[: len(committed)] != committed[: len(text)]]:
                del known[text]

    def tree(self, committed: Sequence[int]) -> Tree:
        """The branches that continue the committed tokens."""
        start = tuple(committed)
        lines = [
            (*text, *tokens)[len(start) :]
            for text, tokens in self._prepared.items()
            if len(text) > len(start) and text[: len(start)] == start
        ]
        return merge(lines, MAX_BRANCH_NODES)

    def _budget(self, place: Text) -> int:
        return min(BRANCH_TOKENS, self._max_tokens - len(place) - 1)

    def _likeliest(self, committed: Text, draft: Text) -> Text | None:
        """The likeliest rejection for which nothing is prepared: a text that ends with a second choice.

        Its chance is that all draft tokens before it are right and it is the second choice.
        """
        texts: list[tuple[float, Text]] = []
        reached = 1.0
        for count in range(len(draft)):
            text = committed + draft[:count]
            token, chance = self._second_choices.get(text, (draft[count], 0.0))
            if token != draft[count]:
                texts.append((reached * chance, (*text, token)))
            reached *= 1.0 - chance
        likeliest = sorted(texts, key=lambda item: -item[0])[: self._most]
        return next((text for _, text in likeliest if text not in self._prepared), None)
