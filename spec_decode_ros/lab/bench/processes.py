"""What processes use and which they have started, as Linux tells it; None, or nobody, where the system does not."""

from __future__ import annotations

import os
import socket
from pathlib import Path

_USER, _SYSTEM = 11, 12
"""Places of the times in /proc/PID/stat, counted after the name."""


def cpu_s(pid: int) -> float | None:
    """Seconds of processor time since its start, of all its threads."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int) -> int | None:
    """Memory that is resident now."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def descendants(pid: int) -> dict[int, str]:
    """The command lines of all processes that it has started, and that these have."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:  # it has just ended
            continue
        for child in children:
            try:
                words = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            found[child] = words.replace(b"\0", b" ").decode("utf-8", "replace").strip()
            found |= descendants(child)
    return found


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
