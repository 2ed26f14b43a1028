"""Child processes that announce themselves with one line ``ready <endpoint>`` and end with their parent."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import spec_decode_ros
from spec_decode_ros.errors import SpecDecodeError

READY = "ready "
_GRACE_S = 5.0
_TAIL_BYTES = 4000


class ChildError(SpecDecodeError):
    """A child process did not come up; the message holds the end of what it wrote to standard error."""


@contextlib.contextmanager
def ready_child(command: Sequence[str], name: str, timeout_s: float) -> Iterator[str]:
    """Start `command`, wait for its ready line and yield what follows the word ``ready``.

    The child's standard input is a pipe that closes when this process dies, however it dies; children end when
    they see it closed. At exit the child is asked to end, and killed after five seconds.

    Raises:
        ChildError: if the child ends or stays silent for `timeout_s` seconds.
    """
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=_environment(),
        )
        try:
            yield _wait_ready(child, stderr, name, timeout_s)
        finally:
            _end(child)


def _environment() -> dict[str, str]:
    """The child imports this package from where this process did, installed or not."""
    here = str(Path(spec_decode_ros.__file__).resolve().parent.parent)
    paths = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _wait_ready(child: subprocess.Popen[str], stderr: IO[bytes], name: str, timeout_s: float) -> str:
    lines: queue.Queue[str] = queue.Queue()
    assert child.stdout is not None
    threading.Thread(target=_drain, args=(child.stdout, lines), name=f"{name} output", daemon=True).start()
    try:
        line = lines.get(timeout=timeout_s)
        while line and not line.startswith(READY):
            line = lines.get(timeout=timeout_s)
    except queue.Empty:
        raise ChildError(f"{name} was not ready within {timeout_s:g} s{_tail(stderr)}") from None
    if not line:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=_GRACE_S)
        raise ChildError(f"{name} ended with code {child.poll()} before it was ready{_tail(stderr)}")
    return line[len(READY) :].strip()


def _drain(stdout: IO[str], lines: queue.Queue[str]) -> None:
    # Read to the end, so that a child that goes on printing never blocks on a full pipe.
    with contextlib.suppress(ValueError, OSError):
        ready = False
        for line in stdout:
            if not ready:
                lines.put(line)
                ready = line.startswith(READY)
    lines.put("")


def _tail(stderr: IO[bytes]) -> str:
    # The child writes through the same file position, so read without moving it.
    size = os.fstat(stderr.fileno()).st_size
    text = os.pread(stderr.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ": " + " / ".join(lines[-3:]) if lines else "; it wrote nothing to standard error"


def _end(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    with contextlib.suppress(OSError):
        child.stdin.close()
    child.terminate()
    try:
        child.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait(timeout=_GRACE_S)
    if child.stdout is not None:
        child.stdout.close()
