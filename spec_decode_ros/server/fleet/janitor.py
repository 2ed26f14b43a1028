"""Temporary folders with a janitor process, which ends what is left of a Ray when the process that started it is gone.

Some of Ray's processes outlive a parent that was killed, and some even one that ended in order. The janitor waits at a
pipe that closes with the parent, and finds the others by their open files in the folder, where each of them writes a log.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_END_S = 10.0


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[str]:
    """A new folder for this user alone. When this context or this process ends, so do all others with files open in it."""
    folder = tempfile.mkdtemp(prefix=prefix)
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, folder],
        stdin=subprocess.PIPE,
        start_new_session=True,  # it must survive Ctrl-C in a terminal
    )
    assert process.stdin is not None
    try:
        yield folder
    finally:
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)


def users_of(folder: str) -> Iterator[int]:
    """Ids of the processes that have files open in `folder`."""
    inside = f"{folder}/"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # of another user, or ended
            if any(os.readlink(handle).startswith(inside) for handle in (process / "fd").iterdir()):
                yield int(process.name)


def main(folder: str) -> int:
    """Wait for the end of standard input, then clean up."""
    parent = os.getppid()
    while os.read(sys.stdin.fileno(), 4096):
        pass
    until = time.monotonic() + _END_S / 2
    while (left := set(users_of(folder)) - {parent}) and time.monotonic() < until:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
