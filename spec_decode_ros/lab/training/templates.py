"""Templates of sentences in text files, one a line, beside this module in `sentences/`."""

from __future__ import annotations

from importlib.resources import files


def read_lines(name: str) -> tuple[str, ...]:
    """The templates in `sentences/<name>.txt`."""
    text = (files(__package__) / "sentences" / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)
