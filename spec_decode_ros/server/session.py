"""One action on the server."""

from __future__ import annotations

from dataclasses import dataclass

from spec_decode_ros.decoding.cloud import CloudMachine
from spec_decode_ros.models.interfaces import DraftSession, VerifySession


@dataclass
class Session:
    """Its machine, and what the models keep for it.

    `used` is when it was last heard of, `began` when it was opened; `owed_ms` is model time that its machine has not
    been told of yet.
    """

    client: bytes
    action_id: int
    machine: CloudMachine
    used: float
    prompt: str = ""
    images: tuple[bytes, ...] = ()
    began: float = 0.0
    owed_ms: float = 0.0
    model: VerifySession | None = None
    own: DraftSession | None = None
    own_failed: bool = False
