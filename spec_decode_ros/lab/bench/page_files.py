"""The benchmark page out of the files that `spec-decode bench --json` has written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.page import page


def write_page(files: Sequence[Path], out: Path) -> None:
    """Write it, into a folder that is there. Raises SpecDecodeError."""
    try:
        text = page([_read(path) for path in files])
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise SpecDecodeError(
            f"these files are no bench documents (no {error}): write them with `bench --json`"
        ) from error
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecDecodeError(f"cannot write {out}: {error.strerror or error}") from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecDecodeError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SpecDecodeError(f"{path} is no JSON document: {error}") from error
