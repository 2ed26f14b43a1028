"""Text that comes from outside, made harmless for a terminal.

Names of topics, instructions, paths, sentences of a server and the like may hold control characters, with which a
terminal can be told to hide or to change what it shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

_JOINERS = "\u200c\u200d"  # within words of some scripts, and within emoji


def printable(text: str, keep: str = "") -> str:
    """The text in one line: other space becomes a space, and control characters are named (``\\x1b``).

    Args:
        text: from anywhere.
        keep: characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in keep or one in _JOINERS else " " if one.isspace() else _named(one)
        for one in text
    )


def _named(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def all_printable(value: Any) -> Any:
    """The same for every text in a dataclass, a tuple or a mapping."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, tuple):
        return tuple(all_printable(one) for one in value)
    if isinstance(value, Mapping):
        return {all_printable(key): all_printable(one) for key, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return dataclasses.replace(
            value, **{field.name: all_printable(getattr(value, field.name)) for field in fields}
        )
    return value
