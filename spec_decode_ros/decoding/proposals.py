"""What may follow the committed tokens of one action: the edge's drafts and branches, and the server's own draft.

Of all that was proposed the cloud's pass is over the best, and over others beside it where the target takes trees. None of
this changes the answer, as every token of it is verified.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from spec_decode_ros.decoding.acceptance import (
    ReceivedDraft,
    accepted_length,
    alternative_continuations,
    best_continuation,
    exact_continuation,
    until_end,
)
from spec_decode_ros.decoding.controller import Measurements, guess_ms, resumed_ms, token_ms
from spec_decode_ros.decoding.messages import Branches, TokenOutcome
from spec_decode_ros.decoding.tree import Tree, merge, outcomes_along

_HINTS_KEPT = 8


@dataclass(frozen=True)
class Continuation:
    """What the edge proposes; its first `exact` tokens are from a draft that agrees with all that is committed."""

    tokens: tuple[int, ...] = ()
    exact: int = 0

    def cut(self, length: int) -> Continuation:
        """The first tokens of it."""
        return Continuation(self.tokens[:length], min(self.exact, length))


class ReceivedDrafts:
    """The proposals for one action.

    Args:
        eos: tokens that end an answer.
        nodes: where drafts disagree, so many tokens of the others may stand in a pass beside the best one.
        wild: how many tokens of drafts that were wrong before may stand in a pass, as a guess at what follows.
        measured: what the server has measured; without it a draft that is there is better than one that is to be made.
    """

    def __init__(self, eos: Collection[int], nodes: int, wild: int, measured: Measurements | None) -> None:
        self._eos = eos
        self._nodes = nodes
        self._wild = wild
        self._measured = measured
        self._hints: list[ReceivedDraft] = []  # newest last
        self._branches: Branches | None = None
        self._aside: list[ReceivedDraft] = []  # these branches, one by one
        self.line: tuple[int, ...] = ()
        """The draft under the pass that runs."""
        self.tree = Tree()
        """All that this pass is over: that draft, and others where they disagree with it."""
        self.guessed = Tree()
        """What of it came from the edge."""
        self.own_judged = (0, 0)
        """Of the tokens that the server drafted by itself: how many the target looked at one by one, and accepted."""
        self.wild_judged = (0, 0)
        """The same of tokens from drafts that were wrong before, whether the pass was over them or not."""
        self._own_tried: tuple[int, ...] = ()
        self._wild_guess = Continuation()  # what drafts that were wrong before say of the pass that runs

    # ---- what was proposed ---------------------------------------------------------------------------------

    def open(self, position: int, draft: Sequence[int]) -> None:
        """A guess at the answer that came with the frame; whatever has come before is newer."""
        self._hints.insert(0, ReceivedDraft(position, until_end(draft, self._eos)))

    def keep(self, position: int, tokens: Sequence[int], round: int) -> None:
        """Remember a draft; of two from the same place, one the beginning of the other, only the longer."""
        hint = ReceivedDraft(position, until_end(tokens, self._eos), round)
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
            ReceivedDraft(message.position, until_end(line, self._eos), message.round)
            for line in message.lines
        ]
        return True

    # ---- what a pass is over -------------------------------------------------------------------------------

    def best(self, committed: Sequence[int], wildly: bool, own: int = 0) -> Continuation:
        """The edge's most promising draft of what follows.

        Args:
            committed: the answer so far.
            wildly: also from drafts that were wrong before, which cost nothing and may still be right about the rest.
            own: not from these where so many tokens that the server would draft by itself are better.
        """
        exact = self._rest(exact_continuation(self._hints, committed))
        if not exact.tokens and (aside := exact_continuation(self._aside, committed)):
            return self._rest(aside)
        if wildly:
            wild = self._wildly(committed).cut(exact.exact + self._wild)
            if not own or self._as_good(wild, own):
                return wild
        return exact

    def pays(self, committed: Sequence[int], rest: Continuation, own: int) -> bool:
        """Whether what the edge proposes is at least as good as so many tokens that the server would draft by itself.

        Even where it has no `rest` for the next token, a draft that was wrong twice running may be right later. An edge
        that has proposed nothing at all leaves the drafting to the server.
        """
        if rest.tokens:
            return self._as_good(rest, own)
        if self._measured is None or not self._hints:
            return False
        later = max(len(hint.rest(len(committed) + 1)) for hint in self._hints)
        return resumed_ms(self._measured, min(later, self._wild)) <= token_ms(self._measured, own)

    def _as_good(self, rest: Continuation, own: int, made: bool = False) -> bool:
        """Whether a draft costs no more a token than so many that the server drafts for it, or has `made` already."""
        now = self._measured
        if now is None:
            return True
        if rest.tokens and rest.tokens[-1] in self._eos:
            own = min(own, len(rest.tokens))  # no more than to the end of the answer
        proposed_ms = guess_ms(now, rest.exact, len(rest.tokens) - rest.exact)
        return proposed_ms <= token_ms(replace(now, own_ms=0.0) if made else now, own)

    def _rest(self, tokens: Sequence[int]) -> Continuation:
        until = until_end(tokens, self._eos)
        return Continuation(until, len(until))

    def _wildly(self, committed: Sequence[int]) -> Continuation:
        tokens = until_end(best_continuation(self._hints, committed), self._eos)
        return Continuation(tokens, min(len(exact_continuation(self._hints, committed)), len(tokens)))

    def lay_out(
        self,
        committed: Sequence[int],
        longest: int,
        rest: Continuation,
        own: tuple[int, ...] = (),
        instead: Sequence[tuple[int, ...]] = (),
    ) -> None:
        """Choose what the pass is over: the `rest` that is the best of the edge's, or the `own` draft of the server.

        Beside its own draft the server also has `instead` of it: its beginnings, each with a second choice behind.
        """
        rest, own = rest.cut(longest), own[:longest]
        takes_own = bool(own) and not (rest.tokens and self._as_good(rest, len(own), made=True))
        self.line = own if takes_own else rest.tokens
        self._own_tried = own if takes_own else ()
        self._wild_guess = self._wildly(committed).cut(longest)
        others = self._others(committed, longest) if self.line else []
        seconds = [line[:longest] for line in instead] if takes_own else []
        most = len(self.line) + self._nodes + len(seconds)
        self.tree = merge([self.line, *seconds, rest.tokens, own, *others], most)
        if self.tree.is_line:
            self.tree, others = Tree.line(self.line), []
        tried = [branch[: len(self.tree.follow(branch))] for branch in (rest.tokens, *others)]
        self.guessed = merge(tried, len(self.tree))

    def _others(self, committed: Sequence[int], longest: int) -> list[tuple[int, ...]]:
        if not self._nodes:
            return []
        rests = alternative_continuations([*self._aside, *self._hints], committed)
        return [until_end(rest, self._eos)[:longest] for rest in rests]

    # ---- what has become of it -----------------------------------------------------------------------------

    def judge(self, tokens: Sequence[int]) -> tuple[TokenOutcome, ...]:
        """The pass has committed these tokens; their outcomes, for which the server's own drafts do not count."""
        self.own_judged = _more(self.own_judged, self._own_tried, tokens)
        guess, start = self._wild_guess.tokens, self._wild_guess.exact
        if tuple(tokens[:start]) == guess[:start]:
            self.wild_judged = _more(self.wild_judged, guess[start:], tokens[start:])
        return outcomes_along(self.guessed, tokens)

    def round_of(self, position: int, used: tuple[int, ...]) -> int:
        """The earliest of the edge's rounds whose proposals could have brought these tokens."""
        known = (*self._aside, *self._hints)
        rounds = [hint.round for hint in known if hint.rest(position)[: len(used)] == used]
        return min(rounds, default=1) if used else 1


def _more(judged: tuple[int, int], guess: Sequence[int], tokens: Sequence[int]) -> tuple[int, int]:
    """What was looked at and accepted, and a guess more; nothing after its first wrong token was looked at."""
    agreed = accepted_length(guess, tokens)
    return judged[0] + min(agreed + 1, len(guess), len(tokens)), judged[1] + agreed
