"""The operator's terminal as a textual application.

A stop never waits: it goes to the robot in the call that handles the key, before anything is drawn. However the
application ends, the last thing that it sends is a stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import signal
import time
from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.theme import Theme
from textual.widgets import Static

from spec_decode_ros.printable import all_printable
from spec_decode_ros.robots.reflex import is_emergency, is_stop
from spec_decode_ros.teleop import view
from spec_decode_ros.teleop.command_line import CommandLine
from spec_decode_ros.teleop.completion import completions, next_words
from spec_decode_ros.teleop.history import History
from spec_decode_ros.teleop.palette import NIGHT, PAPER, Palette
from spec_decode_ros.teleop.port import Event, RobotPort
from spec_decode_ros.teleop.robot_status import RobotStatus

REFRESH_S = 0.1
RELEASE_WINDOW_S = 3.0
STOP_AGAIN_S = 0.3
"""Seconds after which an unconfirmed stop is sent again."""

LOW, NARROW = 20, 70
"""Rows and columns below which the layout leaves out empty lines."""


class RobotEvent(Message):
    """An event of the robot on its way into the application's own thread."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event


class TeleopApp(App[int]):
    """The terminal for one robot.

    Args:
        robot: gets the stops and the commands.
        history: of commands.
        palette: at the start; F2 changes it.
        terminal: file descriptor that is watched: without it there is no operator; None: not watched.
        clock: seconds, monotonic.
    """

    ENABLE_COMMAND_PALETTE = False
    TITLE = "spec-decode teleop"
    CSS = """
    Screen { layout: vertical; background: $background; color: $foreground; }
    Static { width: 1fr; height: 1; padding: 0 1; background: $background; }
    #banner { padding: 0; height: 3; margin: 1 0; }
    #motion { margin: 0 0 1 0; }
    #plan { height: 3; margin: 0; display: none; }
    #answers { height: 5; margin: 0; }
    #log { height: 1fr; border-top: solid $secondary; }
    #line { border: round $secondary; background: $background; background-tint: $background 0%; height: 3; padding: 0 1; }
    #line:focus { border: round $primary; background-tint: $background 0%; }
    #line > .input--suggestion, #line > .input--placeholder { color: $accent; }
    #line > .input--cursor { background: $foreground; color: $background; text-style: none; }
    .planned #plan { display: block; }
    .planned #answers { height: 3; }
    .low #banner { height: 1; margin: 0; }
    .low #motion { margin: 0; }
    .low #plan { height: 1; }
    .low #answers { height: 3; }
    .low #line { border: none; height: 1; }
    .low #line:focus { border: none; }
    .low #legend, .low #options { display: none; }
    .tall #answers { height: 8; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        # Reached only where the line has no focus; with focus the line itself tells a stop from a space.
        Binding("space", "stop", show=False),
        Binding("escape", "stop", priority=True, show=False),
        Binding("ctrl+e,f9", "emergency_stop", priority=True, show=False),
        Binding("f6", "release", priority=True, show=False),
        Binding("f2", "change_palette", priority=True, show=False),
        Binding("ctrl+c,ctrl+q", "leave", priority=True, show=False),
    ]

    def __init__(
        self,
        robot: RobotPort,
        history: History | None = None,
        *,
        palette: Palette = PAPER,
        terminal: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.robot = robot
        self.status = RobotStatus()
        self.palette = palette
        self._history = history or History()
        self._terminal = terminal
        self._now = clock
        self._release_armed = float("-inf")
        self._asked_at = float("-inf")
        self._drawn: dict[str, Text] = {}
        for known in (PAPER, NIGHT):
            self.register_theme(
                Theme(
                    name=known.name,
                    primary=known.ink,
                    secondary=known.line,
                    accent=known.muted,
                    background=known.ground,
                    surface=known.ground,
                    foreground=known.ink,
                    dark=known.dark,
                )
            )
        self.theme = palette.name

    # -- from other threads ---------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Show an event of the robot. Callable from any thread; returns at once and never raises."""
        with contextlib.suppress(Exception):  # the application has ended or has not begun
            self.post_message(RobotEvent(all_printable(event)))

    # -- parts ----------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        with Vertical():
            for name in ("header", "banner", "motion", "plan", "answers", "legend", "log"):
                yield Static("", id=name, markup=False)
            yield CommandLine(self._history, self.action_stop, "say what to do: go to the red chair")
            for name in ("options", "footer"):
                yield Static("", id=name, markup=False)

    def on_mount(self) -> None:
        self.query_one(CommandLine).focus()
        if self._history.problem:
            self.note("note", self._history.problem)
        self.set_interval(REFRESH_S, self._tick)
        loop = asyncio.get_running_loop()
        for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(
                RuntimeError, ValueError
            ):  # not in the main thread, as under a test's pilot
                loop.add_signal_handler(name, self.action_leave)
        self._refresh()

    def on_resize(self, event: events.Resize) -> None:
        low = event.size.height < LOW or event.size.width < NARROW
        self.screen.set_class(low, "low")
        self.screen.set_class(event.size.height >= 30 and not low, "tall")
        self._drawn.clear()
        self.call_after_refresh(self._refresh)

    # -- keys -----------------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        self.robot.stop()
        self._note_stop("stop", self.status.stop_asked)

    def action_emergency_stop(self) -> None:
        self.robot.emergency_stop()
        self._release_armed = float("-inf")
        self._note_stop("emergency stop", self.status.emergency_asked)

    def _note_stop(self, name: str, asked: Callable[[float], None]) -> None:
        self._asked_at = self._now()
        asked(self._asked_at)
        self._line.wipe()
        self.note("you", name)
        self._refresh()

    def action_release(self) -> None:
        now = self._now()
        if now - self._release_armed > RELEASE_WINDOW_S:
            self._release_armed = now
            self.note("note", "release the emergency stop? press F6 once more")
        else:
            self._release()
        self._refresh()

    def _release(self) -> None:
        self._release_armed = float("-inf")
        self.robot.release()
        self.status.release_asked()
        self.note("you", "release")

    def action_change_palette(self) -> None:
        self.palette = NIGHT if self.palette is PAPER else PAPER
        self.theme = self.palette.name
        self._drawn.clear()
        self._refresh()

    def action_leave(self) -> None:
        self.robot.stop()
        self.exit(0)

    def on_input_submitted(self, message: CommandLine.Submitted) -> None:
        line = " ".join(message.value.split())
        self._line.clear()
        if is_emergency(line):
            self.action_emergency_stop()
        elif line.lower() in ("quit", "exit"):  # before the stops, of which `quit` is one elsewhere
            self.action_leave()
        elif is_stop(line):
            if line:
                self._history.add(line)
            self.action_stop()
        elif line.lower() == "release":
            self._release()
        else:
            self._say(line)
        self._refresh()

    def _say(self, line: str) -> None:
        self._history.add(line)
        if self._history.problem:
            self.note("note", self._history.problem)
            self._history.problem = ""
        self.robot.say(line)
        self.status.said(line, self._now())
        if self.status.emergency:
            self.note("alarm", "the emergency stop is latched: it will not move before F6, F6")

    def on_input_changed(self, message: CommandLine.Changed) -> None:
        self._line.typed()
        self._refresh()

    # -- events ---------------------------------------------------------------------------------------------

    def on_robot_event(self, message: RobotEvent) -> None:
        self.status.take(message.event, self._now())

    def note(self, kind: str, text: str) -> None:
        """Add a line to the log."""
        self.status.note(self._now(), kind, text)

    def _terminal_lost(self) -> bool:
        if self._terminal is None:
            return False
        poll = select.poll()
        poll.register(self._terminal, select.POLLIN)
        return any(flags & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, flags in poll.poll(0))

    # -- drawing --------------------------------------------------------------------------------------------

    @property
    def _line(self) -> CommandLine:
        return self.query_one(CommandLine)

    def _tick(self) -> None:
        if self._terminal_lost():
            self.action_leave()
            return
        self._repeat_stop()
        self._refresh()

    def _repeat_stop(self) -> None:
        """Send a stop again until the motion node confirms it, because it may not have been found the first time."""
        now = self._now()
        if not self.status.stop_unconfirmed or now - self._asked_at < STOP_AGAIN_S:
            return
        self._asked_at = now
        if self.status.emergency_unconfirmed:
            self.robot.emergency_stop()
        else:
            self.robot.stop()

    def _refresh(self) -> None:
        if not self.is_running or not self.screen.is_mounted:
            return
        now, status, palette = self._now(), self.status, self.palette
        width, inner = self.size.width, max(1, self.size.width - 2)
        low = self.screen.has_class("low")
        self._draw("header", view.header(status, palette, now, width))
        self._draw("banner", view.banner(status, palette, now, width, high=not low))
        self._draw("motion", view.motion(status, palette, now, width))
        self.screen.set_class(status.plan is not None, "planned")
        self._draw("plan", view.plan(status, palette, now, inner, 1 if low else 3))
        answers = self.query_one("#answers").size.height
        self._draw("answers", view.answers(status, palette, now, inner, answers))
        self._draw("legend", view.legend(palette, inner))
        wall = time.time() - now
        clock = [time.strftime("%H:%M:%S", time.localtime(wall + line.when)) for line in status.log]
        rows = self.query_one("#log").size.height
        self._draw("log", view.log(status, palette, inner, rows, clock))
        typed = self._line.value
        words = dict.fromkeys(next_words(typed, line) for line in completions(typed))
        self._draw("options", view.options(words, palette, inner))
        self._draw("footer", view.footer(self.keys(), palette, inner))

    def keys(self) -> list[tuple[str, str]]:
        """The keys that matter now, the most important first."""
        stop = ("SPACE", "stop") if self._line.space_stops else ("ESC", "stop")
        keys = [stop, ("^E", "emergency stop")]
        if self.status.emergency:
            keys.append(("F6 F6", "release"))
        if self._line.value.strip():
            keys += [("ENTER", "say it"), ("TAB", "complete"), ("2×SPACE", "stop as well")]
        else:
            keys += [("ESC", "stop, even in mid-sentence"), ("↑", "said before")]
        return [*keys, ("F2", "light/dark"), ("^C", "stop and leave")]

    def _draw(self, name: str, text: Text) -> None:
        if self._drawn.get(name) != text:
            self._drawn[name] = text
            self.query_one(f"#{name}", Static).update(text)
