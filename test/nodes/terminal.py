"""A terminal for tests: a real pty, and as much of a screen as it takes to read what an application draws."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Sequence

WAIT_S = 60.0
"""For what takes a second or two where nothing else runs."""

_SEQUENCE = re.compile(
    r"\x1b\[(?P<parameters>[0-9;:?<>=]*)[ -/]*(?P<final>[@-~])|\x1b[\]P_^].*?(?:\x07|\x1b\\)|\x1b[()].|\x1b[=>78cDEHM]",
    re.DOTALL,
)


class Screen:
    """Rows of characters; understands where to write and what to erase, and takes no interest in colours."""

    def __init__(self, columns: int, rows: int) -> None:
        self.resize(columns, rows)
        self._rest = ""

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.cells = [[" "] * columns for _ in range(rows)]
        self._x = self._y = 0

    def feed(self, text: str) -> None:
        text, self._rest = self._rest + text, ""
        place = 0
        while place < len(text):
            if text[place] == "\x1b":
                found = _SEQUENCE.match(text, place)
                if found is None:
                    self._rest = text[place:]  # cut in two by a read
                    return
                if found["final"]:
                    self._obey(found["parameters"], found["final"])
                place = found.end()
            else:
                self._write(text[place])
                place += 1

    def _write(self, letter: str) -> None:
        if letter == "\r":
            self._x = 0
        elif letter == "\n":
            self._y = min(self.rows - 1, self._y + 1)
        elif letter >= " " and self._x < self.columns and self._y < self.rows:
            self.cells[self._y][self._x] = letter
            self._x += 1

    def _obey(self, parameters: str, final: str) -> None:
        numbers = [int(part) if part.isdigit() else 0 for part in parameters.split(";")]
        if final == "H":
            row, column = (*numbers, 0, 0)[:2]
            self._y, self._x = max(1, row) - 1, max(1, column) - 1
        elif final == "J" and numbers[0] == 2:
            self.cells = [[" "] * self.columns for _ in range(self.rows)]
        elif final == "K" and self._y < self.rows:
            self.cells[self._y][self._x :] = [" "] * (self.columns - self._x)
        elif final in "ABCD":
            step = max(1, numbers[0])
            self._x += {"C": step, "D": -step}.get(final, 0)
            self._y += {"B": step, "A": -step}.get(final, 0)

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.cells]

    def __str__(self) -> str:
        return "\n".join(self.lines)


class Terminal:
    """A process with a terminal of its own, its controlling one."""

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], columns: int = 80, rows: int = 24
    ) -> None:
        self.screen = Screen(columns, rows)
        self._text = b""
        self.code: int | None = None
        # A size in the environment, as a runner of tests may put there, would count more than the terminal's own.
        environment = {k: v for k, v in environment.items() if k not in ("COLUMNS", "LINES")}
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], list(command), environment)
        self._set_size()

    def _set_size(self) -> None:
        size = struct.pack("HHHH", self.screen.rows, self.screen.columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def resize(self, columns: int, rows: int) -> None:
        self.look(0.3)  # what is drawn for the old size belongs to the old screen
        self.screen.resize(columns, rows)
        self._set_size()

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def look(self, seconds: float = 0.05) -> str:
        """Take in what has been drawn."""
        end = time.monotonic() + seconds
        while (
            self._master >= 0 and select.select([self._master], [], [], max(0.0, end - time.monotonic()))[0]
        ):
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the process has closed its end
                break
            if not data:
                break
            text = self._text + data
            shown = text.decode("utf-8", "ignore")
            self._text = b""
            if text[-1] >= 0x80 and text.decode("utf-8", "replace").endswith("\ufffd"):
                cut = max(at for at in range(max(0, len(text) - 4), len(text)) if text[at] >= 0xC0)
                shown, self._text = text[:cut].decode("utf-8", "ignore"), text[cut:]
            self.screen.feed(shown)
        return str(self.screen)

    def wait_for(self, condition: str | Callable[[], object], timeout_s: float = WAIT_S) -> str:
        """Until some words stand on the screen, or something else is true; returns the screen."""
        end = time.monotonic() + timeout_s
        while True:
            shown = self.look()
            if condition in shown if isinstance(condition, str) else condition():
                return shown
            assert time.monotonic() < end, f"waited in vain for {condition!r}; the screen:\n{shown}"
            assert self.poll() is None, f"ended with {self.code} before {condition!r}; the screen:\n{shown}"

    def poll(self) -> int | None:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, timeout_s: float = WAIT_S) -> int:
        end = time.monotonic() + timeout_s
        while self.poll() is None:
            self.look(0.02)
            assert time.monotonic() < end, f"it did not end; the screen:\n{self.screen}"
        assert self.code is not None
        return self.code

    def hang_up(self) -> None:
        """Close the window: the process gets SIGHUP and a dead terminal."""
        os.close(self._master)
        self._master = -1

    def close(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.code = -9
        if self._master >= 0:
            self.hang_up()
