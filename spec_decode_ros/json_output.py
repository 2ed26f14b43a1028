"""Writes results to files: JSON for programs, and texts; pictures are written under `writing`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spec_decode_ros.errors import SpecDecodeError


def write_json(destination: str, value: Any) -> None:
    """Write `value` as JSON to a file, making its folder, or to standard output for ``-``.

    Raises:
        SpecDecodeError: the file cannot be written.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if destination == "-":
        sys.stdout.write(text)
    else:
        write_text(Path(destination), text)


def write_text(path: Path, text: str) -> None:
    """Write a text file, making its folder.

    Raises:
        SpecDecodeError: it cannot be written.
    """
    with writing(path):
        path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of a file that is written within the context.

    Raises:
        SpecDecodeError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise SpecDecodeError(f"cannot write {path}: {error.strerror or error}") from error
