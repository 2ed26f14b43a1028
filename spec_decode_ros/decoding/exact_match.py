"""Exact-match verification: a draft token is accepted if it is the target's own choice (greedy and seeded decoding)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from spec_decode_ros.decoding.acceptance import early_exit_prediction, until_end
from spec_decode_ros.decoding.commands import RunPass, Wait
from spec_decode_ros.decoding.controller import Measurements
from spec_decode_ros.decoding.draft_choice import (
    Continuation,
    DraftChoice,
    DraftLimits,
    ReceivedDraft,
    choose_draft,
    edge_draft_pays,
    judged_more,
    stale_continuation,
)
from spec_decode_ros.decoding.messages import Branches, Draft, Open, ServerMode, TokenOutcome
from spec_decode_ros.decoding.tree import Tree, judge_tree, merge, outcomes_along
from spec_decode_ros.decoding.verification import AnswerState, StepResult

_DRAFTS_KEPT = 8


class ExactMatch:
    """The drafts of one action, and the pass that is over one of them.

    Args:
        eos: tokens that end an answer.
        server_draft_tokens: how many tokens the server can draft by itself for a pass; 0 where it drafts none.
        stale_tokens: how many tokens of stale drafts may stand in a pass.
        measured: what the server has measured; without it a draft that is there is better than one that is to be made.
    """

    rejected = b""  # the target itself says what stands in the place of a rejected token

    def __init__(
        self,
        eos: Collection[int],
        server_draft_tokens: int,
        stale_tokens: int,
        measured: Measurements | None,
    ) -> None:
        self.server_draft_judged = (0, 0)
        self.stale_judged = (0, 0)
        self._eos = eos
        self._server_draft_tokens = server_draft_tokens
        self._stale_tokens = stale_tokens
        self._measured = measured
        self._mode = ServerMode.STREAM
        self._patience_ms = 0.0
        self._drafts: list[ReceivedDraft] = []  # newest last
        self._branches: list[ReceivedDraft] = []
        self._newest_branches = (-1, 0)  # their position and tokens
        self._without_draft_at = -1  # where the edge has asked for a token without proposing one
        self._waiting = False  # a `Wait` runs
        self._waited = False  # a `Wait` has passed and no draft came since
        # The pass that runs.
        self._draft: tuple[int, ...] = ()
        self._server_tokens = 0  # that the server is to draft for it
        self._server_draft: tuple[int, ...] = ()  # if the pass is over that
        self._tree = Tree()  # the draft, and alternatives where they disagree with it
        self._edge_tree = Tree()  # what of it came from the edge
        self._stale = Continuation()  # what stale drafts say of its places
        self._predicted: tuple[int, ...] = ()  # what the edge was told that it will commit

    # ---- drafts --------------------------------------------------------------------------------------------

    def opened(self, message: Open) -> None:
        self._mode, self._patience_ms = message.mode, message.patience_ms
        if message.draft:  # whatever has come before is newer
            self._drafts.insert(0, ReceivedDraft(0, until_end(message.draft, self._eos)))

    def receive(self, message: Draft | Branches, answer: AnswerState) -> None:
        """Of two drafts from the same place, one the beginning of the other, only the longer is kept."""
        if isinstance(message, Branches):
            self._receive_branches(message)
            return
        if len(message.tokens) <= message.settled:
            if _leaves_to_server(message, answer):
                self._without_draft_at = message.position
            return
        self._waited = False
        new = ReceivedDraft(message.position, until_end(message.tokens, self._eos), message.round)
        for index, known in enumerate(self._drafts):
            shorter = min(len(known.tokens), len(new.tokens))
            if known.position == new.position and known.tokens[:shorter] == new.tokens[:shorter]:
                if len(new.tokens) <= len(known.tokens):
                    return
                del self._drafts[index]
                break
        self._drafts = [*self._drafts, new][-_DRAFTS_KEPT:]

    def _receive_branches(self, message: Branches) -> None:
        age = (message.position, len(message.tokens))
        if age > self._newest_branches:
            self._newest_branches = age
            self._branches = [
                ReceivedDraft(message.position, until_end(line, self._eos), message.round)
                for line in message.lines
            ]

    def polled_position(self, message: Draft, answer: AnswerState, idle: bool) -> int | None:
        if len(message.tokens) > message.settled or _leaves_to_server(message, answer):
            return None
        return message.position

    def settled(self, answer: AnswerState) -> StepResult | None:
        return None

    # ---- the next pass -------------------------------------------------------------------------------------

    def next_step(self, answer: AnswerState) -> RunPass | Wait | None:
        choice = self._choice(answer)
        if not choice.edge.tokens and self._without_draft_at != len(answer.committed):
            streams = self._mode is not ServerMode.VERIFY_ONLY and not answer.yields
            if answer.passes and not streams:
                return None
            if self._patience_ms and not self._waited:
                if self._waiting:
                    return None
                self._waiting = True
                return Wait(self._patience_ms)
        return self._begin(answer, choice)

    def waited(self, answer: AnswerState) -> RunPass | None:
        if not self._waiting:
            return None
        self._waited = True
        return self._begin(answer, self._choice(answer))

    def has_draft(self, answer: AnswerState) -> bool:
        choice = self._choice(answer)
        return bool(choice.edge.tokens) and not choice.server_tokens

    def pass_begins(
        self, answer: AnswerState, server_draft: Sequence[int], alternatives: Sequence[tuple[int, ...]]
    ) -> None:
        self._server_tokens = 0
        self._lay_out(answer, self._choice(answer).edge, until_end(server_draft, self._eos), alternatives)

    def run_pass(self, answer: AnswerState) -> RunPass:
        tree = None if self._tree.is_line else self._tree
        return RunPass(answer.committed, self._draft, self._server_tokens, tree)

    def _begin(self, answer: AnswerState, choice: DraftChoice) -> RunPass:
        self._waiting = False
        self._predicted = ()
        self._server_tokens = choice.server_tokens
        self._lay_out(answer, choice.edge)
        return self.run_pass(answer)

    def _choice(self, answer: AnswerState) -> DraftChoice:
        limits = DraftLimits(
            longest=answer.longest_draft,
            stale=None if self._mode is ServerMode.VERIFY_ONLY else self._stale_tokens,
            server=min(self._server_draft_tokens, answer.longest_draft)
            if self._mode is ServerMode.SELF_DRAFT
            else 0,
            server_waits=not answer.passes or answer.yields,
        )
        return choose_draft(self._drafts, self._branches, answer.committed, self._eos, limits, self._measured)

    def _lay_out(
        self,
        answer: AnswerState,
        edge: Continuation,
        server_draft: tuple[int, ...] = (),
        alternatives: Sequence[tuple[int, ...]] = (),
    ) -> None:
        """Put the better one of the edge's draft and the server's own under the pass, and alternatives to the latter."""
        longest = answer.longest_draft
        edge, server_draft = edge.cut(longest), server_draft[:longest]
        takes_server_draft = bool(server_draft) and not (
            edge.tokens and edge_draft_pays(edge, len(server_draft), self._eos, self._measured, made=True)
        )
        self._draft = server_draft if takes_server_draft else edge.tokens
        self._server_draft = server_draft if takes_server_draft else ()
        self._stale = stale_continuation(self._drafts, answer.committed, self._eos).cut(longest)
        branches = [branch[:longest] for branch in alternatives] if takes_server_draft else []
        self._tree = merge(
            [self._draft, *branches, edge.tokens, server_draft], len(self._draft) + len(branches)
        )
        if self._tree.is_line:
            self._tree = Tree.line(self._draft)
        self._edge_tree = Tree.line(edge.tokens[: len(self._tree.follow(edge.tokens))])

    # ---- its result ----------------------------------------------------------------------------------------

    def predict(
        self, answer: AnswerState, choices: Sequence[int], confidences: Sequence[float], least: float
    ) -> tuple[int, ...]:
        if not self._tree.is_line:
            return ()
        tokens = early_exit_prediction(self._draft, choices, confidences, least, self._eos, answer.room)
        if tokens == self._predicted:
            return ()
        if tokens:
            self._predicted = tokens
        return tokens

    def judge(self, answer: AnswerState, targets: Sequence[int]) -> StepResult:
        result, _ = judge_tree(self._tree, targets, self._eos, answer.room)
        tokens = result.tokens
        self.server_draft_judged = judged_more(self.server_draft_judged, self._server_draft, tokens)
        stale, exact = self._stale.tokens, self._stale.exact
        if tokens[:exact] == stale[:exact]:
            self.stale_judged = judged_more(self.stale_judged, stale[exact:], tokens[exact:])
        outcomes = outcomes_along(self._edge_tree, tokens)
        used = tokens[: outcomes.count(TokenOutcome.ACCEPTED)]
        if self._mode is ServerMode.VERIFY_ONLY:  # which waited for all of the draft
            used = self._draft
        return StepResult(
            tokens,
            outcomes,
            result.done,
            drafted=self._edge_tree.height,
            round=self._round_of(len(answer.committed), used) if self._edge_tree else 1,
        )

    def _round_of(self, position: int, used: tuple[int, ...]) -> int:
        """The earliest of the edge's rounds whose drafts could have brought these tokens."""
        known = (*self._branches, *self._drafts)
        rounds = [draft.round for draft in known if draft.continuation(position)[: len(used)] == used]
        return min(rounds, default=1) if used else 1


def _leaves_to_server(message: Draft, answer: AnswerState) -> bool:
    """Whether the edge says that it proposes nothing after the committed tokens."""
    return message.final and message.position == len(answer.committed)
