"""The one kind of console that commands print to: text stays as it is, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from spec_decode_ros.printable import printable


class PlainConsole(Console):
    """No markup, no emoji codes, no highlighting, and no control characters but those of the console's own styles.

    A key may hold ``:v:`` or ``[b]``, and an operator copies it from the screen. Styles are given by `style` or as
    `rich.text.Text`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As in rich, with harmless text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text, "\n"), segment.style)
