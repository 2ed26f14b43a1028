"""The result of an action on the robot, its progress, and its errors."""

from __future__ import annotations

from dataclasses import dataclass

from spec_decode_ros.decoding.commands import Counts, Done
from spec_decode_ros.edge.recording import Recorder, Span, Stats
from spec_decode_ros.errors import SpecDecodeError


class ActionFailed(SpecDecodeError):
    """The action has no answer; the message says why."""


class ActionCancelled(ActionFailed):
    """`EdgeRuntime.cancel` ended the action."""


@dataclass(frozen=True)
class Progress:
    """The answer as it stands. The first `committed` tokens are final; what follows is the draft.

    `text` is all of it, `committed_text` the final part; `ended` says that nothing follows unless the draft
    turns out wrong.
    """

    tokens: tuple[int, ...]
    committed: int
    text: str
    committed_text: str
    ended: bool
    elapsed_ms: float


@dataclass(frozen=True)
class ActionResult:
    """What :meth:`EdgeRuntime.act` returns.

    Attributes:
        tokens: answer token ids, the end token included.
        text: the answer.
        verified: whether all of it is what the target says.
        complete: whether the answer came to its end; an unverified one may have been cut off by the deadline.
        outcomes: for each token ``accepted``, ``recovered``, ``bonus`` or ``unverified``.
        stats: the numbers of the action by name; those that do not apply are None.
        timeline: (lane, name, start, end), lanes ``robot``, ``link``, ``cloud``, milliseconds from the capture.
    """

    tokens: tuple[int, ...]
    text: str
    verified: bool
    complete: bool
    outcomes: tuple[str, ...]
    stats: Stats
    timeline: tuple[Span, ...]

    @property
    def without_model(self) -> bool:
        """Whether the robot has answered by itself."""
        return not self.tokens


def answer_without_model(text: str) -> ActionResult:
    """An answer that the robot gives by itself, at once; not verified, because that is only what the target says."""
    done = Done((), (), verified=False, complete=True, counts=Counts())
    return ActionResult((), text, False, True, (), Recorder(0.0, None).stats(done, "none", 0.0), ())
