"""What is drafted on the edge and when: the answer as it stands, the draft behind it, and drafts for corrections."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from spec_decode_ros.decoding.branches import LENGTH, Branches, RunnerUp
from spec_decode_ros.decoding.commands import Counts, DraftFrom, EdgeCommand, Send, Show, StopDrafting
from spec_decode_ros.decoding.edge_states import TRANSITIONS, WITH_CLOUD, EdgeEvent, EdgeState
from spec_decode_ros.decoding.guess import DraftBuffer
from spec_decode_ros.decoding.ledger import OutputTokens
from spec_decode_ros.decoding.messages import ServerMode
from spec_decode_ros.decoding.methods import Method
from spec_decode_ros.decoding.rejection import DraftedToken
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.decoding.resampling import Resampler, separately
from spec_decode_ros.decoding.wording import DraftState, MessageBuilder


class EdgeDrafting:
    """One action on the edge, as far as no message, loss or time is concerned."""

    def __init__(self, method: Method, request: Request, eos: Collection[int]) -> None:
        self.state = EdgeState.NEW
        self.method = separately(method) if request.sampling.separate else method
        self.request = request
        self._eos = frozenset(eos)
        self._ledger = OutputTokens(request.max_tokens)
        self._guess = DraftBuffer()
        self._counts = Counts()
        self._resampler = Resampler(request.sampling)  # only asked where the sampling is separate
        self._wording = MessageBuilder(request, self.method, self._resampler)
        # The drafting that is going on.
        self._run = 0
        self._budget = 0  # tokens still to come from it; 0 when there is none
        self._dry = False  # the draft model can say nothing after this answer
        self._overruled = False  # a verdict was another than the draft
        self._clouds_turn = -1  # with separate rejection sampling: a place after which nothing is drafted
        # What is prepared for corrections.
        self._branches = Branches(method.branches)
        self._aside: tuple[int, ...] | None = None  # the text after which a branch is being drafted

    @property
    def _committed(self) -> list[int]:
        return self._ledger.tokens

    @property
    def answer(self) -> tuple[int, ...]:
        """Committed tokens and the draft that follows them."""
        return (*self._committed, *self._guess.tokens)

    @property
    def _drafting(self) -> bool:
        """Whether the driver drafts, for the answer or for a branch."""
        return bool(self._budget) or self._aside is not None

    # ---- the draft -----------------------------------------------------------------------------------------

    def _take(self, said: int | DraftedToken, runner_up: RunnerUp | None) -> None:
        """One token more of the draft."""
        token = said.token if isinstance(said, DraftedToken) else said
        if isinstance(said, DraftedToken):
            self._resampler.drafted(len(self.answer), said)
        self._note(self.answer, runner_up)
        self._count(drafted_on_edge=1, preempted=int(self._guess.add(token)))
        self._budget = 0 if token in self._eos else self._budget - 1

    def _draft_on(self) -> list[EdgeCommand]:
        """Begin to draft after the answer as it stands, if that is this method's turn."""
        if not self.method.uses_draft_model or self._budget or self._dry or self._ended():
            return []
        if self._clouds_turn == len(self._committed):
            return []
        if self._overruled and not self.method.redrafts and self.state is not EdgeState.ALONE:
            return []
        room = self.request.max_tokens - len(self.answer)
        unforeseen = self._guess.unforeseen
        if self.state is EdgeState.ALONE:
            self._budget = room
        elif unforeseen and not self.method.ahead:
            return []  # stop and wait
        else:  # the cloud adds the last token anyway
            self._budget = max(0, min(self.method.window - unforeseen, room - 1))
        if self._budget:
            self._aside = None
            return [self._draft_from(self.answer, self._budget)]
        return [self._message(final=True)] if self._has_nothing_to_propose() else []

    def _draft_from(self, prefix: tuple[int, ...], budget: int) -> DraftFrom:
        self._run += 1
        return DraftFrom(self._run, prefix, budget)

    def _send_draft(self) -> list[EdgeCommand]:
        """What of the draft the cloud was not told, if it is enough or all that there is for now."""
        length = len(self._guess.tokens)
        new = length - self._guess.sent
        if new and (new >= self.method.chunk or not self._budget):
            self._guess.sent = length
            return [self._message(length)]
        return []

    def _shown_and_drafted_on(self, drafting: bool) -> list[EdgeCommand]:
        """Show the changed answer and draft on; `drafting` says whether a drafting went on before the change."""
        found = self._look_up()
        onward = [*self._draft_on(), *(self._send_draft() if found else []), *self._draft_aside()]
        replaced = any(isinstance(command, DraftFrom) for command in onward)
        stop: list[EdgeCommand] = [StopDrafting()] if drafting and not self._drafting and not replaced else []
        return [*stop, self._show(), *onward]

    def _has_nothing_to_propose(self) -> bool:
        """Whether the server waits for a draft that will not come."""
        waits = self.method.server is ServerMode.VERIFY_ONLY or self.method.yields
        return waits and not self._guess.tokens and not self._budget

    # ---- branches ------------------------------------------------------------------------------------------

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
        place = self._branches.place(tuple(self._committed), tuple(self._guess.tokens))
        if place is None or len(place) + 1 >= self.request.max_tokens:
            return []
        self._aside = place
        self._branches.begin(place)
        return [self._draft_from(place, self._branch_room(place))]

    def _branch_room(self, place: tuple[int, ...]) -> int:
        return min(LENGTH, self.request.max_tokens - len(place) - 1)

    def _drafted_aside(
        self, place: tuple[int, ...], token: int, runner_up: RunnerUp | None
    ) -> list[EdgeCommand]:
        made = self._branches.after(place)
        self._note((*place, *made), runner_up)
        self._branches.extend(place, token)
        self._count(drafted_on_edge=1)
        enough = token in self._eos or len(made) + 1 >= self._branch_room(place)
        return self._branch_ended() if enough else []

    def _note(self, text: tuple[int, ...], runner_up: RunnerUp | None) -> None:
        if self.method.branches and runner_up is not None and runner_up[0] not in self._eos:
            self._branches.note(text, runner_up)

    def _branch_ended(self) -> list[EdgeCommand]:
        self._aside = None
        tree = self._branches.tree(self._committed)
        onward = self._draft_aside()
        told: list[EdgeCommand] = []
        if self.method.sends_branches and tree and not (onward and self.method.gathers_branches):
            told.append(Send(self._wording.branches(self._standpoint, tree)))
        return [*told, *onward]

    def _look_up(self) -> bool:
        """Go on from what was prepared after the answer as it stands, if anything was."""
        found = () if self._budget or self._ended() else self._branches.after(self.answer)
        self._guess.tokens += found
        self._count(branches_used=int(bool(found)))
        return bool(found)

    # ---- the answer ----------------------------------------------------------------------------------------

    def _ended(self) -> bool:
        """Whether nothing can follow the answer as it stands."""
        return self._ended_at(self.answer)

    def _ended_at(self, answer: Sequence[int]) -> bool:
        return (bool(answer) and answer[-1] in self._eos) or len(answer) >= self.request.max_tokens

    def _show(self) -> Show:
        return Show(self.answer, len(self._committed))

    def _count(self, **more: int) -> None:
        self._counts = replace(
            self._counts, **{name: getattr(self._counts, name) + value for name, value in more.items()}
        )

    @property
    def _standpoint(self) -> DraftState:
        draft = tuple(self._guess.tokens)
        return DraftState(
            tuple(self._committed), draft, bool(self._budget), self._dry, self._counts.round_trips
        )

    def _message(self, length: int = 0, final: bool = False) -> Send:
        """The first `length` draft tokens; a poll if there are none."""
        return Send(self._wording.draft(self._standpoint, length, final))

    def _move(self, event: EdgeEvent) -> None:
        try:
            self.state = TRANSITIONS[self.state][event]
        except KeyError:
            raise RuntimeError(
                f"The edge machine cannot take {event.name} while {self.state.name}."
            ) from None
