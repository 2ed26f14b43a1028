"""Reads text files that a user names."""

from __future__ import annotations

from pathlib import Path

from spec_decode_ros.errors import SpecDecodeError


def read_text(path: str | Path, what: str) -> str:
    """The text of a file; `what` it is stands in the sentence of an error. Raises SpecDecodeError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecDecodeError(f"cannot read the {what} in {path}: {reason or error}") from error
