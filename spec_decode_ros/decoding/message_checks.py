"""Checks of the fields that several messages share."""

from __future__ import annotations

import operator
from collections.abc import Iterable

from spec_decode_ros.errors import SpecDecodeError

MAX_TOKEN_ID = 2**31 - 1


def token_tuple(tokens: Iterable[int]) -> tuple[int, ...]:
    """The ids as a tuple of int. Raises SpecDecodeError."""
    result = []
    for token in tokens:
        if isinstance(token, bool) or not hasattr(token, "__index__") or not 0 <= token <= MAX_TOKEN_ID:
            raise SpecDecodeError(f"A token id must be an int from 0 to {MAX_TOKEN_ID}, not {token!r}.")
        result.append(operator.index(token))  # numpy integers too
    return tuple(result)


def check_id(action_id: int) -> None:
    """Raise SpecDecodeError unless it counts from 1."""
    if action_id < 1:
        raise SpecDecodeError(f"action_id counts up from 1, not {action_id}.")


def check_settled(settled: int, tokens: tuple[int, ...]) -> None:
    """Raise SpecDecodeError unless so many of the tokens can be settled."""
    if not 0 <= settled <= len(tokens):
        raise SpecDecodeError(f"From 0 to all {len(tokens)} of the tokens may be settled, not {settled}.")


def check_position(position: int) -> None:
    """Raise SpecDecodeError unless it counts from 0."""
    if position < 0:
        raise SpecDecodeError(f"position counts answer tokens from 0, not {position}.")
