"""The request for one action: what is asked for, and how long the edge waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError


@dataclass(frozen=True)
class Request:
    """One action to be decoded. `previous` is the last verified answer, the temporal draft where one is used.

    `resend_s` is how long a silence may last before it is taken for a loss (it doubles while nothing comes; it
    should exceed the upload of a frame). After `deadline_s` the edge ends with what it has: unverified tokens
    if `fallback`, else a failure. Without `fallback` an error from the cloud is a failure at once; with it the
    draft model goes on alone.

    A full server is asked again when it says; `spread`, from 0 to 1, is how much of half that time is added, drawn by
    chance for each action.
    """

    action_id: int
    prompt: str
    images: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 64
    previous: tuple[int, ...] = ()
    resend_s: float = 0.5
    deadline_s: float | None = None
    fallback: bool = True
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not self.resend_s > 0:
            raise SpecDecodeError(f"resend_s must be above 0, not {self.resend_s}.")
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise SpecDecodeError(f"deadline_s must be above 0, or None for none, not {self.deadline_s}.")
        if not 0 <= self.spread <= 1:
            raise SpecDecodeError(f"spread must be from 0 to 1, not {self.spread}.")
