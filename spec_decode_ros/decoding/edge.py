"""The robot's side of one action: a state machine without socket, thread, model or a clock of its own.

Events are method calls and commands come back as lists. What the cloud has committed is final; the draft is what the
draft model guesses to follow it. As soon as the two differ, the draft is dropped and begun anew after the committed tokens.

    driver                                   machine
    start(now)                         ->    Send(Open), DraftFrom(run 1)
    drafted(run, token)                ->    Show, Send(Draft) at every full chunk
    receive(Committed)                 ->    Show, DraftFrom where the draft was wrong; Done at the end
    receive(Early)                     ->    Show, DraftFrom after the tokens that the pass is going to commit
    receive(Error(BUSY))               ->    nothing for a while, though it drafts on; too late for that: alone, or Failed
    reconnected(known)                 ->    Open again, or a poll where the server may still have the action
    tick(now), at `wake_at`            ->    whatever was lost, again; after the deadline Done or Failed
"""

from __future__ import annotations

from collections.abc import Collection

from spec_decode_ros.decoding.branches import PreparedBranches, SecondChoice
from spec_decode_ros.decoding.commands import Done, DraftFrom, EdgeCommand, Failed, Send, Show, StopDrafting
from spec_decode_ros.decoding.draft_buffer import DraftBuffer
from spec_decode_ros.decoding.message_builder import DraftState, MessageBuilder
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
from spec_decode_ros.decoding.output_tokens import OutputTokens
from spec_decode_ros.decoding.rejection import DraftedToken
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.decoding.resampling import Resampler, separately
from spec_decode_ros.decoding.retry_timer import RetryTimer
from spec_decode_ros.decoding.states import EDGE_TRANSITIONS, WITH_CLOUD, EdgeEvent, EdgeState, next_state
from spec_decode_ros.errors import SpecDecodeError

_FULL = (ErrorCode.BUSY, ErrorCode.DRAINING)
"""Asking again later may help, or asking elsewhere."""


class EdgeMachine:
    """One action on the edge, decoded by `method`. `eos` are the tokens that end an answer."""

    def __init__(self, method: Method, request: Request, eos: Collection[int]) -> None:
        self.state = EdgeState.NEW
        self.method = separately(method) if request.sampling.separate else method
        self.request = request
        self._output = OutputTokens(request.max_tokens)
        self._draft = DraftBuffer(self.method, self._output, request.max_tokens, frozenset(eos))
        self._branches = PreparedBranches(self.method.branches, request.max_tokens, frozenset(eos))
        self._resampler = Resampler(request.sampling)  # only asked where the sampling is separate
        self._messages = MessageBuilder(request, self.method, self._resampler)
        self._timer = RetryTimer(request)
        self._newest = Committed(request.action_id, 0, rounds=0)  # the message with the newest counts
        self._polled_at = -1
        self._turned_away: Error | None = None  # by a server that has not let the action in since
        self._was_open = False  # and whether the action was open then

    @property
    def answer(self) -> tuple[int, ...]:
        """Output tokens and the draft that follows them."""
        return self._draft.answer

    @property
    def wake_at(self) -> float | None:
        """When `tick` is next due, on the clock that `start` and `tick` are told; None for never."""
        if self.state in (EdgeState.NEW, EdgeState.DONE):
            return None
        return self._timer.deadline if self.state is EdgeState.ALONE else self._timer.wake_at

    # ---- events --------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[EdgeCommand]:
        """Begin, at `now` seconds on any steady clock."""
        self._timer.begin(now)
        if not self.method.uses_cloud:
            self._move(EdgeEvent.GO_ALONE)
            return self._draft_on()
        self._move(EdgeEvent.OPEN)
        return [self._opening(), *self._draft_on()]

    def drafted(
        self, run: int, drafted: int | DraftedToken, second: SecondChoice | None = None
    ) -> list[EdgeCommand]:
        """The drafting of that run has made one more token; rejection sampling needs its distribution too.

        `second` would have been its second choice.
        """
        if not self._is_current(run):
            return []
        token = drafted.token if isinstance(drafted, DraftedToken) else drafted
        if self._branches.drafting:
            self._draft.drafted += 1
            return self._allowed(self._branch_ended() if self._branches.append(token, second) else [])
        if isinstance(drafted, DraftedToken):
            self._resampler.drafted(len(self.answer), drafted)
        self._branches.note(self.answer, second)
        self._draft.append(token)
        return self._allowed([self._show(), *self._drafting_moved(), *self._draft_branch()])

    def draft_ended(self, run: int) -> list[EdgeCommand]:
        """The drafting of that run can make no more tokens, though its budget is not used."""
        if not self._is_current(run):
            return []
        if self._branches.drafting:
            return self._allowed(self._branch_ended())
        self._draft.stop()
        self._draft.exhausted = True
        return self._allowed([*self._drafting_moved(), *self._draft_branch()])

    def receive(self, message: Down) -> list[EdgeCommand]:
        """A message has arrived; those of other actions, of other kinds or without news do nothing."""
        if self.state not in WITH_CLOUD:
            return []
        if isinstance(message, Error) and message.action_id in (0, self.request.action_id):
            return self._receive_error(message)
        if not isinstance(message, Opened | Committed | Early) or message.action_id != self.request.action_id:
            return []
        if self.state is not EdgeState.OPEN:
            self._timer.heard()
            self._turned_away = None
        self._move(EdgeEvent.HEARD)
        if isinstance(message, Early):
            return self._receive_early(message)
        return self._receive_committed(message) if isinstance(message, Committed) else []

    def reconnected(self, known: bool) -> list[EdgeCommand]:
        """The connection stands again after a gap, or another one does; `known`: the server may still have the action."""
        if self.state not in WITH_CLOUD:
            return []
        self._timer.heard()
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
        if self._timer.is_over(now):
            return self._give_up()
        if self.state is EdgeState.ALONE:
            return []
        due = self._timer.is_due(now)
        if self.state is EdgeState.TURNED_AWAY:
            return self._return(due, now)
        if not due:
            return []
        return [self._opening()] if self.state is EdgeState.OPENING else self._ask()

    def _return(self, due: bool, now: float) -> list[EdgeCommand]:
        """Ask the server that was full again when it is time for that; it may be too late for it already."""
        assert self._turned_away is not None
        if not due:
            return self._lose(self._turned_away) if self._timer.outlasts(now) else []
        self._timer.shorten()
        if self._was_open:
            self._move(EdgeEvent.HEARD)
            return self._ask()
        self._move(EdgeEvent.ASK_AGAIN)
        return self._reopen()

    def _is_current(self, run: int) -> bool:
        """Whether the news is of the drafting that goes on, and not of one that was replaced."""
        return run == self._draft.run and self._drafting and self.state is not EdgeState.DONE

    def _allowed(self, commands: list[EdgeCommand]) -> list[EdgeCommand]:
        """Nothing goes to a server that is full; what it missed is said when it is asked again."""
        if self.state is not EdgeState.TURNED_AWAY:
            return commands
        return [command for command in commands if not isinstance(command, Send)]

    # ---- messages that arrive ------------------------------------------------------------------------------

    def _receive_committed(self, message: Committed) -> list[EdgeCommand]:
        if not message.tokens and not message.done and message.position < len(self._output.tokens):
            return [Send(self._messages.reminder(self._draft_state, message.position))]
        try:
            fresh = self._output.take(message)
            resampled = self._resample(message, fresh)
        except SpecDecodeError as error:
            sentence = f"The cloud's verdict can't be used: {error}"
            return self._lose(Error(message.action_id, ErrorCode.BAD_MESSAGE, sentence))
        if message.passes > self._newest.passes:
            self._newest = message
        if self._output.complete:
            self._draft.clear()
            return [self._show(), *self._finish(verified=True)] if fresh else self._finish(verified=True)
        commands: list[EdgeCommand] = []
        if fresh:
            self._timer.heard()
            drafting = self._drafting
            self._draft.settle(fresh)
            self._branches.forget(tuple(self._output.tokens))
            commands = self._show_and_draft_on(drafting)
        if resampled and self._draft.server_turn_at == len(self._output.tokens):
            commands.append(self._draft_message(final=True))
        elif resampled and self._draft.sent:
            # The same token was drawn again: the draft stands, and the cloud has to know.
            commands.append(self._draft_message(self._draft.sent))
        if self._output.lacks_some and self._polled_at != len(self._output.tokens):
            self._polled_at = len(self._output.tokens)  # a message is missing: ask at once, and once
            commands.append(self._draft_message())
        return commands

    def _resample(self, message: Committed, fresh: list[int]) -> bool:
        """Draw the token in the place of the draft token after `fresh`, if rejection sampling rejected that.

        Raises SpecDecodeError if what it shall be drawn from is nothing of the kind.
        """
        self._resampler.received(message)
        position = len(self._output.tokens)
        if not message.sparse or position != message.position + len(message.tokens):
            return False
        draft = self._draft.tokens
        if len(draft) <= len(fresh) or draft[: len(fresh)] != fresh:
            return False  # this edge has drafted nothing there
        token = self._resampler.settle(position, message.sparse)
        whole = len(draft) == len(fresh) + 1 and not self._draft.drafting
        self._output.add(token, TokenOutcome.RECOVERED)
        if token == draft[-1] and whole and not self.method.ahead:
            # It stands after all, and so the whole draft does: the place after that is the cloud's.
            self._draft.server_turn_at = len(self._output.tokens)
        fresh.append(token)
        if self._draft.ended_at(self._output.tokens):
            self._output.end = len(self._output.tokens)
        return True

    def _receive_early(self, message: Early) -> list[EdgeCommand]:
        """Put the prediction of an early exit into the draft, and draft on after it while the pass goes on."""
        committed = self._output.tokens
        settled = committed[message.position :]
        predicted = list(message.tokens[len(settled) :])
        if not self.method.early or message.position > len(committed) or not predicted:
            return []
        if list(message.tokens[: len(settled)]) != settled:
            return []  # late, and wrong already: what it says of the rest follows another text
        del predicted[self.request.max_tokens - len(committed) :]
        drafting = self._drafting
        self._draft.predict(predicted)
        return self._show_and_draft_on(drafting)

    def _receive_error(self, error: Error) -> list[EdgeCommand]:
        if error.code == ErrorCode.UNKNOWN_ACTION:
            forgotten = (
                self.state is EdgeState.OPEN
            )  # else its Open is lost or on its way, and `tick` repeats it
            self._move(EdgeEvent.FORGOTTEN)
            if not forgotten:
                return []
            self._timer.shorten()
            return self._reopen()
        if error.code not in _FULL or not error.retry_ms:
            return self._lose(error)
        return self._turn_away(error) if error.action_id else []  # else it is not about this action

    def _turn_away(self, error: Error) -> list[EdgeCommand]:
        """Leave a full server alone for a while, and draft meanwhile."""
        if self.state is not EdgeState.TURNED_AWAY:
            self._was_open = self.state is EdgeState.OPEN
            self._turned_away = error
            self._timer.pause(error.retry_ms)
            self._move(EdgeEvent.TURN_AWAY)
        return []

    def _lose(self, error: Error) -> list[EdgeCommand]:
        """The cloud will not say more of this action."""
        if not (self.request.fallback and self.method.uses_draft_model):
            return self._fail(error.code, error.sentence)
        self._move(EdgeEvent.GO_ALONE)
        return self._go_on_alone()

    # ---- messages that are sent ----------------------------------------------------------------------------

    def _opening(self) -> Send:
        return Send(self._messages.opening(self._draft_state))

    def _draft_message(self, length: int = 0, final: bool = False) -> Send:
        """The first `length` draft tokens; a poll if there are none."""
        return Send(self._messages.draft(self._draft_state, length, final))

    def _reopen(self) -> list[EdgeCommand]:
        """Open the action at a server that does not know it, and say what an earlier one was told."""
        sent = self._draft.sent if self.request.sampling.separate or not self._output.tokens else 0
        return [self._opening(), *([self._draft_message(sent)] if sent else [])]

    def _ask(self) -> list[EdgeCommand]:
        """Whatever may be lost of what was said to the server or by it, again."""
        if self._draft.nothing_to_propose:
            return [self._draft_message(final=True)]
        sent = self._draft.sent
        return [*([self._draft_message(sent)] if sent else []), self._draft_message()]

    @property
    def _draft_state(self) -> DraftState:
        return self._draft.state(self._newest.rounds)

    # ---- drafting ------------------------------------------------------------------------------------------

    def _draft_on(self) -> list[EdgeCommand]:
        """Begin to draft after the answer as it stands, if that is this method's turn."""
        alone = self.state is EdgeState.ALONE
        if not self._draft.may_draft(alone):
            return []
        run = self._draft.begin_run(alone)
        if run is None:
            return self._poll_without_draft()
        self._branches.stop()
        return [run]

    def _drafting_moved(self) -> list[EdgeCommand]:
        """A token more, or the end of the drafting: send it, or finish, if it is time for that."""
        if self.state is EdgeState.ALONE:
            return self._go_on_alone()
        return self._send_draft() or self._poll_without_draft()

    def _send_draft(self) -> list[EdgeCommand]:
        length = self._draft.take_unsent()
        return [self._draft_message(length)] if length else []

    def _poll_without_draft(self) -> list[EdgeCommand]:
        return [self._draft_message(final=True)] if self._draft.nothing_to_propose else []

    def _show_and_draft_on(self, drafting: bool) -> list[EdgeCommand]:
        """Show the changed answer and draft on; `drafting` says whether a drafting went on before the change."""
        prepared = () if self._draft.drafting or self._draft.ended else self._branches.take(self.answer)
        self._draft.tokens += prepared
        onward = [*self._draft_on(), *(self._send_draft() if prepared else []), *self._draft_branch()]
        replaced = any(isinstance(command, DraftFrom) for command in onward)
        stop: list[EdgeCommand] = [StopDrafting()] if drafting and not self._drafting and not replaced else []
        return [*stop, self._show(), *onward]

    @property
    def _drafting(self) -> bool:
        """Whether the driver drafts, for the answer or for a branch."""
        return self._draft.drafting or self._branches.drafting

    def _draft_branch(self) -> list[EdgeCommand]:
        """While there is nothing else to draft, prepare for the likeliest rejection."""
        if self._draft.drafting or self.state not in WITH_CLOUD:
            return []
        begun = self._branches.begin(tuple(self._output.tokens), tuple(self._draft.tokens))
        return [self._draft.next_run(*begun)] if begun else []

    def _branch_ended(self) -> list[EdgeCommand]:
        self._branches.stop()
        tree = self._branches.tree(self._output.tokens)
        sent: list[EdgeCommand] = [Send(self._messages.branches(self._draft_state, tree))] if tree else []
        return [*sent, *self._draft_branch()]

    def _show(self) -> Show:
        return Show(self.answer, len(self._output.tokens))

    # ---- the end -------------------------------------------------------------------------------------------

    def _go_on_alone(self) -> list[EdgeCommand]:
        if self._draft.drafting:
            return []
        return (
            self._finish(verified=False) if self._draft.exhausted or self._draft.ended else self._draft_on()
        )

    def _finish(self, verified: bool) -> list[EdgeCommand]:
        outcomes = (*self._output.outcomes, *(TokenOutcome.UNVERIFIED for _ in self._draft.tokens))
        complete = verified or self._draft.ended
        counts = self._draft.counts(self._newest, self._branches.used)
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
        self._draft.stop()
        self._branches.stop()
        self._move(EdgeEvent.END)
        return commands

    def _move(self, event: EdgeEvent) -> None:
        self.state = next_state(EDGE_TRANSITIONS, self.state, event)
