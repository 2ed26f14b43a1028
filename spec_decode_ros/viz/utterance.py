"""What has been said of one action so far, and how it travels on the topic ``action/tokens``.

A ``std_msgs/String`` with JSON in it, because a terminal, a browser and a bag reader of any language can read
that, and the package then needs no message definitions of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from spec_decode_ros.errors import SpecDecodeError

UtteranceState = Literal["draft", "verified", "unverified"]
"""``draft``: still in the making; ``verified``: what the target says; ``unverified``: the draft model's last word."""

MAX_BYTES = 65536


class UtteranceError(SpecDecodeError):
    """A message on ``action/tokens`` that is none."""


@dataclass(frozen=True)
class Piece:
    """A piece of the action's text, usually one token, and what became of it (a key of ``OUTCOME_COLORS``).

    Where an utterance is still a draft, the outcomes are ``committed`` for what the target has said already and
    ``draft`` for the rest.
    """

    text: str
    outcome: str


@dataclass(frozen=True)
class Utterance:
    """The text of one action. ``problem`` says why it is not carried out; empty where it is."""

    command: str
    pieces: tuple[Piece, ...]
    state: UtteranceState
    problem: str = ""

    @classmethod
    def in_progress(cls, command: str, committed: str, text: str) -> Utterance:
        """``text`` as it stands, of which the target has said ``committed``."""
        rest = text[len(committed) :] if text.startswith(committed) else ""
        parts = (Piece(committed, "committed"), Piece(rest, "draft"))
        return cls(command, tuple(part for part in parts if part.text), "draft")

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    def to_json(self) -> str:
        """The message's text."""
        return json.dumps(
            {
                "command": self.command,
                "state": self.state,
                "pieces": [[piece.text, piece.outcome] for piece in self.pieces],
                "problem": self.problem,
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, message: str) -> Utterance:
        """Read a message; raises UtteranceError for anything that :meth:`to_json` does not write."""
        if len(message) > MAX_BYTES:
            raise UtteranceError(f"an utterance has at most {MAX_BYTES} characters, this has {len(message)}")
        try:
            document = json.loads(message)
        except (ValueError, RecursionError) as error:
            raise UtteranceError(f"an utterance is JSON, this is not: {error}") from error
        if not isinstance(document, dict):
            raise UtteranceError("an utterance is a JSON object")
        state = document.get("state")
        if state not in get_args(UtteranceState):
            raise UtteranceError(f"there is no state {state!r} of an utterance")
        return cls(
            _text(document, "command"),
            tuple(_pieces(document.get("pieces"))),
            cast(UtteranceState, state),
            _text(document, "problem"),
        )


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name, "")
    if not isinstance(value, str):
        raise UtteranceError(f"{name} of an utterance is a text, not {value!r:.40}")
    return value


def _pieces(values: object) -> Iterable[Piece]:
    if not isinstance(values, list):
        raise UtteranceError("the pieces of an utterance are a list")
    for value in values:
        if not (isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)):
            raise UtteranceError(f"a piece of an utterance is a text and its outcome, not {value!r:.40}")
        yield Piece(*value)
