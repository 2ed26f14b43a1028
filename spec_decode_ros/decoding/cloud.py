"""The cloud's side of one action: a state machine without socket, clock, thread or model.

Events go in as method calls, commands come out as lists, in the manner of h11. The sequence that it has
committed is the truth; drafts are hints about what follows and may come at any time, in any state.

    driver                                   machine
    receive(Open)                      ->    Send(Opened), Prepare
    prepared()                         ->    RunPass(draft that has arrived by now)
    pass_begins() (optional)           ->    the same RunPass with the drafts that came while it stood in line
    early(choices, confidences, sure)  ->    Send(Early), where the edge asked for such and the exit is sure
    pass_finished(choices, busy_ms)    ->    Send(Committed), RunPass | Wait | nothing | Finished
    trial_finished(distributions, ...) ->    the same, with separate rejection sampling
    receive(Draft)                     ->    RunPass, where one was wanting; Send(Committed) to a poll
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from spec_decode_ros.decoding.acceptance import early_exit_prediction, until_end
from spec_decode_ros.decoding.cloud_states import TRANSITIONS, CloudEvent, CloudState
from spec_decode_ros.decoding.commands import CloudCommand, Finished, Prepare, RunPass, Send, Wait
from spec_decode_ros.decoding.controller import Measurements
from spec_decode_ros.decoding.distribution import Distribution
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
    ServerMode,
    TokenOutcome,
)
from spec_decode_ros.decoding.proposals import Continuation, ReceivedDrafts
from spec_decode_ros.decoding.separate import Separate, Trial
from spec_decode_ros.decoding.tree import judge_tree

_ENDLESS = 2**31 - 1


class CloudMachine:
    """One action in the cloud.

    Args:
        eos: tokens that end an answer.
        widest: no pass is over more draft tokens than that.
        own: how many tokens the server's own draft model drafts for a pass; 0 where it has none.
        wild: how many tokens of drafts that were wrong before may stand in a pass, as a guess at what follows.
        measured: what the server has measured, which tells whether a draft of its own is better than one that is there;
            without it none is.
        nodes: where drafts disagree, so many tokens of the others may stand in a pass beside the best one, as a
            tree; 0 for a target that takes no trees.
    """

    def __init__(
        self,
        eos: Collection[int],
        widest: int = 32,
        own: int = 0,
        nodes: int = 0,
        wild: int = 32,
        measured: Measurements | None = None,
    ) -> None:
        self.state = CloudState.NEW
        self.sampling = Sampling()
        self._eos = frozenset(eos)
        self._widest = widest
        self._context = _ENDLESS
        self._own = own
        self._open: Open | None = None
        self._error: Error | None = None
        self._committed: list[int] = []
        self._fates: list[TokenOutcome] = []
        self._proposals = ReceivedDrafts(self._eos, nodes, wild, measured)
        self._foretold: tuple[int, ...] = ()  # what the edge was told about the pass that runs
        self._crowded = False  # other robots wait for the target
        self._alone_at = -1  # where the edge has asked for a token without proposing one
        self._held_back = False  # a Wait runs
        self._waited = False  # a Wait has passed and no draft came since
        self._passes = 0
        self._drafted = 0
        self._busy_ms = 0.0
        self._rounds = 1
        self._separate = Separate(self._eos)  # only asked where the sampling is separate
        self._trial = Trial()

    @property
    def committed(self) -> tuple[int, ...]:
        return tuple(self._committed)

    @property
    def figures(self) -> tuple[int, int, int]:
        """Passes so far, draft tokens of the edge in them, and how many of these were accepted."""
        return self._passes, self._drafted, self._fates.count(TokenOutcome.ACCEPTED)

    @property
    def own_judged(self) -> tuple[int, int]:
        """Of the tokens that the server drafted by itself: how many the target looked at one by one, and accepted."""
        return self._proposals.own_judged

    @property
    def wild_judged(self) -> tuple[int, int]:
        """The same of tokens from drafts that were wrong before, whether a pass was over them or not."""
        return self._proposals.wild_judged

    @property
    def tells_early(self) -> bool:
        """Whether the edge wants to hear from early exits."""
        return self._open is not None and self._open.early

    @property
    def yielding(self) -> bool:
        """Whether the action waits for a draft only because other robots wait for the target."""
        return self.state is CloudState.WAITING and self._yields_now

    @property
    def has_draft(self) -> bool:
        """Whether a draft from the edge waits that is at least as good as one of the server's own."""
        if self._open is None:
            return False
        rest = self._best()
        return bool(rest.tokens) and not self._own_instead_of(rest)

    # ---- events --------------------------------------------------------------------------------------------

    def receive(self, message: Open | Draft | Branches | Close) -> list[CloudCommand]:
        """A message of this action has arrived."""
        if isinstance(message, Close):
            return self._close()
        if self.state in (CloudState.CLOSING, CloudState.CLOSED):
            return []
        if isinstance(message, Open):
            return self._receive_open(message)
        if isinstance(message, Branches):
            return self._receive_branches(message)
        return self._receive_draft(message)

    def prepared(self, busy_ms: float = 0.0, context: int = _ENDLESS) -> list[CloudCommand]:
        """The prompt is ready for the target, which cost so much of the target's time.

        `context` is how many tokens of answer and draft fit behind it.
        """
        self._busy_ms += busy_ms
        self._context = context
        self._move(CloudEvent.PREPARED)
        return [Finished()] if self.state is CloudState.CLOSED else self._next_pass()

    def pass_begins(self, own: Sequence[int] = (), instead: Sequence[tuple[int, ...]] = ()) -> RunPass:
        """The pass that was asked for, with what has come since: for a driver whose passes wait in line.

        `own` is what the server's own draft model made of a `RunPass` that asked for it; a draft from the edge that
        is at least as good goes first. `instead` are beginnings of it with a second choice behind, for a target that
        takes trees.
        """
        if self.sampling.separate:
            return self._trial_begins()
        if self.state is CloudState.PASSING:
            self._lay_out(until_end(own, self._eos), instead)
        return self._the_pass()

    def early(self, choices: Sequence[int], confidences: Sequence[float], sure: float) -> list[CloudCommand]:
        """An early exit says in the middle of a pass what it would choose, in the places that the pass will choose for.

        The edge is told as far as the confidences are at least `sure`.
        """
        if self.state is not CloudState.PASSING or not self.tells_early or not self._proposals.tree.is_line:
            return []
        assert self._open is not None
        tokens = early_exit_prediction(
            self._proposals.line, choices, confidences, sure, self._eos, self._room()
        )
        if not tokens or tokens == self._foretold:
            return []
        self._foretold = tokens
        confidence = float(min(confidences[: len(tokens)]))
        return [Send(Early(self._open.action_id, len(self._committed), tokens, confidence))]

    def crowd(self, others_wait: bool) -> list[CloudCommand]:
        """Whether other robots wait for the target, which matters to an action that yields to them."""
        self._crowded = others_wait
        return self._next_pass() if self.state is CloudState.WAITING and not others_wait else []

    def pass_finished(self, choices: Sequence[int], busy_ms: float = 0.0) -> list[CloudCommand]:
        """The pass has returned the target's choices, one more than it had draft tokens."""
        if self.state is CloudState.CLOSING:
            self._move(CloudEvent.PASSED)
            return [Finished()]
        position = len(self._committed)
        verdict, _ = judge_tree(self._proposals.tree, choices, self._eos, self._room())
        self._passes += 1
        self._busy_ms += busy_ms
        outcomes = self._proposals.judge(verdict.tokens)
        self._drafted += self._proposals.guessed.height
        if self._proposals.guessed:
            self._rounds = max(
                self._rounds, self._round_of(verdict.tokens[: outcomes.count(TokenOutcome.ACCEPTED)])
            )
        self._committed += verdict.tokens
        self._fates += outcomes
        self._move(CloudEvent.ENDED if verdict.done else CloudEvent.PASSED)
        news = Send(self._report(position))
        return [news, Finished()] if verdict.done else [news, *self._next_pass()]

    def trial_finished(self, targets: Sequence[Distribution], busy_ms: float = 0.0) -> list[CloudCommand]:
        """With separate rejection sampling: the pass has returned the target's warped distributions in those places."""
        if self.state is CloudState.CLOSING:
            self._move(CloudEvent.PASSED)
            return [Finished()]
        position, trial = len(self._committed), self._trial
        verdict = self._separate.judge(trial, targets, position, self.sampling, self._room())
        self._passes += 1
        self._busy_ms += busy_ms
        self._drafted += len(trial.tokens)
        self._rounds = max(self._rounds, trial.round)
        self._committed += verdict.tokens
        self._fates += verdict.outcomes
        self._move(CloudEvent.ENDED if verdict.done else CloudEvent.PASSED)
        news = Send(self._report(position))
        return [news, Finished()] if verdict.done else [news, *self._next_pass()]

    def waited(self) -> list[CloudCommand]:
        """The time of a `Wait` is over."""
        if self.state is not CloudState.WAITING or not self._held_back:
            return []
        self._waited = True
        return self._run()

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

    # ---- what the messages mean ----------------------------------------------------------------------------

    def _receive_open(self, message: Open) -> list[CloudCommand]:
        if self._error:
            return [Send(self._error)]
        opened = Send(Opened(message.action_id))
        if self._open:  # repeated: the edge has heard nothing yet
            return [opened, Send(self._report(0))] if self._committed else [opened]
        self._open = message
        self.sampling = message.sampling
        if self.sampling.separate:
            self._separate.opened(message)
        elif message.draft:
            self._proposals.open(0, message.draft)
        self._move(CloudEvent.OPEN)
        return [opened, Prepare()]

    def _receive_draft(self, message: Draft) -> list[CloudCommand]:
        if self._error:
            return [Send(self._error)]
        self._separate.hear(message)
        if self.sampling.separate:
            return self._answer_sampled(message)
        if len(message.tokens) > message.settled:
            self._proposals.keep(message.position, message.tokens, message.round)
            self._waited = False
        elif self._open is None:  # its Open is lost, or was said to a server that has been restarted
            sentence = f"Action {message.action_id} is not open here; open it again."
            return [Send(Error(message.action_id, ErrorCode.UNKNOWN_ACTION, sentence))]
        elif message.final and message.position == len(self._committed):
            self._alone_at = message.position
        else:
            return [Send(self._report(min(message.position, len(self._committed))))]
        return self._next_pass() if self.state is CloudState.WAITING else []

    def _receive_branches(self, message: Branches) -> list[CloudCommand]:
        if self._error or not self._proposals.keep_branches(message):
            return []
        return self._next_pass() if self.state is CloudState.WAITING else []

    def _close(self) -> list[CloudCommand]:
        if self.state in (CloudState.CLOSING, CloudState.CLOSED):
            return []
        holds_target = self.state is CloudState.WAITING
        self._move(CloudEvent.CLOSE)
        return [Finished()] if holds_target else []

    # ---- choosing the next pass ----------------------------------------------------------------------------

    def _next_pass(self) -> list[CloudCommand]:
        """The one place where the server decides: verify a draft, go on alone, or wait."""
        assert self._open is not None
        if self.sampling.separate:
            return self._settle_and_try()
        goes_on = self._open.mode is not ServerMode.VERIFY_ONLY and not self._yields_now
        if self._best().tokens or self._alone_at == len(self._committed):
            return self._run()
        if self._passes and not goes_on:
            return []
        if self._open.patience_ms and not self._waited:
            if self._held_back:
                return []
            self._held_back = True
            return [Wait(self._open.patience_ms)]
        return self._run()

    @property
    def _yields_now(self) -> bool:
        return self._crowded and self._open is not None and self._open.yields

    def _best(self) -> Continuation:
        """The edge's most promising draft of what follows the committed tokens."""
        assert self._open is not None
        wildly = self._open.mode is not ServerMode.VERIFY_ONLY
        return self._proposals.best(self._committed, wildly, self._own_tokens())

    def _own_tokens(self) -> int:
        """How many tokens the server can draft by itself for the next pass."""
        assert self._open is not None
        return min(self._own, self._longest()) if self._open.mode is ServerMode.SELF_DRAFT else 0

    def _own_instead_of(self, rest: Continuation) -> int:
        """How many tokens the server drafts by itself because that draft of the edge is not as good; 0 where it is.

        The first pass does not wait for that: it takes long, as it reads the prompt, and the edge drafts meanwhile.
        """
        own = self._own_tokens()
        if rest.tokens and (not self._passes or self._yields_now):
            return 0
        return 0 if self._proposals.pays(self._committed, rest, own) else own

    def _run(self) -> list[CloudCommand]:
        self._move(CloudEvent.PASS)
        self._held_back = False
        self._foretold = ()
        self._lay_out()
        return [self._the_pass(self._own_instead_of(self._best()))]

    def _lay_out(self, own: tuple[int, ...] = (), instead: Sequence[tuple[int, ...]] = ()) -> None:
        self._proposals.lay_out(self._committed, self._longest(), self._best(), own, instead)

    def _longest(self) -> int:
        # The pass itself adds a token after the draft, so the draft may fill all room but one.
        return max(0, min(self._width(), self._room() - 1))

    def _the_pass(self, own: int = 0) -> RunPass:
        line, tree = self._proposals.line, self._proposals.tree
        return RunPass(self.committed, line, own, None if tree.is_line else tree)

    # ---- separate rejection sampling -----------------------------------------------------------------------

    def _answer_sampled(self, message: Draft) -> list[CloudCommand]:
        commands = self._next_pass() if self.state is CloudState.WAITING else []
        known = message.position + message.settled
        if known < message.position + len(message.tokens) or any(isinstance(c, Send) for c in commands):
            return commands
        if message.settled and self.state not in (CloudState.WAITING, CloudState.DONE):
            return commands  # it is told as soon as that is committed; now it would only say it again
        return [Send(self._report(min(known, len(self._committed)))), *commands]  # it was a poll

    def _settle_and_try(self) -> list[CloudCommand]:
        """Commit what the edge has settled, then judge its draft, go on alone, or leave the turn to the edge."""
        position = len(self._committed)
        outcome = TokenOutcome.RECOVERED if self._separate.rejected else TokenOutcome.BONUS
        settled = self._separate.settled(position, self._room())
        news: list[CloudCommand] = []
        if settled:
            self._rounds = max(self._rounds, self._separate.round_of(position))
            self._committed += settled
            self._fates += (outcome,) * len(settled)
            if settled[-1] in self._eos or not self._room():
                self._move(CloudEvent.ENDED)
                return [Send(self._report(position)), Finished()]
            news = [Send(self._report(position))]
        trial = self._next_trial()
        if trial is None:
            return news
        self._trial = trial
        self._move(CloudEvent.PASS)
        return [*news, RunPass(self.committed, trial.tokens)]

    def _trial_begins(self) -> RunPass:
        if self.state is CloudState.PASSING:
            self._trial = self._next_trial() or self._trial
        return RunPass(self.committed, self._trial.tokens)

    def _next_trial(self) -> Trial | None:
        return self._separate.trial(self.committed, self._width(), self._room())

    def _width(self) -> int:
        """How many draft tokens fit into a pass."""
        return max(0, min(self._widest, self._context - len(self._committed)))

    # ---- bookkeeping ---------------------------------------------------------------------------------------

    def _round_of(self, accepted: tuple[int, ...]) -> int:
        """The earliest round whose hints could have brought what this pass got from its draft."""
        assert self._open is not None
        used = self._proposals.line if self._open.mode is ServerMode.VERIFY_ONLY else accepted
        return self._proposals.round_of(len(self._committed), used)

    def _room(self) -> int:
        assert self._open is not None
        return self._open.max_tokens - len(self._committed)

    def _report(self, position: int) -> Committed:
        """Everything from `position` on, and the counts so far."""
        assert self._open is not None
        return Committed(
            self._open.action_id,
            position,
            tuple(self._committed[position:]),
            tuple(self._fates[position:]),
            done=self.state is CloudState.DONE,
            passes=self._passes,
            drafted=self._drafted,
            busy_ms=self._busy_ms,
            rounds=self._rounds,
            sparse=self._separate.rejected,
        )

    def _move(self, event: CloudEvent) -> None:
        try:
            self.state = TRANSITIONS[self.state][event]
        except KeyError:
            raise RuntimeError(
                f"The cloud machine cannot take {event.name} while {self.state.name}."
            ) from None
