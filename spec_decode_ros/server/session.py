"""One action on the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spec_decode_ros.decoding.cloud import CloudMachine
from spec_decode_ros.models.interfaces import DraftSession, VerifySession


@dataclass
class Session:
    """The state machine of an action, and its sessions on the models.

    Attributes:
        last_heard: when a message came, or a pass was made, on the monotonic clock.
        began: when it was opened.
        unreported_ms: model time that the machine has not been given yet.
        verify_session, draft_session: on the target, and on the server's own draft model.
        server_draft_failed: the action goes on without server drafts.
    """

    client: bytes
    action_id: int
    machine: CloudMachine
    last_heard: float
    prompt: str = ""
    images: tuple[bytes, ...] = ()
    began: float = 0.0
    unreported_ms: float = 0.0
    verify_session: VerifySession | None = None
    draft_session: DraftSession | None = None
    server_draft_failed: bool = False

    def jump_forward(self, committed: Sequence[int]) -> tuple[int, ...]:
        """The tokens that must follow, whatever the target says; in the model thread, while it has a verify session."""
        return self.verify_session.jump_forward(committed) if self.verify_session else ()
