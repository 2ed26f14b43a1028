"""Verification strategies: the interface through which the cloud machine judges drafts and chooses the next pass.

`ExactMatch` is for greedy and seeded decoding, `RejectionSampling` for the rejection sampler. A new acceptance rule is
one more class with these methods; `CloudMachine` chooses between them when an action opens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spec_decode_ros.decoding.commands import RunPass, Wait
from spec_decode_ros.decoding.messages import Branches, Draft, Open, TokenOutcome


@dataclass(frozen=True)
class AnswerState:
    """One action's answer as the cloud has it.

    Attributes:
        committed: its final tokens.
        room: how many more it may have.
        width: how many draft tokens fit into a pass.
        passes: target passes so far.
        yields: whether the action leaves the target to other robots that wait for it.
    """

    committed: tuple[int, ...]
    room: int
    width: int
    passes: int
    yields: bool

    @property
    def longest_draft(self) -> int:
        """Draft tokens of the next pass, at most: the pass itself adds the token after them."""
        return max(0, min(self.width, self.room - 1))


@dataclass(frozen=True)
class StepResult:
    """What is committed at once.

    Attributes:
        tokens: the new final tokens.
        outcomes: one for each.
        done: whether the answer ends with them.
        drafted: how many draft tokens of the edge the pass was over.
        round: the edge's round that they waited for.
    """

    tokens: tuple[int, ...]
    outcomes: tuple[TokenOutcome, ...]
    done: bool
    drafted: int = 0
    round: int = 1


class Verification(Protocol):
    """How the drafts of one action are judged, and what its next pass is over."""

    @property
    def rejected(self) -> bytes:
        """The packed target distribution from which the edge is to draw the next token; mostly empty."""
        ...

    @property
    def server_draft_judged(self) -> tuple[int, int]:
        """Of the server's own draft tokens: how many the target looked at one by one, and accepted."""
        ...

    @property
    def stale_judged(self) -> tuple[int, int]:
        """The same of tokens from stale drafts, whether a pass was over them or not."""
        ...

    def opened(self, message: Open) -> None:
        """The action is opened by this message."""
        ...

    def receive(self, message: Draft | Branches, answer: AnswerState) -> None:
        """Remember a draft or branches."""
        ...

    def polled_position(self, message: Draft, answer: AnswerState, idle: bool) -> int | None:
        """From where the edge wants to be told again; None if the message needs no reply.

        `idle`: no pass runs or is being prepared.
        """
        ...

    def settled(self, answer: AnswerState) -> StepResult | None:
        """What the edge has settled by itself after the committed tokens."""
        ...

    def next_step(self, answer: AnswerState) -> RunPass | Wait | None:
        """Verify a draft, go on without one, wait for one, or (None) do nothing until one arrives."""
        ...

    def waited(self, answer: AnswerState) -> RunPass | None:
        """The time of a `Wait` is over; None if it was overtaken by a pass."""
        ...

    def has_draft(self, answer: AnswerState) -> bool:
        """Whether a draft from the edge waits that is at least as good as one of the server's own."""
        ...

    def pass_begins(
        self, answer: AnswerState, server_draft: Sequence[int], alternatives: Sequence[tuple[int, ...]]
    ) -> None:
        """Choose again what the pass is over, among what has come since it was asked for."""
        ...

    def run_pass(self, answer: AnswerState) -> RunPass:
        """The pass as it was chosen last."""
        ...

    def predict(
        self, answer: AnswerState, choices: Sequence[int], confidences: Sequence[float], least: float
    ) -> tuple[int, ...]:
        """What an early exit foretells of the pass that runs, as far as it is news and at least `least` sure."""
        ...

    def judge(self, answer: AnswerState, targets: Sequence[Any]) -> StepResult:
        """What the pass commits.

        `targets` are one more than it had draft tokens: the target's choices, or for rejection sampling its warped
        distributions.
        """
        ...
