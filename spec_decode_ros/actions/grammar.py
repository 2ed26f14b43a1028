"""The grammar of actions: what a model may write if its answers are constrained to actions.

Every text of it is an action as :func:`~spec_decode_ros.actions.action.parse_action` reads it, written as
:func:`~spec_decode_ros.actions.action.format_action` writes it, with one of the notes that the prompts explain. With a
posture, or with a note of :data:`~spec_decode_ros.actions.action.STANDING`, both velocities are zero.

EBNF in the dialect of xgrammar, which is that of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Iterable

from spec_decode_ros.actions.action import (
    ACTION_TEXT,
    MAX_VX,
    MAX_WZ,
    POSTURES,
    STANDING,
    format_velocity,
)

BLOCKED = "blocked"
"""The note of a walk that something stands in the way of."""

DEGREES_NOTES = ("searching", "turning")
METRES_NOTES = ("walking",)
SIDES = ("left", "ahead", "right")

OBJECT_WORDS = 3
"""Words of an object's name, at most: `red chair`, `fire hydrant`."""

_WORD_LENGTH = 12
_LONGEST_METRES = "99.9"


def _velocities(limit: float) -> list[str]:
    most = int(limit * 10 + 1e-9)
    return [format_velocity(tenths / 10) for tenths in range(-most, most + 1)]


def _quoted(texts: Iterable[str]) -> str:
    return " | ".join(f'"{text}"' for text in texts)


def _action_grammar() -> str:
    zero = format_velocity(0.0)
    moving = ACTION_TEXT.format('" vx "', '" wz "', '" moving')
    standing = ACTION_TEXT.format(zero, zero, '" standing')
    return "\n".join(
        (
            f'root ::= "{moving} | "{standing}',
            f"vx ::= {_quoted(_velocities(MAX_VX))}",
            f"wz ::= {_quoted(_velocities(MAX_WZ))}",
            'moving ::= object " " side " " metres | degrees_note " " degrees | metres_note " " metres',
            f'standing ::= {_quoted((*POSTURES, BLOCKED))} | (object " ")? ({_quoted(STANDING)})',
            f'object ::= word (" " word){{0,{OBJECT_WORDS - 1}}}',
            f"word ::= [a-z] [a-z0-9\\-]{{0,{_WORD_LENGTH - 1}}}",
            f"side ::= {_quoted(SIDES)}",
            f"degrees_note ::= {_quoted(DEGREES_NOTES)}",
            f"metres_note ::= {_quoted(METRES_NOTES)}",
            'degrees ::= "0" | [1-9] [0-9]{0,2}',
            'metres ::= ("0" | [1-9] [0-9]?) "." [0-9]',
            "",
        )
    )


def _longest() -> int:
    word = "x" * _WORD_LENGTH
    named = " ".join([word] * OBJECT_WORDS)
    fastest = [max(_velocities(limit), key=len) for limit in (MAX_VX, MAX_WZ)]
    zero = format_velocity(0.0)
    texts = [ACTION_TEXT.format(*fastest, f"{named} {side} {_LONGEST_METRES}") for side in SIDES]
    texts += [ACTION_TEXT.format(zero, zero, f"{named} {note}") for note in STANDING]
    return max(map(len, texts))


ACTION_GRAMMAR = _action_grammar()

MAX_ACTION_LENGTH = _longest()
"""Characters of the longest text of :data:`ACTION_GRAMMAR`, which are its tokens at most."""
