"""Held-out sentences with what a planner should make of them, which no training data was made from."""

from __future__ import annotations

from pathlib import Path

from spec_decode_ros.errors import SpecDecodeError


def read_held_out(path: Path) -> list[tuple[str, str]]:
    """Sentences and what is expected of each: a plan's text or its kind (`stop`, `refused`, `not understood`).

    Raises:
        SpecDecodeError: a line is not `sentence => expected`.
    """
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        sentence, arrow, expected = line.rpartition(" => ")
        if not arrow or not sentence.strip() or not expected.strip():
            raise SpecDecodeError(
                f"{line!r} in {path.name} is not of the form 'sit => sit down'; correct the line"
            )
        pairs.append((sentence.strip(), expected.strip()))
    return pairs
