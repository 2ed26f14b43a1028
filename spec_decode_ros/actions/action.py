"""Actions: the text that the models write, and the strict parser that turns it into velocities.

The text puts the velocities first, so that motion can begin before the sentence ends::

    vx 0.4 wz -0.6 | red chair right 1.5

``vx`` is the forward speed in m/s and ``wz`` the turn rate in rad/s, left positive. The note after the bar is for
people, for the next prompt and for postures. Any other text raises :class:`ActionError` and moves nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from spec_decode_ros.errors import SpecDecodeError

ACTION_PERIOD_S = 1.0 / 3.0
"""Seconds that an action lasts: the default decision period."""

MAX_VX = 1.0
"""m/s; a text with more is refused, not clamped."""

MAX_WZ = 1.5
"""rad/s; a text with more is refused, not clamped."""

MAX_TEXT = 200
"""Characters of an action text, at most."""

POSTURES = ("stand up", "sit down")

REFUSED = "refused"
"""The note for a harmful or impossible request. A request that makes no sense gets ``not understood``, an object that a
full turn did not show ``not found``."""

NOT_UNDERSTOOD = "not understood"

STANDING = ("stopped", "reached", "done", REFUSED, NOT_UNDERSTOOD, "not found")
"""Notes, alone or behind an object's name, with which the robot stands, whatever velocities the text has."""

ACTION_TEXT = "vx {} wz {} | {}"
"""The form of an action text: two velocities and the note."""

_NUMBER = r"-?[0-9]{1,2}(?:\.[0-9]{1,3})?"
_VELOCITIES = re.compile(rf"vx ({_NUMBER}) wz ({_NUMBER})(?= |$)", re.ASCII)
_NOTE = re.compile(r"[a-z0-9 .\-]{1,120}", re.ASCII)


class ActionError(SpecDecodeError):
    """A text that is not an action; the robot stops."""


@dataclass(frozen=True)
class Action:
    """One action: ``vx`` in m/s, ``wz`` in rad/s, left positive, and a ``note`` in lower case that says why.

    ``contradiction`` says what the text asked for and does not get, because its note is one of :data:`STANDING`.
    """

    vx: float
    wz: float
    note: str
    contradiction: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name, value, limit in (("vx", self.vx, MAX_VX), ("wz", self.wz, MAX_WZ)):
            if not math.isfinite(value) or abs(value) > limit:
                raise ActionError(f"{name} is {value}, not a number within ±{limit}; the robot stops")
        if not _NOTE.fullmatch(self.note):
            raise ActionError(f"the note {self.note[:40]!r} has more than a-z, 0-9, space, dot and dash")

    @property
    def posture(self) -> str | None:
        """``stand up`` or ``sit down`` if the action asks for it, else None."""
        return self.note if self.note in POSTURES else None

    @property
    def moves(self) -> bool:
        """Whether any velocity is not zero."""
        return self.vx != 0.0 or self.wz != 0.0


STOP = Action(0.0, 0.0, "stopped")


def format_velocity(velocity: float) -> str:
    """A velocity with one decimal, as the shipped pair writes it."""
    # Adding 0.0 turns a negative zero into a plain one.
    return f"{round(velocity, 1) + 0.0:.1f}"


def format_action(action: Action) -> str:
    """The text of an action, velocities with one decimal."""
    return ACTION_TEXT.format(format_velocity(action.vx), format_velocity(action.wz), action.note)


def parse_action(text: str) -> Action:
    """Parse an action text; with a note of :data:`STANDING` the velocities are zero.

    Raises:
        ActionError: the text is not exactly one action; the message says why.
    """
    if not isinstance(text, str):
        raise ActionError(f"an action is text, not {type(text).__name__}; the robot stops")
    if len(text) > MAX_TEXT:
        raise ActionError(f"the action has {len(text)} characters, more than {MAX_TEXT}; the robot stops")
    velocities, bar, note = text.strip().partition(" | ")
    match = _VELOCITIES.fullmatch(velocities)
    if not match or not bar:
        raise ActionError(f"{text[:60]!r} is not of the form 'vx 0.4 wz -0.6 | note'; the robot stops")
    action = Action(float(match[1]), float(match[2]), note)
    if action.posture and action.moves:
        raise ActionError(f"{text[:60]!r} asks to {note} and to move at once; the robot stops")
    if action.moves and any(note == end or note.endswith(f" {end}") for end in STANDING):
        return Action(0.0, 0.0, note, f"{text[:60]!r} says {note} and asks to move; the robot stands")
    return action


def parse_velocity_prefix(text: str) -> tuple[float, float] | None:
    """``(vx, wz)`` as soon as an unfinished text has both complete, else None.

    The bar must have begun: before it, ``wz 0.`` could still become ``wz 0.8``. Motion waits for the first letters of the
    note too, until they cannot become one of :data:`STANDING` any more. Behind an object's name only
    :func:`parse_action` knows.
    """
    if not isinstance(text, str) or " |" not in text[:MAX_TEXT]:
        return None
    velocities, _, note = text[:MAX_TEXT].partition(" |")
    match = _VELOCITIES.fullmatch(velocities.strip())
    if not match:
        return None
    vx, wz, note = float(match[1]), float(match[2]), note.strip()
    if (vx or wz) and any(end.startswith(note) for end in STANDING):
        return None
    return (vx, wz) if abs(vx) <= MAX_VX and abs(wz) <= MAX_WZ else None
