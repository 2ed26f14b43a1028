"""What may follow the committed tokens of one action: the edge's drafts and branches, and the server's own draft.

Of all that was proposed the cloud's pass is over the best, and over others beside it where the target takes trees. None of
this changes the answer, as every token of it is verified.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from spec_decode_ros.decoding.acceptance import (
    Hint,
    accepted_length,
    best_rest,
    exact_rest,
    other_rests,
    until_end,
)
from spec_decode_ros.decoding.messages import Branches, Fate
from spec_decode_ros.decoding.tree import Tree, fates_along, merge

_HINTS_KEPT = 8


class Proposals:
    """The proposals for one action.

    Args:
        eos: tokens that end an answer.
        nodes: where drafts disagree, so many tokens of the others may stand in a pass beside the best one.
        wild: how many tokens of drafts that were wrong before may stand in a pass, as a guess at what follows.
    """

    def __init__(self, eos: Collection[int], nodes: int, wild: int) -> None:
        self._eos = eos
        self._nodes = nodes
        self._wild = wild
        self._hints: list[Hint] = []  # newest last
        self._branches: Branches | None = None
        self._aside: list[Hint] = []  # these branches, one by one
        self.line: tuple[int, ...] = ()
        """The draft under the pass that runs."""
        self.tree = Tree()
        """All that this pass is over: that draft, and others where they disagree with it."""
        self.guessed = Tree()
        """What of it came from the edge."""
        self.own_judged = (0, 0)
        """Of the tokens that the server drafted by itself: how many the target looked at one by one, and accepted."""
        self.wild_judged = (0, 0)
        """The same of tokens from drafts that were wrong before."""
        self._own_tried: tuple[int, ...] = ()
        self._wild_from = 0  # where in the line tokens of drafts begin that were wrong before

    # ---- what was proposed ---------------------------------------------------------------------------------

    def open(self, position: int, draft: Sequence[int]) -> None:
        """A guess at the answer that came with the frame; whatever has come before is newer."""
        self._hints.insert(0, Hint(position, until_end(draft, self._eos)))

    def keep(self, position: int, tokens: Sequence[int], round: int) -> None:
        """Remember a draft; of two from the same place, one the beginning of the other, only the longer."""
        hint = Hint(position, until_end(tokens, self._eos), round)
        for index, known in enumerate(self._hints):
            shorter = min(len(known.tokens), len(hint.tokens))
            if known.position == hint.position and known.tokens[:shorter] == hint.tokens[:shorter]:
                if len(hint.tokens) <= len(known.tokens):
                    return
                del self._hints[index]
                break
        self._hints = [*self._hints, hint][-_HINTS_KEPT:]

    def keep_branches(self, message: Branches) -> bool:
        """Remember branches, unless they are older than those that are known; whether they are remembered."""
        newest = self._branches
        if newest is not None and (message.position, len(message.tokens)) <= (
            newest.position,
            len(newest.tokens),
        ):
            return False
        self._branches = message
        self._aside = [
            Hint(message.position, until_end(line, self._eos), message.round) for line in message.lines
        ]
        return True

    # ---- what a pass is over -------------------------------------------------------------------------------

    def best(self, committed: Sequence[int], wildly: bool) -> tuple[int, ...]:
        """The edge's most promising draft of what follows; `wildly`: also from drafts that were wrong before."""
        rest = exact_rest(self._hints, committed)
        if not rest and (rest := exact_rest(self._aside, committed)):
            return until_end(rest, self._eos)
        if wildly:
            rest = best_rest(self._hints, committed)[: len(rest) + self._wild]
        return until_end(rest, self._eos)

    def lay_out(
        self,
        committed: Sequence[int],
        longest: int,
        wildly: bool,
        own: tuple[int, ...] = (),
    ) -> None:
        """Choose what the pass is over, from the edge's proposals and the server's `own` draft."""
        own = own[:longest]
        rest = self.best(committed, wildly)[:longest]
        self.line = rest or own
        self._own_tried = () if rest else own
        self._wild_from = len(exact_rest(self._hints, committed) or exact_rest(self._aside, committed))
        others = self._others(committed, longest) if self.line else []
        self.tree = merge([self.line, own, *others], len(self.line) + self._nodes)
        if self.tree.is_line:
            self.tree, others = Tree.line(self.line), []
        tried = [branch[: len(self.tree.follow(branch))] for branch in (rest, *others)]
        self.guessed = merge(tried, len(self.tree))

    def _others(self, committed: Sequence[int], longest: int) -> list[tuple[int, ...]]:
        if not self._nodes:
            return []
        rests = other_rests([*self._aside, *self._hints], committed)
        return [until_end(rest, self._eos)[:longest] for rest in rests]

    # ---- what has become of it -----------------------------------------------------------------------------

    def judge(self, tokens: Sequence[int]) -> tuple[Fate, ...]:
        """The pass has committed these tokens; their fates, for which the server's own drafts do not count."""
        self.own_judged = _more(self.own_judged, self._own_tried, tokens)
        start = self._wild_from
        if not self._own_tried and tuple(tokens[:start]) == self.line[:start]:
            self.wild_judged = _more(self.wild_judged, self.line[start:], tokens[start:])
        return fates_along(self.guessed, tokens)

    def round_of(self, position: int, used: tuple[int, ...]) -> int:
        """The earliest of the edge's rounds whose proposals could have brought these tokens."""
        known = (*self._aside, *self._hints)
        rounds = [hint.round for hint in known if hint.rest(position)[: len(used)] == used]
        return min(rounds, default=1) if used else 1


def _more(judged: tuple[int, int], guess: Sequence[int], tokens: Sequence[int]) -> tuple[int, int]:
    """What was looked at and accepted, and a guess more; nothing after its first wrong token was looked at."""
    agreed = accepted_length(guess, tokens)
    return judged[0] + min(agreed + 1, len(guess), len(tokens)), judged[1] + agreed
