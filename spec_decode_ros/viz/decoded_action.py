"""What has been decoded of one action so far, and how it travels on the topic ``action/tokens``.

A ``std_msgs/String`` with JSON in it, because a terminal, a browser and a bag reader of any language can read
that, and the package then needs no message definitions of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from spec_decode_ros.errors import SpecDecodeError

DecodingState = Literal["draft", "verified", "unverified"]
"""``draft``: not complete; ``verified``: the target's own tokens; ``unverified``: complete, by the draft model alone."""

MAX_BYTES = 65536


class DecodedActionError(SpecDecodeError):
    """A message on ``action/tokens`` that is not a decoded action."""


@dataclass(frozen=True)
class Piece:
    """A piece of the action's text, usually one token, and its outcome (a key of ``OUTCOME_COLORS``).

    While the action is a draft, the outcomes are ``committed`` for what the target has committed already and
    ``draft`` for the rest.
    """

    text: str
    outcome: str


@dataclass(frozen=True)
class DecodedAction:
    """The text of one action.

    ``problem`` says why it is not carried out; empty where it is. ``target_fingerprint`` is of the weights that have
    verified it; empty where none have, or they are not known. ``last_action`` is the last action as the prompt had it.
    """

    command: str
    pieces: tuple[Piece, ...]
    state: DecodingState
    problem: str = ""
    target_fingerprint: str = ""
    last_action: str = ""

    @classmethod
    def in_progress(cls, command: str, committed: str, text: str) -> DecodedAction:
        """``text`` as it stands, of which the target has committed ``committed``."""
        rest = text[len(committed) :] if text.startswith(committed) else ""
        parts = (Piece(committed, "committed"), Piece(rest, "draft"))
        return cls(command, tuple(part for part in parts if part.text), "draft")

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def words(self) -> tuple[Piece, ...]:
        """The pieces without space around their texts, and without empty ones."""
        stripped = (Piece(piece.text.strip(), piece.outcome) for piece in self.pieces)
        return tuple(piece for piece in stripped if piece.text)

    def to_json(self) -> str:
        """The message's text."""
        return json.dumps(
            {
                "command": self.command,
                "state": self.state,
                "pieces": [[piece.text, piece.outcome] for piece in self.pieces],
                "problem": self.problem,
                "target_fingerprint": self.target_fingerprint,
                "last_action": self.last_action,
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, message: str) -> DecodedAction:
        """Read a message; raises DecodedActionError for anything that :meth:`to_json` does not write."""
        if len(message) > MAX_BYTES:
            raise DecodedActionError(f"a message has at most {MAX_BYTES} characters, this has {len(message)}")
        try:
            document = json.loads(message)
        except (ValueError, RecursionError) as error:
            raise DecodedActionError(f"the message is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise DecodedActionError("the message is not a JSON object")
        state = document.get("state")
        if state not in get_args(DecodingState):
            raise DecodedActionError(
                f"state is {state!r:.40}, not one of {', '.join(get_args(DecodingState))}"
            )
        return cls(
            _text(document, "command"),
            tuple(_pieces(document.get("pieces"))),
            cast(DecodingState, state),
            _text(document, "problem"),
            _text(document, "target_fingerprint"),
            _text(document, "last_action"),
        )


def pieces_of(
    decode: Callable[[Sequence[int]], str], tokens: Sequence[int], outcomes: Sequence[str]
) -> tuple[Piece, ...]:
    """A decoded text cut into its tokens' texts, each with its outcome; a token that is only space joins the next one."""
    pieces, before = [], ""
    for index, outcome in enumerate(outcomes):
        text = decode(tokens[: index + 1])
        if text[len(before) :].strip():
            pieces.append(Piece(text[len(before) :], outcome))
            before = text
    return tuple(pieces)


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name, "")
    if not isinstance(value, str):
        raise DecodedActionError(f"{name} is not text but {value!r:.40}")
    return value


def _pieces(values: object) -> Iterable[Piece]:
    if not isinstance(values, list):
        raise DecodedActionError("pieces is not a list")
    for value in values:
        if not (isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)):
            raise DecodedActionError(f"a piece is a text and its outcome, not {value!r:.40}")
        yield Piece(*value)
