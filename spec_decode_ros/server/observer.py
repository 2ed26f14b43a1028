"""Observers of a verifier server, such as its metrics."""

from __future__ import annotations


class ServerObserver:
    """Called by a server in its own threads; this one does nothing. A method returns at once and raises nothing."""

    def pass_done(self, sessions: int, tokens: int, busy_ms: float) -> None:
        """A target pass was shared by so many sessions, over so many new tokens, and took so long."""

    def action_done(self, accepted: int, drafted: int, passes: int, state: str) -> None:
        """An action is over (`state`: done, failed or closed): its passes, the robot's tokens in them, those accepted."""

    def failed(self, code: str) -> None:
        """A robot was sent an error of this code."""

    def queue(self, waiting: int, sessions: int) -> None:
        """A pass is put together for so many `sessions`, while so many more are `waiting` for the model."""
