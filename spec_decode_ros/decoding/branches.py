"""What the edge prepares for corrections that may come: short drafts after a runner-up in the place of a drafted token.

A draft is most often wrong where its model hesitated, and then the target's token is mostly the model's second choice.
While the edge waits it drafts on after such second choices, so that a rejection which lands on one is a look-up
(AceSpec). An early place is reached by more verdicts than a late one, so early places come first.
"""

from __future__ import annotations

from collections.abc import Sequence

from spec_decode_ros.decoding.messages import MOST_BRANCH_NODES
from spec_decode_ros.decoding.tree import Tree, merge

RunnerUp = tuple[int, float]
"""The draft model's second choice in a place, and the probability that it gives to it."""

LENGTH = 4
"""Tokens that are drafted after a runner-up."""

Text = tuple[int, ...]


class Branches:
    """The prepared branches of one action, by the text that they continue; at most `most` at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._runners_up: dict[Text, RunnerUp] = {}
        self._prepared: dict[Text, list[int]] = {}

    def note(self, text: Text, runner_up: RunnerUp) -> None:
        """The draft model's second choice after `text`."""
        self._runners_up[text] = runner_up

    def place(self, committed: Text, draft: Text) -> Text | None:
        """The likeliest correction for which nothing is prepared: a text that ends with a runner-up.

        The chance of a correction is that all drafted tokens before it are right and it is the runner-up.
        """
        texts: list[tuple[float, Text]] = []
        reached = 1.0
        for count in range(len(draft)):
            text = committed + draft[:count]
            token, chance = self._runners_up.get(text, (draft[count], 0.0))
            if token != draft[count]:
                texts.append((reached * chance, (*text, token)))
            reached *= 1.0 - chance
        likeliest = sorted(texts, key=lambda item: -item[0])[: self._most]
        return next((text for _, text in likeliest if text not in self._prepared), None)

    def begin(self, text: Text) -> None:
        """Nothing is drafted after `text` yet, but it is being done."""
        self._prepared[text] = []

    def extend(self, text: Text, token: int) -> None:
        """One more token is drafted after `text` and what was drafted there."""
        self._prepared[text].append(token)

    def after(self, text: Text) -> Text:
        """What is prepared after `text`; often nothing."""
        return tuple(self._prepared.get(text, ()))

    def forget(self, committed: Text) -> None:
        """Drop what no longer continues the committed tokens."""
        for known in (self._runners_up, self._prepared):
            for text in [text for text in known if text[: len(committed)] != committed[: len(text)]]:
                del known[text]

    def tree(self, committed: Sequence[int]) -> Tree:
        """The branches that continue the committed tokens."""
        start = tuple(committed)
        return merge(
            [
                (*text, *tokens)[len(start) :]
                for text, tokens in self._prepared.items()
                if len(text) > len(start) and text[: len(start)] == start
            ],
            MOST_BRANCH_NODES,
        )
