"""The input line for commands, with history, completion, and spaces that stop the robot where no sentence has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.suggester import Suggester
from textual.widgets import Input

from spec_decode_ros.teleop.completion import completions
from spec_decode_ros.teleop.history import History


class Suggestions(Suggester):
    """The grey text after the cursor: the last command that began like this, or the likeliest phrase."""

    def __init__(self, history: History) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._history = history

    async def get_suggestion(self, value: str) -> str | None:
        return suggestion(value, self._history)


def suggestion(typed: str, history: History) -> str | None:
    """The whole line suggested for what is typed; None if there is none."""
    if not typed.strip():
        return None
    for entry in reversed(history.entries):
        if entry.startswith(typed) and entry != typed:
            return entry
    return next((line for line in completions(typed) if line.startswith(typed)), None)


class CommandLine(Input):
    """Up and down walk the history by what is typed; Tab completes, and again takes the next choice.

    ``stop`` is called at once for a space that no sentence can have.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,ctrl+r", "older", show=False),
        Binding("down", "newer", show=False),
        Binding("tab", "complete", show=False),
        Binding("shift+tab", "complete(-1)", show=False),
    ]

    def __init__(self, history: History, stop: Callable[[], None], placeholder: str = "") -> None:
        super().__init__(placeholder=placeholder, suggester=Suggestions(history), id="line")
        self.history = history
        self._stop = stop
        self._round: list[str] = []
        self._turn = 0

    @property
    def space_stops(self) -> bool:
        """Whether a space is a stop: no sentence begins with one, and none has two in a row."""
        before = self.value[: self.cursor_position]
        return not self.value.strip() or before.endswith(" ")

    def on_key(self, event: events.Key) -> None:
        # A terminal cannot tell Alt with a key from Escape and that key right after it; as a stop, both are right.
        if event.key.startswith("alt+") or (event.key == "space" and self.space_stops):
            event.stop()
            event.prevent_default()
            self._stop()

    def show_line(self, text: str) -> None:
        """Replace what is typed."""
        self.value = text
        self.cursor_position = len(text)

    def wipe(self) -> None:
        """Empty the line, also of keys that are still on their way to it."""
        self.clear()
        self.call_later(self.clear)

    def action_older(self) -> None:
        entry = self.history.older(self.value)
        if entry is not None:
            self.show_line(entry)

    def action_newer(self) -> None:
        entry = self.history.newer(self.value)
        if entry is not None:
            self.show_line(entry)

    def action_complete(self, step: int = 1) -> None:
        if self.value not in self._round:
            first = suggestion(self.value, self.history)
            choices = [*([first] if first else []), *completions(self.value)]
            self._round, self._turn = list(dict.fromkeys(choices)), -1 if step > 0 else 0
        if self._round:
            self._turn = (self._turn + step) % len(self._round)
            self.show_line(self._round[self._turn])

    def typed(self) -> None:
        """The line was edited by hand: end the walk through the history and the round of completions."""
        if self.value not in self._round:
            self._round = []
        place = self.history.shown
        if place is not None and place != self.value:
            self.history.reset()
