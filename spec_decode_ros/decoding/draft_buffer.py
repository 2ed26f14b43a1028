"""The draft buffer of the edge: the draft tokens behind the output tokens, and the drafting run that adds to them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from spec_decode_ros.decoding.acceptance import accepted_length
from spec_decode_ros.decoding.commands import Counts, DraftFrom
from spec_decode_ros.decoding.message_builder import DraftState
from spec_decode_ros.decoding.messages import Committed, ServerMode, TokenOutcome
from spec_decode_ros.decoding.methods import Method
from spec_decode_ros.decoding.output_tokens import OutputTokens


class DraftBuffer:
    """What may follow the output tokens of one action, and whether more is being drafted.

    Args:
        method: how the action is decoded.
        output: the committed tokens, which the owner extends and reports to `settle`.
        max_tokens: longest answer.
        eos: tokens that end an answer.
    """

    def __init__(self, method: Method, output: OutputTokens, max_tokens: int, eos: Collection[int]) -> None:
        self.tokens: list[int] = []
        self.sent = 0
        """How many of them the cloud was told."""
        self.run = 0
        """Number of the newest drafting run."""
        self.exhausted = False
        """The draft model can say nothing after this answer."""
        self.server_turn_at = -1
        """With rejection sampling: a position at which the server says the next token, and nothing is drafted."""
        self.drafted = 0
        self._preemptive_total = 0  # tokens that were drafted behind an early-exit prediction
        self._preemptive_used = 0
        self._predictions = 0  # that a verdict followed
        self._hits = 0
        self._method = method
        self._output = output
        self._max_tokens = max_tokens
        self._eos = eos
        self._budget = 0  # tokens still to come from the run; 0 when there is none
        self._overruled = False  # a draft token was rejected
        self._predicted: list[int] = []  # the early-exit prediction of what follows the output tokens
        self._covered = 0  # draft tokens that a prediction put there or did not object to
        self._bonus_open = False  # the pass adds a token that was not predicted
        self._preemptive = 0  # drafted since that prediction

    @property
    def answer(self) -> tuple[int, ...]:
        """Output tokens and the draft that follows them."""
        return (*self._output.tokens, *self.tokens)

    @property
    def drafting(self) -> bool:
        """Whether a drafting run is under way."""
        return bool(self._budget)

    @property
    def ended(self) -> bool:
        """Whether nothing can follow the answer as it stands."""
        return self.ended_at(self.answer)

    @property
    def nothing_to_propose(self) -> bool:
        """Whether the server waits for a draft that will not come."""
        waits = self._method.server is ServerMode.VERIFY_ONLY or self._method.yields
        return waits and not self.tokens and not self._budget

    def ended_at(self, answer: Sequence[int]) -> bool:
        """Whether nothing can follow `answer`."""
        return (bool(answer) and answer[-1] in self._eos) or len(answer) >= self._max_tokens

    def state(self, rounds: int) -> DraftState:
        """The answer as the messages say it."""
        return DraftState(
            tuple(self._output.tokens), tuple(self.tokens), self.drafting, self.exhausted, rounds
        )

    def counts(self, newest: Committed, branches_used: int) -> Counts:
        """What the action took; `newest` is the message with the newest counts of the cloud."""
        return Counts(
            drafted=newest.drafted,
            accepted=self._output.outcomes.count(TokenOutcome.ACCEPTED),
            passes=newest.passes,
            round_trips=newest.rounds,
            cloud_busy_ms=newest.busy_ms,
            drafted_on_edge=self.drafted,
            preemptive=self._preemptive_total,
            preemptive_used=self._preemptive_used,
            predictions=self._predictions,
            prediction_hits=self._hits,
            branches_used=branches_used,
        )

    # ---- drafting ------------------------------------------------------------------------------------------

    def may_draft(self, alone: bool) -> bool:
        """Whether it is the edge's turn to draft; `alone` without the cloud."""
        if not self._method.uses_draft_model or self._budget or self.exhausted or self.ended:
            return False
        if self.server_turn_at == len(self._output.tokens):
            return False
        if alone:
            return True
        if self._overruled and not self._method.redrafts:
            return False
        return self._method.ahead or not self._beyond_prediction

    def begin_run(self, alone: bool) -> DraftFrom | None:
        """Begin to draft after the answer as it stands; None where no token fits."""
        room = self._max_tokens - len(self.answer)
        if alone:
            self._budget = room
        else:  # the target adds the last token anyway
            window = self._method.window + self._bonus_open
            self._budget = max(0, min(window - self._beyond_prediction, room - 1))
        if not self._budget:
            return None
        return self.next_run(self.answer, self._budget)

    def next_run(self, prefix: tuple[int, ...], budget: int) -> DraftFrom:
        """A drafting run, which replaces the one before."""
        self.run += 1
        return DraftFrom(self.run, prefix, budget)

    def append(self, token: int) -> None:
        """Add one token of the run."""
        self.tokens.append(token)
        self.drafted += 1
        if self._predicted:
            self._preemptive += 1
            self._preemptive_total += 1
        self._budget = 0 if token in self._eos else self._budget - 1

    def stop(self) -> None:
        """Whatever the run still makes is of no use."""
        self._budget = 0

    def take_unsent(self) -> int:
        """How many tokens the cloud is to be told now, from the first on; 0 if more are to go with them.

        Where the edge stops and waits, a window goes as one: the server would spend a pass on a piece of it.
        """
        new = len(self.tokens) - self.sent
        if not new or (self._budget and (new < self._method.chunk or not self._method.ahead)):
            return 0
        self.sent = len(self.tokens)
        return self.sent

    # ---- verdicts and predictions --------------------------------------------------------------------------

    def settle(self, fresh: Sequence[int]) -> None:
        """`fresh` has been appended to the output tokens."""
        self.exhausted = False
        self._count_prediction(fresh)
        self._bonus_open = False
        if self.tokens[: len(fresh)] == fresh:
            del self.tokens[: len(fresh)]
            self.sent = max(0, self.sent - len(fresh))
            self._covered = max(0, self._covered - len(fresh))
        else:  # a token was wrong, or the cloud is ahead: what is being drafted is of no use
            self.clear()
            self.stop()
            self._overruled = True

    def predict(self, tokens: Sequence[int]) -> None:
        """An early exit foretells that `tokens` come first."""
        agreed = accepted_length(self.tokens, tokens)
        self._bonus_open = agreed == len(tokens) <= self.sent
        if agreed < len(tokens):
            self.tokens[agreed:] = tokens[agreed:]
            self.sent = min(self.sent, agreed)
            self._preemptive = 0
            self._budget, self.exhausted = 0, False
        # What the exit was not sure of counts as right as long as nothing speaks against it.
        self._covered = len(self.tokens)
        self._predicted = list(tokens)

    def clear(self) -> None:
        self.tokens.clear()
        self.sent = self._covered = 0

    @property
    def _beyond_prediction(self) -> int:
        """How many draft tokens stand behind all that was predicted."""
        return len(self.tokens) - self._covered

    def _count_prediction(self, fresh: Sequence[int]) -> None:
        agreed = accepted_length(self._predicted, fresh)
        if not self._predicted or agreed == len(fresh) < len(self._predicted):
            self._predicted = self._predicted[agreed:]  # right so far
            return
        hit = agreed == len(self._predicted)
        self._predictions += 1
        self._hits += hit
        if hit and self.tokens[: len(fresh)] == fresh:
            self._preemptive_used += self._preemptive
        self._predicted, self._preemptive = [], 0
