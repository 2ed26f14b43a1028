"""Rejection sampling as a verification strategy: what a pass judges, and what the edge is left to settle.

The answer has the target's distribution only if it does not depend on a draft token whether that token is judged
(`rejection.py`). The network could make it depend: an end token ends a draft, so that the draft is sent sooner, and a
server that draws by itself as soon as no draft is there would judge end tokens more often than others. So who decides
about a place follows from the text before it and from the method, never from what has arrived by now:

- where the edge has settled the token, it stands;
- else the certain draft that came with the `Open`, as long as the answer agrees with it, and the place after it;
- else the edge's draft, and the cloud waits for it;
- the cloud draws alone where the edge says that it drafts nothing (`Draft.final`), or where no edge drafts at all.

All drafts that agree with what is committed agree with each other, since the edge's draws are a function of the text,
so the longest may be taken. Thereby even the tokens are the same for a seed, whatever becomes of the messages.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from spec_decode_ros.decoding.acceptance import until_end
from spec_decode_ros.decoding.commands import RunPass
from spec_decode_ros.decoding.distribution import Distribution
from spec_decode_ros.decoding.messages import Branches, Draft, Open, Sampling, ServerMode, TokenOutcome
from spec_decode_ros.decoding.rejection import DEFAULT_K, SampledDraft, judge_sampled
from spec_decode_ros.decoding.sparse import pack
from spec_decode_ros.decoding.verification import AnswerState, StepResult

_DRAFTS_KEPT = 8


class RejectionSampling:
    """What the edge has drafted for one action, and the rejection that it has not answered yet.

    Args:
        eos: tokens that end an answer.
        sampling: of the action.
        k: how many target probabilities a rejection sends.
    """

    server_draft_judged = stale_judged = (0, 0)  # the server does not draft, and stale drafts are not judged

    def __init__(self, eos: Collection[int], sampling: Sampling, k: int = DEFAULT_K) -> None:
        self.rejected = b""
        self._eos = eos
        self._sampling = sampling
        self._k = k
        self._certain: tuple[int, ...] = ()
        self._edge_drafts = True
        self._received: list[Draft] = []  # newest last
        self._draft = SampledDraft()  # that the pass which runs is over

    # ---- drafts --------------------------------------------------------------------------------------------

    def opened(self, message: Open) -> None:
        self._certain = until_end(message.draft, self._eos)
        self._edge_drafts = message.mode is ServerMode.VERIFY_ONLY
        settled = message.draft[: message.settled]
        if settled:
            certain = (1.0,) * len(settled)
            self._keep(Draft(message.action_id, 0, settled, probabilities=certain, settled=len(settled)))

    def receive(self, message: Draft | Branches, answer: AnswerState) -> None:
        """What has no probabilities can't be judged and is dropped."""
        if (
            isinstance(message, Draft)
            and len(message.probabilities) == len(message.tokens)
            and (message.tokens or message.final)
        ):
            self._keep(message)

    def _keep(self, message: Draft) -> None:
        if any(_covers(known, message) for known in self._received):
            return
        others = [known for known in self._received if not _covers(message, known)]
        self._received = [*others, message][-_DRAFTS_KEPT:]

    def polled_position(self, message: Draft, answer: AnswerState, idle: bool) -> int | None:
        if message.settled < len(message.tokens):
            return None
        if message.settled and not idle:
            return None  # it is told as soon as that is committed; now it would only say it again
        return message.position + message.settled

    # ---- what the edge settles -----------------------------------------------------------------------------

    def settled(self, answer: AnswerState) -> StepResult | None:
        """The tokens after the committed ones that the edge has drawn by itself; they answer the rejection."""
        position = len(answer.committed)
        tokens: list[int] = []
        while len(tokens) < answer.room and not (tokens and tokens[-1] in self._eos):
            token = self._settled_at(position + len(tokens))
            if token is None:
                break
            tokens.append(token)
        if not tokens:
            return None
        outcome = TokenOutcome.RECOVERED if self.rejected else TokenOutcome.BONUS
        self.rejected = b""
        return StepResult(
            tuple(tokens),
            (outcome,) * len(tokens),
            done=tokens[-1] in self._eos or len(tokens) == answer.room,
            round=min(draft.round for draft in self._received if _settles(draft, position)),
        )

    def _settled_at(self, position: int) -> int | None:
        return next(
            (
                draft.tokens[position - draft.position]
                for draft in self._received
                if _settles(draft, position)
            ),
            None,
        )

    # ---- the next pass -------------------------------------------------------------------------------------

    def next_step(self, answer: AnswerState) -> RunPass | None:
        draft = self._choice(answer)
        if draft is None:
            return None
        self._draft = draft
        return self.run_pass(answer)

    def waited(self, answer: AnswerState) -> RunPass | None:
        return None

    def has_draft(self, answer: AnswerState) -> bool:
        return False

    def pass_begins(
        self, answer: AnswerState, server_draft: Sequence[int], alternatives: Sequence[tuple[int, ...]]
    ) -> None:
        self._draft = self._choice(answer) or self._draft

    def run_pass(self, answer: AnswerState) -> RunPass:
        return RunPass(answer.committed, self._draft.tokens)

    def _choice(self, answer: AnswerState) -> SampledDraft | None:
        """What to judge after the committed tokens; None where that is the edge's turn."""
        if self.rejected:
            return None
        if not self._edge_drafts:
            return SampledDraft()
        length, width = len(answer.committed), min(answer.width, answer.room)
        certain = self._certain[length:] if self._certain[:length] == answer.committed else ()
        if certain:
            return SampledDraft(certain, (1.0,) * len(certain)).cut(width)
        drafts = [
            _continuation(draft, length) for draft in self._received if _agrees(draft, answer.committed)
        ]
        best = max(
            drafts, key=lambda draft: (len(draft.tokens), draft.bonus), default=SampledDraft(bonus=False)
        )
        return best.cut(width) if best.tokens or best.bonus else None

    # ---- its result ----------------------------------------------------------------------------------------

    def predict(
        self, answer: AnswerState, choices: Sequence[int], confidences: Sequence[float], least: float
    ) -> tuple[int, ...]:
        return ()

    def judge(self, answer: AnswerState, targets: Sequence[Distribution]) -> StepResult:
        draft, position = self._draft, len(answer.committed)
        result = judge_sampled(draft, targets, position, self._sampling, self._eos, answer.room, self._k)
        drafted, tokens = len(draft.tokens), result.tokens
        for index in range(len(tokens) + 1):
            if (
                self._settled_at(position + index) is not None
            ):  # an earlier server's word came while the pass ran
                return StepResult(tokens[:index], result.outcomes[:index], False, drafted, draft.round)
        if result.sparse:
            self.rejected = pack(result.sparse)
        return StepResult(tokens, result.outcomes, result.done, drafted, draft.round)


def _covers(one: Draft, other: Draft) -> bool:
    """Whether `one` says all that `other` says."""
    length = len(other.tokens)
    return (
        one.position == other.position
        and one.tokens[:length] == other.tokens
        and one.settled >= other.settled
        and (one.final or not other.final or len(one.tokens) > length)
    )


def _settles(draft: Draft, position: int) -> bool:
    return draft.position <= position < draft.position + draft.settled


def _agrees(draft: Draft, committed: tuple[int, ...]) -> bool:
    known = committed[draft.position :]
    return draft.position <= len(committed) and draft.tokens[: len(known)] == known


def _continuation(draft: Draft, length: int) -> SampledDraft:
    """What a draft says about the places from `length` on."""
    begin = length - draft.position
    return SampledDraft(draft.tokens[begin:], draft.probabilities[begin:], draft.final, draft.round)
