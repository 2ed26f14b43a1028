"""Commands that need no model: stop, and emergency stop."""

from __future__ import annotations

from spec_decode_ros.actions.commands import TEMPLATES

_POLITE = frozenset({"please", "now", "robot", "hey", "ok", "immediately", "emergency"})
_STOPS = frozenset(
    " ".join(word for word in phrase.replace("'", "").split() if word not in _POLITE)
    for phrase in TEMPLATES["stop"]
    if "{" not in phrase
)

_EMERGENCIES = frozenset({"emergency stop", "emergency", "e-stop", "estop"})


def is_emergency(line: str) -> bool:
    """Whether an operator's line asks for the emergency stop, which latches."""
    return line.lower() in _EMERGENCIES


def is_stop(command: str) -> bool:
    """Whether a command says stop and nothing else (an empty one does too).

    ``stop``, ``Please halt!`` and ``don't move`` are; ``stop at the red chair`` is a way to go and is not.
    """
    kept = "".join(letter if letter.isalpha() else " " for letter in command.lower().replace("'", ""))
    words = [word for word in kept.split() if word not in _POLITE]
    return not words or " ".join(words) in _STOPS
