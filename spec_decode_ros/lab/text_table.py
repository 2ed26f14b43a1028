"""Tables of text, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class TextTable:
    """Rows of text under column names; the first `left` columns are aligned to the left, the others to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Text]]
    title: str = ""
    left: int = 1

    def print(self, console: Console) -> None:
        """Print it to the terminal."""
        head = any(self.columns)
        table = Table(
            title=self.title or None, title_justify="left", box=None, padding=(0, 1, 0, 0), show_header=head
        )
        for place, name in enumerate(self.columns):
            right = place >= self.left
            table.add_column(name, justify="right" if right else "left", no_wrap=right)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)

    def markdown(self) -> list[str]:
        """Its lines in Markdown."""
        rule = "|---" * len(self.columns) + "|"
        head, *body = (
            f"| {' | '.join(map(str, row))} |".replace("|  |", "| |") for row in (self.columns, *self.rows)
        )
        return [head, rule, *body]
