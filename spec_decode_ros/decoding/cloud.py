"""The cloud's side of one action: a state machine without socket, clock, thread or model.

Events are method calls and commands come back as lists, in the manner of h11. The committed tokens are final; drafts are
hints at what follows them, and may arrive at any time and in any state. How drafts are judged is the business of a
verification strategy (`verification.py`).

    driver                                   machine
    receive(Open)                      ->    Send(Opened), Prepare
    prepared()                         ->    RunPass(draft that has arrived by now)
    pass_begins() (optional)           ->    the same RunPass with the drafts that came while it waited for its turn
    early(choices, confidences, sure)  ->    Send(Early), if the edge asked for such messages and the exit is sure
    pass_finished(targets, busy_ms)    ->    Send(Committed), RunPass | Wait | nothing | Finished
    receive(Draft)                     ->    RunPass, if one waited for it; Send(Committed) to a poll
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from spec_decode_ros.decoding.commands import CloudCommand, Finished, Prepare, RunPass, Send
from spec_decode_ros.decoding.controller import Measurements
from spec_decode_ros.decoding.distribution import Distribution
from spec_decode_ros.decoding.exact_match import ExactMatch
from spec_decode_ros.decoding.messages import (
    Branches,
    Close,
    Committed,
    Draft,
    Early,
    Error,
    ErrorCode,
    Open,
    Opened,
    Sampling,
    TokenOutcome,
)
from spec_decode_ros.decoding.rejection_sampling import RejectionSampling
from spec_decode_ros.decoding.states import CLOUD_TRANSITIONS, CloudEvent, CloudState, next_state
from spec_decode_ros.decoding.verification import AnswerState, StepResult, Verification

_ENDLESS = 2**31 - 1
_EARLY_DRAFTS = 8


class CloudMachine:
    """One action in the cloud.

    Args:
        eos: tokens that end an answer.
        max_draft_tokens: draft tokens of a pass, at most.
        server_draft_tokens: how many tokens the server's own draft model drafts for a pass; 0 where it has none.
        stale_tokens: how many tokens of stale drafts may stand in a pass, as a guess at what follows.
        measured: what the server has measured, which tells whether a draft of its own is better than one that is there;
            without it none is.
        jump_forward: the tokens that must follow an answer, whatever a model says, as a grammar may force them; they are
            committed without a pass (jump-forward decoding). Not with rejection sampling.
    """

    def __init__(
        self,
        eos: Collection[int],
        max_draft_tokens: int = 32,
        server_draft_tokens: int = 0,
        stale_tokens: int = 32,
        measured: Measurements | None = None,
        jump_forward: Callable[[Sequence[int]], Sequence[int]] | None = None,
    ) -> None:
        self.state = CloudState.NEW
        self.sampling = Sampling()
        self._eos = frozenset(eos)
        self._jump_forward = jump_forward
        self._max_draft_tokens = max_draft_tokens
        self._context = _ENDLESS
        self._open: Open | None = None
        self._early_drafts: deque[Draft | Branches] = deque(maxlen=_EARLY_DRAFTS)  # that overtook the Open
        self._verification: Verification = ExactMatch(self._eos, server_draft_tokens, stale_tokens, measured)
        self._error: Error | None = None
        self._committed: list[int] = []
        self._outcomes: list[TokenOutcome] = []
        self._others_wait = False  # other robots wait for the target
        self._passes = 0
        self._drafted = 0
        self._busy_ms = 0.0
        self._rounds = 1

    @property
    def committed(self) -> tuple[int, ...]:
        return tuple(self._committed)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Passes so far, draft tokens of the edge in them, and how many of these were accepted."""
        return self._passes, self._drafted, self._outcomes.count(TokenOutcome.ACCEPTED)

    @property
    def server_draft_judged(self) -> tuple[int, int]:
        """Of the server's own draft tokens: how many the target looked at one by one, and accepted."""
        return self._verification.server_draft_judged

    @property
    def stale_judged(self) -> tuple[int, int]:
        """The same of tokens from stale drafts, whether a pass was over them or not."""
        return self._verification.stale_judged

    @property
    def wants_early(self) -> bool:
        """Whether the edge wants to hear from early exits."""
        return self._open is not None and self._open.early

    @property
    def yielding(self) -> bool:
        """Whether the action waits for a draft only because other robots wait for the target."""
        return self.state is CloudState.WAITING and self._yields_now

    @property
    def has_draft(self) -> bool:
        """Whether a draft from the edge waits that is at least as good as one of the server's own."""
        return self._open is not None and self._verification.has_draft(self._answer)

    # ---- events --------------------------------------------------------------------------------------------

    def receive(self, message: Open | Draft | Branches | Close) -> list[CloudCommand]:
        """A message of this action has arrived."""
        if isinstance(message, Close):
            return self._close()
        if self.state in (CloudState.CLOSING, CloudState.CLOSED):
            return []
        if isinstance(message, Branches):
            return self._receive_branches(message)
        if self._error:
            return [Send(self._error)]
        return self._receive_open(message) if isinstance(message, Open) else self._receive_draft(message)

    def prepared(self, busy_ms: float = 0.0, context: int = _ENDLESS) -> list[CloudCommand]:
        """The prompt is ready for the target, which took `busy_ms` of the target's time.

        `context` is how many tokens of answer and draft fit behind it.
        """
        self._busy_ms += busy_ms
        self._context = context
        self._move(CloudEvent.PREPARED)
        return [Finished()] if self.state is CloudState.CLOSED else self._next_step()

    def pass_begins(
        self, server_draft: Sequence[int] = (), alternatives: Sequence[tuple[int, ...]] = ()
    ) -> RunPass:
        """The pass that was asked for, with what has come since: for a driver whose passes wait for their turn.

        `server_draft` is what the server's own draft model made for a `RunPass` that asked for it; a draft from the edge
        that is at least as good goes first. `alternatives` are beginnings of it with a second choice at their end, for a
        target that takes trees.
        """
        if self.state is CloudState.PASSING:
            self._verification.pass_begins(self._answer, server_draft, alternatives)
        return self._verification.run_pass(self._answer)

    def early(self, choices: Sequence[int], confidences: Sequence[float], sure: float) -> list[CloudCommand]:
        """An early exit says in the middle of a pass what it would choose, in the places that the pass will choose for.

        The edge is told as far as the confidences are at least `sure`.
        """
        if self.state is not CloudState.PASSING or not self.wants_early:
            return []
        assert self._open is not None
        tokens = self._verification.predict(self._answer, choices, confidences, sure)
        if not tokens:
            return []
        confidence = float(min(confidences[: len(tokens)]))
        return [Send(Early(self._open.action_id, len(self._committed), tokens, confidence))]

    def others_wait(self, others_wait: bool) -> list[CloudCommand]:
        """Whether other robots wait for the target, which matters to an action that yields to them."""
        self._others_wait = others_wait
        return self._next_step() if self.state is CloudState.WAITING and not others_wait else []

    def pass_finished(
        self, targets: Sequence[int] | Sequence[Distribution], busy_ms: float = 0.0
    ) -> list[CloudCommand]:
        """The pass has returned one more target than it had draft tokens.

        These are the target's choices, or its warped distributions for an action with rejection sampling.
        """
        if self.state is CloudState.CLOSING:
            self._move(CloudEvent.PASSED)
            return [Finished()]
        result = self._with_forced(self._verification.judge(self._answer, targets))
        self._passes += 1
        self._busy_ms += busy_ms
        self._move(CloudEvent.ENDED if result.done else CloudEvent.PASSED)
        news = self._commit(result)
        return news if result.done else [*news, *self._next_step()]

    def waited(self) -> list[CloudCommand]:
        """The time of a `Wait` is over."""
        if self.state is not CloudState.WAITING:
            return []
        return self._begin(self._verification.waited(self._answer))

    def failed(self, sentence: str, code: str = ErrorCode.MODEL_FAILED) -> list[CloudCommand]:
        """The driver cannot do what it was told, and why."""
        if self.state in (CloudState.DONE, CloudState.FAILED, CloudState.CLOSED):
            return []
        self._move(CloudEvent.FAIL)
        if self.state is CloudState.CLOSED:
            return [Finished()]
        action_id = self._open.action_id if self._open else 0
        self._error = Error(action_id, code, sentence)
        return [Send(self._error), Finished()]

    # ---- messages ------------------------------------------------------------------------------------------

    def _receive_open(self, message: Open) -> list[CloudCommand]:
        opened = Send(Opened(message.action_id))
        if self._open:  # repeated: the edge has heard nothing yet
            return [opened, Send(self._report(0))] if self._committed else [opened]
        self._open = message
        self.sampling = message.sampling
        if message.sampling.separate:
            self._verification = RejectionSampling(self._eos, message.sampling)
        for draft in self._early_drafts:
            self._verification.receive(draft, self._answer)
        self._verification.opened(message)
        self._move(CloudEvent.OPEN)
        return [opened, Prepare()]

    def _receive_draft(self, message: Draft) -> list[CloudCommand]:
        if self._open is None:
            self._early_drafts.append(message)
            if len(message.tokens) > message.settled:
                return []
            # The Open is lost, or was said to a server that has been restarted.
            sentence = f"Action {message.action_id} is not open here; open it again."
            return [Send(Error(message.action_id, ErrorCode.UNKNOWN_ACTION, sentence))]
        self._verification.receive(message, self._answer)
        commands = self._next_step() if self.state is CloudState.WAITING else []
        if any(isinstance(command, Send) for command in commands):
            return commands
        idle = self.state in (CloudState.WAITING, CloudState.DONE)
        position = self._verification.polled_position(message, self._answer, idle)
        if position is None:
            return commands
        return [Send(self._report(min(position, len(self._committed)))), *commands]

    def _receive_branches(self, message: Branches) -> list[CloudCommand]:
        if self._open is None:
            self._early_drafts.append(message)
            return []
        self._verification.receive(message, self._answer)
        return self._next_step() if self.state is CloudState.WAITING else []

    def _close(self) -> list[CloudCommand]:
        if self.state in (CloudState.CLOSING, CloudState.CLOSED):
            return []
        holds_target = self.state is CloudState.WAITING
        self._move(CloudEvent.CLOSE)
        return [Finished()] if holds_target else []

    # ---- the next step -------------------------------------------------------------------------------------

    def _next_step(self) -> list[CloudCommand]:
        """Commit what the edge has settled, then begin a pass, wait for a draft, or leave the turn to the edge."""
        settled = self._verification.settled(self._answer)
        if settled and settled.done:
            self._move(CloudEvent.ENDED)
            return self._commit(settled)
        news = self._commit(settled) if settled else []
        step = self._verification.next_step(self._answer)
        return [*news, *(self._begin(step) if isinstance(step, RunPass) else [step] if step else [])]

    def _begin(self, run: RunPass | None) -> list[CloudCommand]:
        if run is None:
            return []
        self._move(CloudEvent.PASS)
        return [run]

    def _with_forced(self, result: StepResult) -> StepResult:
        """The result with what must follow it."""
        if self._jump_forward is None or result.done or self.sampling.separate:
            return result
        room = self._answer.room - len(result.tokens)
        forced = tuple(self._jump_forward((*self._committed, *result.tokens)))[:room]
        done = len(forced) == room or (bool(forced) and forced[-1] in self._eos)
        outcomes = (*result.outcomes, *(TokenOutcome.BONUS,) * len(forced))
        return replace(result, tokens=(*result.tokens, *forced), outcomes=outcomes, done=done)

    def _commit(self, result: StepResult) -> list[CloudCommand]:
        position = len(self._committed)
        self._committed += result.tokens
        self._outcomes += result.outcomes
        self._drafted += result.drafted
        self._rounds = max(self._rounds, result.round)
        news = Send(self._report(position))
        return [news, Finished()] if result.done else [news]

    # ---- bookkeeping ---------------------------------------------------------------------------------------

    @property
    def _yields_now(self) -> bool:
        return self._others_wait and self._open is not None and self._open.yields

    @property
    def _answer(self) -> AnswerState:
        length = len(self._committed)
        return AnswerState(
            committed=self.committed,
            room=(self._open.max_tokens if self._open else 0) - length,
            width=max(0, min(self._max_draft_tokens, self._context - length)),
            passes=self._passes,
            yields=self._yields_now,
        )

    def _report(self, position: int) -> Committed:
        """Everything from `position` on, and the counts so far."""
        assert self._open is not None
        return Committed(
            self._open.action_id,
            position,
            tuple(self._committed[position:]),
            tuple(self._outcomes[position:]),
            done=self.state is CloudState.DONE,
            passes=self._passes,
            drafted=self._drafted,
            busy_ms=self._busy_ms,
            rounds=self._rounds,
            sparse=self._verification.rejected,
        )

    def _move(self, event: CloudEvent) -> None:
        self.state = next_state(CLOUD_TRANSITIONS, self.state, event)
