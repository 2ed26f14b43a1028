"""The robot's side of one action: a state machine without socket, thread, model or a clock of its own.

Events go in as method calls, commands come out as lists. What the cloud has committed is the truth; the draft
is what the draft model guesses to follow it. As soon as the two differ, the draft is dropped and begun anew
after the committed tokens.

    driver                                   machine
    start(now)                         ->    Send(Open), DraftFrom(run 1)
    drafted(run, token)                ->    Show, Send(Draft) at every full chunk
    receive(Committed)                 ->    Show, DraftFrom where the draft was wrong; Done at the end
    receive(Early)                     ->    Show, DraftFrom after what the verdict is going to be
    receive(Error(BUSY))               ->    nothing for a while, though it drafts on; too late for that: alone, or Failed
    reconnected(known)                 ->    Open again, or a poll where the server may still have the action
    tick(now), at `wake_at`            ->    whatever was lost, again; after the deadline Done or Failed
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from spec_decode_ros.decoding.branches import RunnerUp
from spec_decode_ros.decoding.commands import Done, EdgeCommand, Failed, Send, StopDrafting
from spec_decode_ros.decoding.edge_drafting import EdgeDrafting
from spec_decode_ros.decoding.edge_states import TRANSITIONS, WITH_CLOUD, EdgeEvent, EdgeState
from spec_decode_ros.decoding.messages import (
    Close,
    Committed,
    Down,
    Early,
    Error,
    ErrorCode,
    Opened,
    TokenOutcome,
)
from spec_decode_ros.decoding.methods import Method
from spec_decode_ros.decoding.patience import RetryTimer
from spec_decode_ros.decoding.rejection import DraftedToken
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.errors import SpecDecodeError

__all__ = ["TRANSITIONS", "EdgeMachine", "EdgeState"]

TURNS_AWAY = (ErrorCode.BUSY, ErrorCode.DRAINING)
"""Asking again later may help, or asking elsewhere."""


class EdgeMachine(EdgeDrafting):
    """One action on the edge, decoded by `method`. `eos` are the tokens that end an answer."""

    def __init__(self, method: Method, request: Request, eos: Collection[int]) -> None:
        super().__init__(method, request, eos)
        self._patience = RetryTimer(request)
        self._polled_at = -1
        self._turned_away: Error | None = None  # by a server that has not let the action in since
        self._was_open = False  # and whether the action was open then

    @property
    def wake_at(self) -> float | None:
        """When `tick` is next due, on the clock that `start` and `tick` are told; None for never."""
        if self.state in (EdgeState.NEW, EdgeState.DONE):
            return None
        return self._patience.deadline if self.state is EdgeState.ALONE else self._patience.wake_at

    # ---- events --------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[EdgeCommand]:
        """Begin, at `now` seconds on any steady clock."""
        self._patience.begin(now)
        if not self.method.uses_cloud:
            self._move(EdgeEvent.GO_ALONE)
            return self._draft_on()
        self._move(EdgeEvent.OPEN)
        return [self._opening(), *self._draft_on()]

    def drafted(
        self, run: int, said: int | DraftedToken, runner_up: RunnerUp | None = None
    ) -> list[EdgeCommand]:
        """The drafting of that run has made one more token; separate rejection sampling needs all about it.

        `runner_up` would have been its second choice.
        """
        if run != self._run or not self._drafting or self.state is EdgeState.DONE:
            return []  # of a run that was replaced
        if self._aside is not None:
            token = said.token if isinstance(said, DraftedToken) else said
            return self._allowed(self._drafted_aside(self._aside, token, runner_up))
        self._take(said, runner_up)
        return self._allowed([self._show(), *self._drafting_moved(), *self._draft_aside()])

    def draft_ended(self, run: int) -> list[EdgeCommand]:
        """The drafting of that run can make no more tokens, though its budget is not used."""
        if run != self._run or not self._drafting or self.state is EdgeState.DONE:
            return []
        if self._aside is not None:
            return self._allowed(self._branch_ended())
        self._budget = 0
        self._dry = True
        return self._allowed([*self._drafting_moved(), *self._draft_aside()])

    def receive(self, message: Down) -> list[EdgeCommand]:
        """A message has arrived; those of other actions, of other kinds or without news do nothing."""
        if self.state not in WITH_CLOUD:
            return []
        if isinstance(message, Error) and message.action_id in (0, self.request.action_id):
            return self._receive_error(message)
        if not isinstance(message, Opened | Committed | Early) or message.action_id != self.request.action_id:
            return []
        if self.state is not EdgeState.OPEN:
            self._patience.heard()
            self._turned_away = None
        self._move(EdgeEvent.HEARD)
        if isinstance(message, Early):
            return self._receive_early(message)
        return self._receive_committed(message) if isinstance(message, Committed) else []

    def reconnected(self, known: bool) -> list[EdgeCommand]:
        """The connection stands again after a gap, or another one does; `known`: the server may still have the action."""
        if self.state not in WITH_CLOUD:
            return []
        self._patience.heard()
        if known and self.state is EdgeState.OPEN:
            return self._ask()
        if self.state is EdgeState.TURNED_AWAY:
            self._move(EdgeEvent.ASK_AGAIN)
        self._move(EdgeEvent.FORGOTTEN)
        return self._reopen()

    def tick(self, now: float) -> list[EdgeCommand]:
        """Time has passed. Call it at `wake_at` or more often."""
        if self.state in (EdgeState.NEW, EdgeState.DONE):
            return []
        if self._patience.is_over(now):
            return self._give_up()
        if self.state is EdgeState.ALONE:
            return []
        due = self._patience.is_due(now)
        if self.state is EdgeState.TURNED_AWAY:
            return self._return(due, now)
        if not due:
            return []
        return [self._opening()] if self.state is EdgeState.OPENING else self._ask()

    def _return(self, due: bool, now: float) -> list[EdgeCommand]:
        """Ask the server that was full again when it is time for that; it may be too late for it already."""
        assert self._turned_away is not None
        if not due:
            return self._lose(self._turned_away) if self._patience.outlasts(now) else []
        self._patience.shorten()
        if self._was_open:
            self._move(EdgeEvent.HEARD)
            return self._ask()
        self._move(EdgeEvent.ASK_AGAIN)
        return self._reopen()

    def _allowed(self, commands: list[EdgeCommand]) -> list[EdgeCommand]:
        """Nothing goes to a server that is full; what it missed is said when it is asked again."""
        if self.state is not EdgeState.TURNED_AWAY:
            return commands
        return [command for command in commands if not isinstance(command, Send)]

    # ---- what the messages mean ----------------------------------------------------------------------------

    def _receive_committed(self, message: Committed) -> list[EdgeCommand]:
        if not message.tokens and not message.done and message.position < len(self._committed):
            return [Send(self._wording.reminder(self._standpoint, message.position))]
        try:
            fresh = self._ledger.take(message)
            settled = self._settle(message, fresh)
        except SpecDecodeError as error:
            return self._lose(
                Error(message.action_id, ErrorCode.BAD_MESSAGE, f"The cloud's verdict can't be used: {error}")
            )
        if message.passes > self._counts.passes:
            self._counts = replace(
                self._counts,
                drafted=message.drafted,
                passes=message.passes,
                round_trips=message.rounds,
                cloud_busy_ms=message.busy_ms,
            )
        if self._ledger.complete:
            self._guess.clear()
            return [self._show(), *self._finish(verified=True)] if fresh else self._finish(verified=True)
        commands = self._resolve(fresh) if fresh else []
        if settled and self._clouds_turn == len(self._committed):
            commands.append(self._message(final=True))
        elif settled and self._guess.sent:
            # The same token was drawn again: the draft stands, and the cloud has to know.
            commands.append(self._message(self._guess.sent))
        if self._ledger.lacks_some and self._polled_at != len(self._committed):
            self._polled_at = len(self._committed)  # a message is missing: ask at once, and once
            commands.append(self._message())
        return commands

    def _settle(self, message: Committed, fresh: list[int]) -> bool:
        """Draw the token in the place of the draft token after `fresh`, if separate rejection sampling rejected that.

        Raises SpecDecodeError if what it shall be drawn from is nothing of the kind.
        """
        self._resampler.heard(message)
        position = len(self._committed)
        if not message.sparse or position != message.position + len(message.tokens):
            return False
        draft = self._guess.tokens
        if len(draft) <= len(fresh) or draft[: len(fresh)] != fresh:
            return False  # this edge has drafted nothing there
        token = self._resampler.settle(position, message.sparse)
        whole = len(draft) == len(fresh) + 1 and not self._budget
        self._ledger.add(token, TokenOutcome.RECOVERED)
        if token == draft[-1] and whole and not self.method.ahead:
            # It stands after all, and so the whole draft does: the place after that is the cloud's.
            self._clouds_turn = len(self._committed)
        fresh.append(token)
        if self._ended_at(self._committed):
            self._ledger.end = len(self._committed)
        return True

    def _resolve(self, fresh: list[int]) -> list[EdgeCommand]:
        """Lay newly committed tokens over the draft."""
        self._patience.heard()
        self._dry = False
        drafting = self._drafting
        foresight = self._guess.judge(fresh)
        if foresight:
            self._count(foresights=1, foresights_right=int(foresight.right), preempted_used=foresight.used)
        if not self._guess.settle(fresh):
            self._budget = 0  # a token was wrong, or the cloud is ahead: what is being drafted is of no use
            self._overruled = True
        self._branches.forget(tuple(self._committed))
        return self._shown_and_drafted_on(drafting)

    def _receive_early(self, message: Early) -> list[EdgeCommand]:
        """Take what an early exit foresees for the draft, and draft on after it while the pass goes on."""
        settled = self._committed[message.position :]
        told = list(message.tokens[len(settled) :])
        if not self.method.early or message.position > len(self._committed) or not told:
            return []
        if list(message.tokens[: len(settled)]) != settled:
            return []  # late, and wrong already: what it says of the rest follows another text
        del told[self.request.max_tokens - len(self._committed) :]
        drafting = self._drafting
        if self._guess.foretell(told):
            self._budget, self._dry = 0, False
        return self._shown_and_drafted_on(drafting)

    def _receive_error(self, error: Error) -> list[EdgeCommand]:
        if error.code == ErrorCode.UNKNOWN_ACTION:
            forgotten = (
                self.state is EdgeState.OPEN
            )  # else its Open is lost or on its way, and `tick` repeats it
            self._move(EdgeEvent.FORGOTTEN)
            if not forgotten:
                return []
            self._patience.shorten()
            return self._reopen()
        if error.code not in TURNS_AWAY or not error.retry_ms:
            return self._lose(error)
        return self._turn_away(error) if error.action_id else []  # else it is not about this action

    def _turn_away(self, error: Error) -> list[EdgeCommand]:
        """Leave a full server alone for a while, and draft meanwhile."""
        if self.state is not EdgeState.TURNED_AWAY:
            self._was_open = self.state is EdgeState.OPEN
            self._turned_away = error
            self._patience.pause(error.retry_ms)
            self._move(EdgeEvent.TURN_AWAY)
        return []

    def _lose(self, error: Error) -> list[EdgeCommand]:
        """The cloud will not say more of this action."""
        if not (self.request.fallback and self.method.uses_draft_model):
            return self._fail(error.code, error.sentence)
        self._move(EdgeEvent.GO_ALONE)
        return self._go_on_alone()

    # ---- what is said --------------------------------------------------------------------------------------

    def _opening(self) -> Send:
        return Send(self._wording.opening(self._standpoint))

    def _reopen(self) -> list[EdgeCommand]:
        """Open the action at a server that does not know it, and say what an earlier one was told."""
        told = self._guess.sent and (self.request.sampling.separate or not self._committed)
        return [self._opening(), *([self._message(self._guess.sent)] if told else [])]

    def _ask(self) -> list[EdgeCommand]:
        """Whatever may be lost of what was said to the server or by it, again."""
        if self._has_nothing_to_propose():
            return [self._message(final=True)]
        return [*([self._message(self._guess.sent)] if self._guess.sent else []), self._message()]

    def _drafting_moved(self) -> list[EdgeCommand]:
        """A token more, or the end of the drafting: send it, or finish, if it is time for that."""
        if self.state is EdgeState.ALONE:
            return self._go_on_alone()
        return self._send_draft() or ([self._message(final=True)] if self._has_nothing_to_propose() else [])

    # ---- the end -------------------------------------------------------------------------------------------

    def _go_on_alone(self) -> list[EdgeCommand]:
        if self._budget:
            return []
        return self._finish(verified=False) if self._dry or self._ended() else self._draft_on()

    def _finish(self, verified: bool) -> list[EdgeCommand]:
        complete = verified or self._ended()
        accepted = sum(outcome is TokenOutcome.ACCEPTED for outcome in self._ledger.outcomes)
        outcomes = (*self._ledger.outcomes, *(TokenOutcome.UNVERIFIED for _ in self._guess.tokens))
        counts = replace(self._counts, accepted=accepted)
        return [*self._leave(), Done(self.answer, outcomes, verified, complete, counts)]

    def _give_up(self) -> list[EdgeCommand]:
        """The deadline has passed."""
        sentence = f"No verdict came within {self.request.deadline_s:g} s."
        why = self._turned_away or Error(0, ErrorCode.DEADLINE, sentence)
        lacks_all = self._turned_away is not None and not self.answer
        if self.request.fallback and not lacks_all:
            return self._finish(verified=False)
        return self._fail(why.code, why.sentence)

    def _fail(self, code: str, sentence: str) -> list[EdgeCommand]:
        return [*self._leave(), Failed(code, sentence)]

    def _leave(self) -> list[EdgeCommand]:
        commands: list[EdgeCommand] = [StopDrafting()] if self._drafting else []
        if self.method.uses_cloud:
            commands.append(Send(Close(self.request.action_id)))
        self._budget, self._aside = 0, None
        self._move(EdgeEvent.END)
        return commands
