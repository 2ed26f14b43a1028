"""Signals of a process that runs until it is told to end, and its end with its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping


class EndRequested(BaseException):
    """SIGINT or SIGTERM has come; raised in the main thread, so that everything that was opened is closed."""


@contextlib.contextmanager
def listening(more: Mapping[int, Callable[[], None]] | None = None) -> Iterator[None]:
    """Run until `EndRequested`, which ends the context silently.

    Args:
        more: what further signals do; they interrupt the main thread, so it should be quick.
    """

    def ask() -> None:
        raise EndRequested

    acts: dict[int, Callable[[], None]] = {signal.SIGINT: ask, signal.SIGTERM: ask, **(more or {})}

    def handle(number: int, frame: object) -> None:
        acts[number]()

    before = {number: signal.signal(number, handle) for number in acts}
    try:
        with contextlib.suppress(EndRequested):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """From now on, ask this process to end when its standard input closes."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(sys.stdin.fileno(), 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
