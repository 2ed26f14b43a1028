"""The robot's side of one action: a state machine without socket, thread, model or a clock of its own.

Events go in as method calls, commands come out as lists. What the cloud has committed is the truth; the draft
is what the draft model guesses to follow it. As soon as the two differ, the draft is dropped and begun anew
after the committed tokens.

    driver                                   machine
    start(now)                         ->    Send(Open), DraftFrom(run 1)
    drafted(run, token)                ->    Show, Send(Draft) at every full chunk
    receive(Committed)                 ->    Show, DraftFrom where the draft was wrong; Done at the end
    receive(Early)                     ->    Show, DraftFrom after what the verdict is going to be
    tick(now), at `wake_at`            ->    whatever was lost, again; after the deadline Done or Failed
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from spec_decode_ros.decoding.acceptance import accepted_length
from spec_decode_ros.decoding.branches import LENGTH, RunnerUp
from spec_decode_ros.decoding.branches import Branches as PreparedBranches
from spec_decode_ros.decoding.commands import (
    Counts,
    Done,
    DraftFrom,
    EdgeCommand,
    Failed,
    Send,
    Show,
    StopDrafting,
)
from spec_decode_ros.decoding.edge_states import TRANSITIONS, WITH_CLOUD, Event, State
from spec_decode_ros.decoding.ledger import Ledger
from spec_decode_ros.decoding.messages import (
    Branches,
    Close,
    Committed,
    Down,
    Draft,
    Early,
    Error,
    ErrorCode,
    Fate,
    Open,
    Opened,
    ServerMode,
)
from spec_decode_ros.decoding.methods import Method
from spec_decode_ros.decoding.patience import Patience
from spec_decode_ros.decoding.rejection import DraftedToken
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.decoding.resampling import Resampler, separately
from spec_decode_ros.errors import SpecDecodeError

TURNS_AWAY = (ErrorCode.BUSY, ErrorCode.DRAINING)
"""Asking again later may help, or asking elsewhere."""


class EdgeMachine:
    """One action on the edge, decoded by `method`. `eos` are the tokens that end an answer."""

    def __init__(self, method: Method, request: Request, eos: Collection[int]) -> None:
        self.state = State.NEW
        self.method = separately(method) if request.sampling.separate else method
        self.request = request
        self._eos = frozenset(eos)
        # The answer: committed tokens, then the draft.
        self._ledger = Ledger(request.max_tokens)
        self._draft: list[int] = []
        self._sent = 0  # how much of the draft the cloud was told
        self._foreseen = 0  # how much of the draft an early exit has put there or not objected to
        self._told: list[int] = []  # what an exit has said follows the committed tokens
        self._preempted = 0  # how many tokens were drafted after that
        # The drafting that is going on.
        self._run = 0
        self._budget = 0  # tokens still to come from it; 0 when there is none
        self._dry = False  # the draft model can say nothing after this answer
        self._clouds_turn = -1  # with separate rejection sampling: a place after which nothing is drafted
        # What is prepared for corrections.
        self._branches = PreparedBranches(method.branches)
        self._aside: tuple[int, ...] | None = None  # the text after which a branch is being drafted
        # Loss and time.
        self._patience = Patience(request)
        self._polled_at = -1
        self._turned_away: Error | None = None  # by a server that has not let the action in since
        self._was_open = False  # and whether the action was open then
        self._counts = Counts()
        self._resampler = Resampler(request.sampling)  # only asked where the sampling is separate

    @property
    def _committed(self) -> list[int]:
        return self._ledger.tokens

    @property
    def answer(self) -> tuple[int, ...]:
        """Committed tokens and the draft that follows them."""
        return (*self._committed, *self._draft)

    @property
    def wake_at(self) -> float | None:
        """When `tick` is next due, on the clock that `start` and `tick` are told; None for never."""
        if self.state in (State.NEW, State.DONE):
            return None
        return self._patience.deadline if self.state is State.ALONE else self._patience.wake_at

    # ---- events --------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[EdgeCommand]:
        """Begin, at `now` seconds on any steady clock."""
        self._patience.begin(now)
        if not self.method.uses_cloud:
            self._move(Event.GO_ALONE)
            return self._draft_on()
        self._move(Event.OPEN)
        return [self._open(), *self._draft_on()]

    def drafted(
        self, run: int, said: int | DraftedToken, runner_up: RunnerUp | None = None
    ) -> list[EdgeCommand]:
        """The drafting of that run has made one more token; separate rejection sampling needs all about it.

        `runner_up` would have been its second choice.
        """
        if run != self._run or not self._drafting or self.state is State.DONE:
            return []  # of a run that was replaced
        token = said.token if isinstance(said, DraftedToken) else said
        if self._aside is not None:
            return self._allowed(self._drafted_aside(self._aside, token, runner_up))
        if isinstance(said, DraftedToken):
            self._resampler.drafted(len(self.answer), said)
        self._note(self.answer, runner_up)
        self._draft.append(token)
        self._preempted += bool(self._told)
        self._count(drafted_on_edge=1, preempted=int(bool(self._told)))
        self._budget = 0 if token in self._eos else self._budget - 1
        return self._allowed([self._show(), *self._drafting_moved(), *self._draft_aside()])

    def draft_ended(self, run: int) -> list[EdgeCommand]:
        """The drafting of that run can make no more tokens, though its budget is not used."""
        if run != self._run or not self._drafting or self.state is State.DONE:
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
        if self.state is not State.OPEN:
            self._patience.heard()
            self._turned_away = None
        self._move(Event.HEARD)
        if isinstance(message, Early):
            return self._receive_early(message)
        return self._receive_committed(message) if isinstance(message, Committed) else []

    def reconnected(self, known: bool) -> list[EdgeCommand]:
        """The connection stands again after a gap, or another one does; `known`: the server may still have the action."""
        if self.state not in WITH_CLOUD:
            return []
        self._patience.heard()
        if known and self.state is State.OPEN:
            return self._ask()
        if self.state is State.TURNED_AWAY:
            self._move(Event.ASK_AGAIN)
        self._move(Event.FORGOTTEN)
        return self._reopen()

    def tick(self, now: float) -> list[EdgeCommand]:
        """Time has passed. Call it at `wake_at` or more often."""
        if self.state in (State.NEW, State.DONE):
            return []
        if self._patience.is_over(now):
            return self._give_up()
        if self.state is State.ALONE:
            return []
        due = self._patience.is_due(now)
        if self.state is State.TURNED_AWAY:
            return self._return(due, now)
        if not due:
            return []
        return [self._open()] if self.state is State.OPENING else self._ask()

    def _return(self, due: bool, now: float) -> list[EdgeCommand]:
        """Ask the server that was full again when it is time for that; it may be too late for it already."""
        assert self._turned_away is not None
        if not due:
            return self._lose(self._turned_away) if self._patience.outlasts(now) else []
        self._patience.shorten()
        if self._was_open:
            self._move(Event.HEARD)
            return self._ask()
        self._move(Event.ASK_AGAIN)
        return self._reopen()

    def _allowed(self, commands: list[EdgeCommand]) -> list[EdgeCommand]:
        """Nothing goes to a server that is full; what it missed is said when it is asked again."""
        if self.state is not State.TURNED_AWAY:
            return commands
        return [command for command in commands if not isinstance(command, Send)]

    # ---- what the messages mean ----------------------------------------------------------------------------

    def _receive_committed(self, message: Committed) -> list[EdgeCommand]:
        if not message.tokens and not message.done and message.position < len(self._committed):
            return [self._remind(message.position)]
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
            self._draft.clear()
            return [self._show(), *self._finish(verified=True)] if fresh else self._finish(verified=True)
        commands = self._resolve(fresh) if fresh else []
        if settled and self._clouds_turn == len(self._committed):
            commands.append(self._message(final=True))
        elif (
            settled and self._sent
        ):  # the same token was drawn again: the draft stands, and the cloud has to know
            commands.append(self._message(self._sent))
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
        if len(self._draft) <= len(fresh) or self._draft[: len(fresh)] != fresh:
            return False  # this edge has drafted nothing there
        token = self._resampler.settle(position, message.sparse)
        whole = len(self._draft) == len(fresh) + 1 and not self._budget
        self._ledger.add(token, Fate.CORRECTED)
        if token == self._draft[-1] and whole and not self.method.ahead:
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
        right = self._draft[: len(fresh)] == fresh
        self._judge_foresight(fresh)
        drafting = self._drafting
        if right:
            del self._draft[: len(fresh)]
            self._sent = max(0, self._sent - len(fresh))
            self._foreseen = max(0, self._foreseen - len(fresh))
        else:  # a token was wrong, or the cloud is ahead: what is being drafted is of no use
            self._draft.clear()
            self._sent = self._budget = self._foreseen = 0
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
        agreed = accepted_length(self._draft, told)
        drafting = self._drafting
        if agreed < len(told):
            self._draft[agreed:] = told[agreed:]
            self._sent = min(self._sent, agreed)
            self._budget, self._dry = 0, False
            self._preempted = 0
        # What the exit was not sure of counts as right as long as nothing speaks against it.
        self._foreseen = len(self._draft)
        self._told = told
        return self._shown_and_drafted_on(drafting)

    def _judge_foresight(self, fresh: list[int]) -> None:
        """Count whether the verdict was as an early exit had said, and what the drafting after that was worth."""
        agreed = accepted_length(self._told, fresh)
        if not self._told or agreed == len(fresh) < len(self._told):
            self._told = self._told[agreed:]  # right so far
            return
        hit = agreed == len(self._told)
        used = hit and self._draft[: len(fresh)] == fresh
        self._count(foresights=1, foresights_right=int(hit), preempted_used=self._preempted if used else 0)
        self._told, self._preempted = [], 0

    def _shown_and_drafted_on(self, drafting: bool) -> list[EdgeCommand]:
        """Show the changed answer and draft on; `drafting` says whether a drafting went on before the change."""
        found = self._look_up()
        onward = [*self._draft_on(), *(self._send_draft() if found else []), *self._draft_aside()]
        replaced = any(isinstance(command, DraftFrom) for command in onward)
        stop: list[EdgeCommand] = [StopDrafting()] if drafting and not self._drafting and not replaced else []
        return [*stop, self._show(), *onward]

    def _count(self, **more: int) -> None:
        self._counts = replace(
            self._counts, **{name: getattr(self._counts, name) + value for name, value in more.items()}
        )

    def _receive_error(self, error: Error) -> list[EdgeCommand]:
        if error.code == ErrorCode.UNKNOWN_ACTION:
            forgotten = self.state is State.OPEN  # else its Open is lost or on its way, and `tick` repeats it
            self._move(Event.FORGOTTEN)
            if not forgotten:
                return []
            self._patience.shorten()
            return self._reopen()
        if error.code not in TURNS_AWAY or not error.retry_ms:
            return self._lose(error)
        return self._turn_away(error) if error.action_id else []  # else it is not about this action

    def _turn_away(self, error: Error) -> list[EdgeCommand]:
        """Leave a full server alone for a while, and draft meanwhile."""
        if self.state is not State.TURNED_AWAY:
            self._was_open = self.state is State.OPEN
            self._turned_away = error
            self._patience.pause(error.retry_ms)
            self._move(Event.TURN_AWAY)
        return []

    def _lose(self, error: Error) -> list[EdgeCommand]:
        """The cloud will not say more of this action."""
        if not (self.request.fallback and self.method.uses_draft_model):
            return self._fail(error.code, error.sentence)
        self._move(Event.GO_ALONE)
        return self._go_on_alone()

    # ---- drafting ------------------------------------------------------------------------------------------

    def _draft_on(self) -> list[EdgeCommand]:
        """Begin to draft after the answer as it stands, if that is this method's turn."""
        if not self.method.uses_draft_model or self._budget or self._dry or self._ended():
            return []
        if self._clouds_turn == len(self._committed):
            return []
        room = self.request.max_tokens - len(self.answer)
        if self.state is State.ALONE:
            self._budget = room
        elif self._foreseen < len(self._draft) and not self.method.ahead:
            return []  # stop and wait
        else:  # the cloud adds the last token anyway
            unknown = len(self._draft) - self._foreseen
            self._budget = max(0, min(self.method.window - unknown, room - 1))
        if self._budget:
            self._run += 1
            self._aside = None
            return [DraftFrom(self._run, self.answer, self._budget)]
        return [self._message(final=True)] if self._has_nothing_to_propose() else []

    def _drafting_moved(self) -> list[EdgeCommand]:
        """A token more, or the end of the drafting: send it, or finish, if it is time for that."""
        if self.state is State.ALONE:
            return self._go_on_alone()
        return self._send_draft() or ([self._message(final=True)] if self._has_nothing_to_propose() else [])

    def _send_draft(self) -> list[EdgeCommand]:
        """What of the draft the cloud was not told, if it is enough or all that there is for now."""
        new = len(self._draft) - self._sent
        if new and (new >= self.method.chunk or not self._budget):
            self._sent = len(self._draft)
            return [self._message(self._sent)]
        return []

    def _go_on_alone(self) -> list[EdgeCommand]:
        if self._budget:
            return []
        return self._finish(verified=False) if self._dry or self._ended() else self._draft_on()

    # ---- branches ------------------------------------------------------------------------------------------

    @property
    def _drafting(self) -> bool:
        """Whether the driver drafts, for the answer or for a branch."""
        return bool(self._budget) or self._aside is not None

    def _draft_aside(self) -> list[EdgeCommand]:
        """While there is nothing else to draft, prepare for the likeliest correction."""
        if self._budget or self.state not in WITH_CLOUD:
            return []
        if self._aside is not None:
            if self._aside[: len(self._committed)] == tuple(self._committed):
                return []
            self._aside = None
        if not self.method.branches:
            return []
        place = self._branches.place(tuple(self._committed), tuple(self._draft))
        if place is None or len(place) + 1 >= self.request.max_tokens:
            return []
        self._aside = place
        self._branches.begin(place)
        self._run += 1
        return [DraftFrom(self._run, place, min(LENGTH, self.request.max_tokens - len(place) - 1))]

    def _drafted_aside(
        self, place: tuple[int, ...], token: int, runner_up: RunnerUp | None
    ) -> list[EdgeCommand]:
        made = self._branches.after(place)
        self._note((*place, *made), runner_up)
        self._branches.extend(place, token)
        self._count(drafted_on_edge=1)
        enough = min(LENGTH, self.request.max_tokens - len(place) - 1)
        return self._branch_ended() if token in self._eos or len(made) + 1 >= enough else []

    def _note(self, text: tuple[int, ...], runner_up: RunnerUp | None) -> None:
        if self.method.branches and runner_up is not None and runner_up[0] not in self._eos:
            self._branches.note(text, runner_up)

    def _branch_ended(self) -> list[EdgeCommand]:
        self._aside = None
        return [*self._send_branches(), *self._draft_aside()]

    def _send_branches(self) -> list[EdgeCommand]:
        tree = self._branches.tree(self._committed)
        if not (self.method.sends_branches and tree):
            return []
        parents = tuple(parent if parent >= 0 else node for node, parent in enumerate(tree.parents))
        position, round_ = len(self._committed), self._counts.round_trips + 1
        return [Send(Branches(self.request.action_id, position, tree.tokens, parents, round_))]

    def _look_up(self) -> bool:
        """Go on from what was prepared after the answer as it stands, if anything was."""
        found = () if self._budget or self._ended() else self._branches.after(self.answer)
        self._draft += found
        self._count(branches_used=int(bool(found)))
        return bool(found)

    def _has_nothing_to_propose(self) -> bool:
        """Whether the server waits for a draft that will not come."""
        waits = self.method.server is ServerMode.VERIFY_ONLY or self.method.yields
        return waits and not self._draft and not self._budget

    def _ended(self) -> bool:
        """Whether nothing can follow the answer as it stands."""
        return self._ended_at(self.answer)

    def _ended_at(self, answer: Sequence[int]) -> bool:
        return (bool(answer) and answer[-1] in self._eos) or len(answer) >= self.request.max_tokens

    # ---- messages ------------------------------------------------------------------------------------------

    def _open(self) -> Send:
        request, method = self.request, self.method
        assert method.server is not None
        guess = request.previous if method.temporal else ()
        settled = len(self._committed) if request.sampling.separate else 0
        if settled and guess[:settled] != self.answer[:settled]:
            guess = self.answer[:settled]
        elif (
            self._committed and not settled
        ):  # a server that has forgotten the action can confirm it in one pass
            guess = self.answer
        return Send(
            Open(
                request.action_id,
                request.prompt,
                request.images,
                request.sampling,
                method.server,
                guess,
                request.max_tokens,
                method.patience_ms,
                method.early,
                method.yields,
                settled,
            )
        )

    def _reopen(self) -> list[EdgeCommand]:
        """Open the action at a server that does not know it, and say what an earlier one was told."""
        told = self._sent and (self.request.sampling.separate or not self._committed)
        return [self._open(), *([self._message(self._sent)] if told else [])]

    def _ask(self) -> list[EdgeCommand]:
        """Whatever may be lost of what was said to the server or by it, again."""
        if self._has_nothing_to_propose():
            return [self._message(final=True)]
        return [*([self._message(self._sent)] if self._sent else []), self._message()]

    def _message(self, length: int = 0, final: bool = False) -> Send:
        """The first `length` draft tokens; a poll if there are none."""
        if self.request.sampling.separate:
            return self._sampled_message(self._resampler.unconfirmed, length, final)
        last = bool(length) and not self._budget and length == len(self._draft)
        return Send(
            Draft(
                self.request.action_id,
                len(self._committed),
                tuple(self._draft[:length]),
                final=final or last,
                round=self._counts.round_trips + 1,
            )
        )

    def _sampled_message(self, position: int | None, length: int, final: bool = False) -> Send:
        """What is settled from `position` on (by default nothing), and the first `length` draft tokens."""
        known = len(self._committed)
        settled = 0 if position is None else known - position
        whole = bool(length) and not self._budget and length == len(self._draft)
        if self.method.ahead:  # it drafts on behind a full window as soon as a verdict comes
            whole = whole and (self._dry or len(self.answer) >= self.request.max_tokens - 1)
        return Send(
            Draft(
                self.request.action_id,
                known - settled,
                self.answer[known - settled : known + length],
                final=final or whole,
                round=self._counts.round_trips + 1,
                probabilities=(1.0,) * settled + self._resampler.probabilities(known, known + length),
                settled=settled,
            )
        )

    def _remind(self, position: int) -> Send:
        """All that is known from `position` on, for a server that began anew and has no more than that."""
        if self.request.sampling.separate:
            return self._sampled_message(position, len(self._draft))
        known = self.answer[position:]
        return Send(Draft(self.request.action_id, position, known, round=self._counts.round_trips + 1))

    def _show(self) -> Show:
        return Show(self.answer, len(self._committed))

    # ---- the end -------------------------------------------------------------------------------------------

    def _finish(self, verified: bool) -> list[EdgeCommand]:
        complete = verified or self._ended()
        accepted = sum(fate is Fate.ACCEPTED for fate in self._ledger.fates)
        fates = (*self._ledger.fates, *(Fate.UNVERIFIED for _ in self._draft))
        counts = replace(self._counts, accepted=accepted)
        return [*self._leave(), Done(self.answer, fates, verified, complete, counts)]

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
        self._move(Event.END)
        return commands

    def _move(self, event: Event) -> None:
        try:
            self.state = TRANSITIONS[self.state][event]
        except KeyError:
            raise RuntimeError(
                f"The edge machine cannot take {event.name} while {self.state.name}."
            ) from None
