"""The cloud's part of separate rejection sampling: what a pass judges, and what comes of it.

The answer has the target's distribution only if it does not depend on a draft token whether that token is judged
(`rejection.py`). The network could make it depend: an end token ends a draft, so that the draft is sent sooner, and a
server that draws by itself as soon as no draft is there would judge end tokens more often than others. So who decides
about a place follows from the text before it and from the method, never from what has come by now:

- where the edge has settled the token, it stands;
- else the certain guess that came with the `Open`, as long as the answer agrees with it, and the place after it;
- else the edge's draft, and the cloud waits for it;
- the cloud draws alone where the edge says that it drafts nothing (`Draft.final`), or where no edge drafts at all.

All drafts that agree with what is committed agree with each other, since the edge's draws are a function of the text,
so the longest may be taken. Thereby even the tokens are the same for a seed, whatever becomes of the messages.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from spec_decode_ros.decoding.acceptance import until_end
from spec_decode_ros.decoding.distribution import Distribution
from spec_decode_ros.decoding.messages import Draft, Open, Sampling, ServerMode
from spec_decode_ros.decoding.rejection import DEFAULT_K, SampledResult, judge_distributions
from spec_decode_ros.decoding.sparse import pack

_DRAFTS_KEPT = 8


@dataclass(frozen=True)
class Trial:
    """What one pass judges: tokens and the probabilities of which they were drafted, in the edge's n-th `round`.

    `adds`: the place after them is the cloud's.
    """

    tokens: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()
    adds: bool = True
    round: int = 1

    def cut(self, width: int) -> Trial:
        """The first `width` tokens."""
        if len(self.tokens) <= width:
            return self
        return Trial(self.tokens[:width], self.probabilities[:width], False, self.round)


class Separate:
    """What the edge has said about one action, and the rejection that it has not answered yet.

    Args:
        eos: tokens that end an answer.
        k: how many target probabilities a rejection sends.
    """

    def __init__(self, eos: Collection[int], k: int = DEFAULT_K) -> None:
        self.rejected = b""
        """The packed distribution of the place after the committed tokens, while the edge is to settle it."""
        self._eos = eos
        self._k = k
        self._certain: tuple[int, ...] = ()
        self._nobody_drafts = False
        self._heard: list[Draft] = []  # newest last

    def opened(self, message: Open) -> None:
        self._certain = until_end(message.draft, self._eos)
        self._nobody_drafts = message.mode is not ServerMode.VERIFY_ONLY
        settled = message.draft[: message.settled]
        if settled:
            certain = (1.0,) * len(settled)
            self.hear(Draft(message.action_id, 0, settled, probabilities=certain, settled=len(settled)))

    def hear(self, message: Draft) -> None:
        """Remember a draft; without probabilities it can't be judged."""
        if len(message.probabilities) != len(message.tokens) or not (message.tokens or message.final):
            return
        if any(_covers(known, message) for known in self._heard):
            return
        others = [known for known in self._heard if not _covers(message, known)]
        self._heard = [*others, message][-_DRAFTS_KEPT:]

    def settled(self, position: int, room: int) -> tuple[int, ...]:
        """The tokens from `position` on that the edge has settled; they answer the rejection."""
        tokens: list[int] = []
        while len(tokens) < room and not (tokens and tokens[-1] in self._eos):
            token = self._settled_at(position + len(tokens))
            if token is None:
                break
            tokens.append(token)
        if tokens:
            self.rejected = b""
        return tuple(tokens)

    def round_of(self, position: int) -> int:
        """The earliest round in which the edge has settled that place."""
        return min((m.round for m in self._heard if _settles(m, position)), default=1)

    def trial(self, committed: tuple[int, ...], widest: int, room: int) -> Trial | None:
        """What to judge after the committed tokens; None where it is the edge's turn."""
        if self.rejected:
            return None
        if self._nobody_drafts:
            return Trial()
        length = len(committed)
        guess = self._certain[length:] if self._certain[:length] == committed else ()
        if guess:
            return Trial(guess, (1.0,) * len(guess)).cut(min(widest, room))
        trials = [_rest(message, length) for message in self._heard if _agrees(message, committed)]
        best = max(trials, key=lambda trial: (len(trial.tokens), trial.adds), default=Trial(adds=False))
        return best.cut(min(widest, room)) if best.tokens or best.adds else None

    def judge(
        self, trial: Trial, targets: Sequence[Distribution], position: int, sampling: Sampling, room: int
    ) -> SampledResult:
        """What the target's warped distributions (one more than the trial has tokens) make of a trial."""
        verdict = judge_distributions(
            trial.tokens,
            trial.probabilities,
            targets,
            position,
            sampling,
            self._eos,
            room,
            self._k,
            trial.adds,
        )
        for index in range(len(verdict.tokens) + 1):
            if (
                self._settled_at(position + index) is not None
            ):  # by word of an earlier server, while the pass ran
                return SampledResult(verdict.tokens[:index], verdict.outcomes[:index], False)
        if verdict.sparse:
            self.rejected = pack(verdict.sparse)
        return verdict

    def _settled_at(self, position: int) -> int | None:
        return next((m.tokens[position - m.position] for m in self._heard if _settles(m, position)), None)


def _covers(one: Draft, other: Draft) -> bool:
    """Whether `one` says all that `other` says."""
    length = len(other.tokens)
    return (
        one.position == other.position
        and one.tokens[:length] == other.tokens
        and one.settled >= other.settled
        and (one.final or not other.final or len(one.tokens) > length)
    )


def _settles(message: Draft, position: int) -> bool:
    return message.position <= position < message.position + message.settled


def _agrees(message: Draft, committed: tuple[int, ...]) -> bool:
    known = committed[message.position :]
    return message.position <= len(committed) and message.tokens[: len(known)] == known


def _rest(message: Draft, length: int) -> Trial:
    """What a draft says about the places from `length` on."""
    begin = length - message.position
    return Trial(message.tokens[begin:], message.probabilities[begin:], message.final, message.round)
