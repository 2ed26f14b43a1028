"""The draft that follows the committed tokens on the edge, and what early exits have foretold of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spec_decode_ros.decoding.acceptance import accepted_length


@dataclass(frozen=True)
class PredictionResult:
    """How a verdict was that early exits had foretold; `used` of the tokens drafted on that ground were there for it."""

    right: bool
    used: int


class DraftBuffer:
    """All positions count from the first token that is not committed."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.sent = 0
        """How much of it the cloud was told."""
        self._foreseen = 0  # how much of it an early exit has put there or not objected to
        self._told: list[int] = []  # what an exit has said follows the committed tokens
        self._preempted = 0  # how many tokens were drafted after that

    @property
    def unforeseen(self) -> int:
        """How many of the tokens are nobody's guess but the draft model's."""
        return len(self.tokens) - self._foreseen

    def add(self, token: int) -> bool:
        """One token more; whether it stands on foretold ground."""
        self.tokens.append(token)
        self._preempted += bool(self._told)
        return bool(self._told)

    def clear(self) -> None:
        self.tokens.clear()
        self.sent = self._foreseen = 0

    def judge(self, fresh: list[int]) -> PredictionResult | None:
        """Compare the verdict `fresh` with what was foretold; None while nothing is decided."""
        agreed = accepted_length(self._told, fresh)
        if not self._told or agreed == len(fresh) < len(self._told):
            self._told = self._told[agreed:]  # right so far
            return None
        hit = agreed == len(self._told)
        used = self._preempted if hit and self.tokens[: len(fresh)] == fresh else 0
        self._told, self._preempted = [], 0
        return PredictionResult(hit, used)

    def settle(self, fresh: list[int]) -> bool:
        """The verdict `fresh` is committed; whether the draft had it all, else it is gone."""
        if self.tokens[: len(fresh)] != fresh:
            self.clear()
            return False
        del self.tokens[: len(fresh)]
        self.sent = max(0, self.sent - len(fresh))
        self._foreseen = max(0, self._foreseen - len(fresh))
        return True

    def foretell(self, told: Sequence[int]) -> bool:
        """An exit says that `told` comes first; whether that changes the draft."""
        agreed = accepted_length(self.tokens, told)
        changes = agreed < len(told)
        if changes:
            self.tokens[agreed:] = told[agreed:]
            self.sent = min(self.sent, agreed)
            self._preempted = 0
        # What the exit was not sure of counts as right as long as nothing speaks against it.
        self._foreseen = len(self.tokens)
        self._told = list(told)
        return changes
