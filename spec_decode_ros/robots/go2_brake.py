"""A watchdog process that stops the Go2 when the process that drives it dies or hangs.

The driver writes one byte to this process's standard input for every velocity that it sends, and another one when
the robot has confirmed a stop. Where the bytes stop coming while the robot walks, or the pipe closes because the
driver was killed, StopMove is sent until the robot confirms it. A Go2 left alone walks on for about a second.
Obstacle avoidance takes the sticks from the remote control. Two more bytes say who has them, and when the driver is gone,
by whatever end, this process gives them back.
It answers what it reads, so that the driver notices if this process hangs, and replaces it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

from spec_decode_ros.robots.go2_channel import Go2Error, open_channel, robot_clients

MOVES, STANDS = b"m", b"s"
API, REMOTE = b"a", b"r"
"""Whom the robot obeys: this program, or the remote control's sticks."""
SILENCE_S = 0.3
"""Seconds without a byte, while the robot walks, after which this process brakes."""

_CALL_S = 0.2
_GIVE_UP_S = 10.0
_RESTART_S = 2.0
_ANSWERS_WITHIN_S = 0.5
_READY, _READ = b"go2_brake is ready", b"."


class Brake:
    """The driver's side: starts the process and writes the bytes. Never blocks, never raises."""

    def __init__(self, domain: int, interface: str) -> None:
        self._command = [
            sys.executable,
            "-m",
            "spec_decode_ros.robots.go2_brake",
            f"--domain={domain}",
            f"--interface={interface}",
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._started = -60.0
        self._ready = False
        self._unanswered: float | None = None  # since when
        self._sticks = REMOTE

    def start(self) -> None:
        """Start the process, and again if it has ended or hangs, at most once in two seconds."""
        alive = self._process is not None and self._process.poll() is None and not self._hangs()
        if alive or time.monotonic() - self._started < _RESTART_S:
            return
        self.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._started = time.monotonic()
        self._ready, self._unanswered = False, None
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # A Ctrl-C at the terminal is the driver's; the brake must outlive it.
                start_new_session=True,
            )
            assert self._process.stdin is not None and self._process.stdout is not None
            for pipe in (self._process.stdin, self._process.stdout):
                os.set_blocking(pipe.fileno(), False)
            os.write(self._process.stdin.fileno(), self._sticks)

    @property
    def holds(self) -> bool:
        """Whether the process is there, ready to brake, and answers."""
        if self._process is None or self._process.poll() is not None:
            return False
        if self._process.stdout is not None:
            with contextlib.suppress(OSError, ValueError):
                said = os.read(self._process.stdout.fileno(), 4096)
                self._ready |= _READY in said
                if said.endswith(_READ):
                    self._unanswered = None
        return self._ready and not self._hangs()

    def _hangs(self) -> bool:
        since = self._unanswered
        return since is not None and time.monotonic() - since > _ANSWERS_WITHIN_S

    def tell(self, byte: bytes) -> None:
        """Tell the process that the robot moves or stands, or whom it obeys.

        A full pipe needs no more bytes: it has the same ones.
        """
        if byte in (API, REMOTE):
            self._sticks = byte
        if self._process is not None and self._process.stdin is not None:
            if self._unanswered is None:
                self._unanswered = time.monotonic()
            with contextlib.suppress(OSError, ValueError):
                os.write(self._process.stdin.fileno(), byte)

    def close(self) -> None:
        """Close the pipe; the process brakes if it has to, and gives the remote control its sticks, before it ends."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def hold(domain: int, interface: str) -> None:
    """Watch the driver until it is gone. Standard input is the pipe from it."""
    try:
        open_channel(domain, interface)
    except Go2Error as error:
        print(f"go2_brake: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    sport, avoid = robot_clients(_CALL_S)
    # The SDK prints to standard output too, which must carry only these answers.
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.set_blocking(answers, False)
    os.write(answers, _READY + b"\n")
    pipe = sys.stdin.fileno()
    moves, taken = False, False
    while True:
        ready, _, _ = select.select([pipe], [], [], SILENCE_S if moves else None)
        told = os.read(pipe, 4096) if ready else b""
        if told:
            moves = _last(told, MOVES, STANDS, moves)
            taken = _last(told, API, REMOTE, taken)
            with contextlib.suppress(OSError):  # nobody reads, or the driver is gone
                os.write(answers, _READ)
            continue
        if moves:
            print("go2_brake: the driver is gone or hangs: stopping the robot", file=sys.stderr, flush=True)
            _stop(sport, avoid)
            moves = False
        if ready:  # the pipe is closed
            if taken:
                _give_back(avoid)
            return


def _last(told: bytes, yes: bytes, no: bytes, before: bool) -> bool:
    """Which of two bytes came last."""
    return told.rfind(yes) > told.rfind(no) or (before and no not in told)


def _give_back(avoid: Any) -> None:
    print("go2_brake: giving the remote control its sticks back", file=sys.stderr, flush=True)
    end = time.monotonic() + _GIVE_UP_S
    while time.monotonic() < end and avoid.UseRemoteCommandFromApi(False) != 0:
        pass


def _stop(sport: Any, avoid: Any) -> None:
    end = time.monotonic() + _GIVE_UP_S
    while time.monotonic() < end:
        code = sport.StopMove()
        # Where the robot avoids obstacles, it was told to move by this other service.
        avoid.Move(0.0, 0.0, 0.0)
        if code == 0:
            return


def main() -> None:
    """Entry point of the child process."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    parser.add_argument("--domain", type=int, required=True)
    parser.add_argument("--interface", required=True)
    args = parser.parse_args()
    hold(args.domain, args.interface)
    os._exit(0)


if __name__ == "__main__":
    main()
