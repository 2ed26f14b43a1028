"""The output tokens of one action: what the cloud has committed, put in order however the messages arrive."""

from __future__ import annotations

from spec_decode_ros.decoding.messages import Committed, TokenOutcome
from spec_decode_ros.errors import SpecDecodeError


class OutputTokens:
    """The committed tokens of an answer of at most `max_tokens`, from its first token on, and their outcomes."""

    def __init__(self, max_tokens: int) -> None:
        self.tokens: list[int] = []
        self.outcomes: list[TokenOutcome] = []
        self.end: int | None = None
        """The answer's length, once it is known."""
        self._max_tokens = max_tokens
        self._ahead: dict[int, tuple[int, TokenOutcome]] = {}

    @property
    def complete(self) -> bool:
        return self.end is not None and len(self.tokens) >= self.end

    @property
    def lacks_some(self) -> bool:
        """Whether tokens are known to exist that have not come."""
        return bool(self._ahead) or (self.end is not None and not self.complete)

    def take(self, news: Committed) -> list[int]:
        """Add what the message brings and return the tokens that are new.

        Raises:
            SpecDecodeError: if the message contradicts final tokens: another server has taken the action over, and its
                target is not the same to the last bit.
        """
        known = self.tokens[news.position :]
        if list(news.tokens[: len(known)]) != known[: len(news.tokens)]:
            raise SpecDecodeError(
                f"Token {news.position} and what follows were committed before, and otherwise; use the same checkpoint, "
                "precision and kind of device at every endpoint."
            )
        if news.done:
            self.end = min(news.position + len(news.tokens), self._max_tokens)
        for index, item in enumerate(zip(news.tokens, news.outcomes, strict=True), news.position):
            if len(self.tokens) <= index < self._max_tokens:
                self._ahead[index] = item
        fresh: list[int] = []
        while (position := len(self.tokens)) in self._ahead:
            token, outcome = self._ahead.pop(position)
            self.add(token, outcome)
            fresh.append(token)
        return fresh

    def add(self, token: int, outcome: TokenOutcome) -> None:
        """Add one final token."""
        self.tokens.append(token)
        self.outcomes.append(outcome)
