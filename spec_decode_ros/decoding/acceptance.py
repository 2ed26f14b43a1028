"""The acceptance rules: pure functions on token sequences.

With greedy or seeded choices a draft token is accepted exactly when the target's own choice in its place is
the same token (Leviathan, Kalman, Matias: *Fast inference from transformers via speculative decoding*,
arXiv 2211.17192, with both distributions on one token each).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from spec_decode_ros.decoding.messages import TokenOutcome
from spec_decode_ros.decoding.sparse import Sparse

_NEWEST = 0.1
"""Weight of the newest action in a `AcceptanceAverage`."""


@dataclass(frozen=True)
class VerificationResult:
    """What one target pass adds to the answer: tokens, one outcome each, and whether the answer ends there.

    With `sparse` (rejection sampling only), the draft token after these was rejected, and only the edge can say which
    token stands there instead: the cloud must neither judge that place again nor draw for it.
    """

    tokens: tuple[int, ...]
    outcomes: tuple[TokenOutcome, ...]
    done: bool
    sparse: Sparse | None = None


def accepted_length(draft: Sequence[int], choices: Sequence[int]) -> int:
    """How many leading draft tokens are the target's own choices."""
    for index, (guess, choice) in enumerate(zip(draft, choices, strict=False)):
        if guess != choice:
            return index
    return min(len(draft), len(choices))


def judge(
    draft: Sequence[int], choices: Sequence[int], eos: Collection[int], room: int
) -> VerificationResult:
    """What a pass over `draft` (K tokens) with its K + 1 target `choices` commits.

    The accepted tokens, and the target's choice after them: a recovered token if a draft token stood there, else a bonus
    token. The answer is cut after an end-of-sequence token and after `room` tokens.
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
    """The first tokens that the pass is going to commit, as far as an early exit is at least `least` sure of them.

    `choices` and `confidences` (K + 1 each) are the exit's for a pass over `draft` (K tokens).
    """
    sure = next((i for i, value in enumerate(confidences) if not value >= least), len(choices))
    return until_end(choices[: min(sure, accepted_length(draft, choices) + 1)], eos)[:room]


class AcceptanceAverage:
    """Moving average over actions of the share of tokens of one kind that the target accepts.

    Args:
        first: what is assumed before any was looked at.
    """

    def __init__(self, first: float) -> None:
        self.value = first

    def observe(self, looked: int, accepted: int) -> None:
        """Add an action in which `looked` tokens were looked at one by one and `accepted` of them accepted."""
        if looked:
            self.value += _NEWEST * (accepted / looked - self.value)


def until_end(tokens: Sequence[int], eos: Collection[int]) -> tuple[int, ...]:
    """The tokens up to and including the first end-of-sequence token."""
    for index, token in enumerate(tokens):
        if token in eos:
            return tuple(tokens[: index + 1])
    return tuple(tokens)
