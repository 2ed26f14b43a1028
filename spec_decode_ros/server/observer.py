"""Who watches a verifier server: metrics, and whatever else wants to know what it does."""

from __future__ import annotations

from typing import Protocol


class ServerObserver(Protocol):
    """Told what a server does, in the server's own threads: every method returns at once and raises nothing."""

    def pass_done(self, sessions: int, tokens: int, busy_ms: float) -> None:
        """A target pass was shared by so many sessions, over so many new tokens, and took so long."""
        ...

    def action_done(self, accepted: int, drafted: int, passes: int, state: str) -> None:
        """An action is over (`state`: done, failed or closed): its passes, the robot's tokens in them, those accepted."""
        ...

    def failed(self, code: str) -> None:
        """A robot was sent an error of this code."""
        ...

    def queue(self, waiting: int, sessions: int) -> None:
        """So many sessions wait for the model just now, of so many that are open."""
        ...


class NoObserver:
    """Watches nothing."""

    def pass_done(self, sessions: int, tokens: int, busy_ms: float) -> None: ...

    def action_done(self, accepted: int, drafted: int, passes: int, state: str) -> None: ...

    def failed(self, code: str) -> None: ...

    def queue(self, waiting: int, sessions: int) -> None: ...
