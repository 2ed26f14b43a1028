"""The acceptance rules: pure functions on token sequences.

With greedy or seeded choices a draft token is accepted exactly when the target's own choice in its place is
the same token (Leviathan, Kalman, Matias: *Fast inference from transformers via speculative decoding*,
arXiv 2211.17192, with both distributions on one token each).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from spec_decode_ros.decoding.messages import TokenOutcome

_NEWEST = 0.1
"""Weight of the newest action in a `AcceptanceAverage`."""


@dataclass(frozen=True)
class VerificationResult:
    """What one target pass adds to the answer: tokens, one outcome each, and whether the answer ends there."""

    tokens: tuple[int, ...]
    outcomes: tuple[TokenOutcome, ...]
    done: bool


def accepted_length(draft: Sequence[int], choices: Sequence[int]) -> int:
    """How many leading draft tokens are the target's own choices."""
    for index, (guess, choice) in enumerate(zip(draft, choices, strict=False)):
        if guess != choice:
            return index
    return min(len(draft), len(choices))


def judge(
    draft: Sequence[int], choices: Sequence[int], eos: Collection[int], room: int
) -> VerificationResult:
    """Turn a pass over `draft` (K tokens) with its K + 1 target `choices` into a verdict.

    The accepted tokens count, and the target's choice after them: a correction if a draft token stood there,
    else an addition. The answer is cut after an end-of-sequence token and after `room` tokens.
    """
    if len(choices) != len(draft) + 1:
        raise ValueError(
            f"A pass over {len(draft)} draft tokens has {len(draft) + 1} choices, not {len(choices)}."
        )
    accepted = accepted_length(draft, choices)
    last = TokenOutcome.RECOVERED if accepted < len(draft) else TokenOutcome.BONUS
    tokens = until_end(choices[: accepted + 1], eos)[:room]
    outcomes = ((TokenOutcome.ACCEPTED,) * accepted + (last,))[: len(tokens)]
    return VerificationResult(tokens, outcomes, done=len(tokens) == room or tokens[-1] in eos)


def early_exit_prediction(
    draft: Sequence[int],
    choices: Sequence[int],
    confidences: Sequence[float],
    least: float,
    eos: Collection[int],
    room: int,
) -> tuple[int, ...]:
    """The beginning of the coming verdict, as far as an early exit is at least `least` sure of it.

    `choices` and `confidences` (K + 1 each) are the exit's for a pass over `draft` (K tokens).
    """
    sure = next((i for i, value in enumerate(confidences) if not value >= least), len(choices))
    return until_end(choices[: min(sure, accepted_length(draft, choices) + 1)], eos)[:room]


class AcceptanceAverage:
    """How large a share of some kind of tokens the target has accepted lately, a running average over actions.

    Args:
        first: what is assumed before any was looked at.
    """

    def __init__(self, first: float) -> None:
        self.value = first

    def observe(self, looked: int, accepted: int) -> None:
        """One action more, in which so many tokens were looked at one by one, and accepted."""
        if looked:
            self.value += _NEWEST * (accepted / looked - self.value)


def until_end(tokens: Sequence[int], eos: Collection[int]) -> tuple[int, ...]:
    """The tokens up to and including the first end-of-sequence token."""
    for index, token in enumerate(tokens):
        if token in eos:
            return tuple(tokens[: index + 1])
    return tuple(tokens)


@dataclass(frozen=True)
class ReceivedDraft:
    """A guess that `tokens` stand from `position` on in the answer, made in the edge's n-th `round`."""

    position: int
    tokens: tuple[int, ...]
    round: int = 1

    def disagreements(self, answer: Sequence[int]) -> int:
        """In how many places the part of the hint that lies within `answer` differs from it."""
        return sum(a != b for a, b in zip(answer[self.position :], self.tokens, strict=False))

    def lost(self, answer: Sequence[int]) -> bool:
        """Whether the two newest tokens that both have differ: one miss is a typo, two are another text."""
        overlap = list(zip(answer[self.position :], self.tokens, strict=False))[-2:]
        return len(overlap) == 2 and all(a != b for a, b in overlap)

    def rest(self, length: int) -> tuple[int, ...]:
        """What the hint says about the places from `length` on; empty if it begins after them."""
        return self.tokens[length - self.position :] if self.position <= length else ()


def exact_continuation(hints: Sequence[ReceivedDraft], answer: Sequence[int]) -> tuple[int, ...]:
    """The longest continuation of `answer` by a hint that agrees with all of it."""
    rests = [hint.rest(len(answer)) for hint in hints if not hint.disagreements(answer)]
    return max(rests, key=len, default=())


def alternative_continuations(hints: Sequence[ReceivedDraft], answer: Sequence[int]) -> list[tuple[int, ...]]:
    """Every continuation of `answer` by a single hint (newest last), the most promising first."""
    by_promise = sorted(reversed(hints), key=lambda hint: hint.disagreements(answer))
    rests = (hint.rest(len(answer)) for hint in by_promise if not hint.lost(answer))
    return [rest for rest in rests if rest]


def best_continuation(hints: Sequence[ReceivedDraft], answer: Sequence[int]) -> tuple[int, ...]:
    """The most promising continuation of `answer`, put together from all hints (newest last).

    A hint whose token was corrected is not thrown away: an action's text has a fixed shape, so what it says
    about the later places is still the best guess until the edge has drafted anew. Hints with fewer
    disagreements go first, newer before older; where one ends the next goes on. Exactness does not depend on
    any of this, as every guess is verified.
    """
    text = list(answer)
    for hint in sorted(reversed(hints), key=lambda hint: hint.disagreements(answer)):
        if not hint.lost(text):
            text.extend(hint.rest(len(text)))
    return tuple(text[len(answer) :])
