"""Verifiers that are frozen, killed and started again at the address that they had."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence

from spec_decode_ros.lab.bench.cores import on
from spec_decode_ros.lab.bench.processes import descendants, free_port
from spec_decode_ros.server.process import START_TIMEOUT_S, server_child
from spec_decode_ros.transport.process import ReadyChild

_REPLICA = "ray::Replica"
_COMPLAINTS = ("Traceback", "ERROR", "CRITICAL")
_MOST_COMPLAINTS = 20


class ServedAddress:
    """One address at which robots are served, and what is done to the process behind it.

    Args:
        child: prints its endpoint when it is ready, the same after every start.
        cores: on which it runs.
    """

    def __init__(self, child: ReadyChild, cores: Sequence[int]) -> None:
        self.child = child
        self.complaints: list[str] = []
        self.endpoint = ""
        self._cores = cores
        self._lock = threading.Lock()

    def start(self) -> None:
        """Wait until it serves. Raises ChildError."""
        with on(self._cores):
            self.endpoint = self.child.start()

    def stop(self) -> None:
        """End it, and keep what it complained about."""
        self._listen()
        self.child.stop()

    def freeze(self, seconds: float) -> None:
        """Let it do nothing for so long."""
        with self._lock:
            os.kill(self.child.pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(self.child.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and start it again at once. Raises ChildError."""
        with self._lock:
            self._listen()
            self.child.kill()
            self.start()

    def kill_replica(self, seed: int) -> bool:
        """SIGKILL to one of the processes that serve behind this address; whether there was one."""
        with self._lock:
            replicas = [
                pid for pid, words in descendants(self.child.pid).items() if words.startswith(_REPLICA)
            ]
            if replicas:
                os.kill(random.Random(seed).choice(sorted(replicas)), signal.SIGKILL)
            return bool(replicas)

    def _listen(self) -> None:
        lines = [line.strip() for line in self.child.stderr_text().splitlines()]
        self.complaints += [line for line in lines if any(word in line for word in _COMPLAINTS)]
        del self.complaints[_MOST_COMPLAINTS:]


def plain_service(pair: str, cores: Sequence[int]) -> ServedAddress:
    """`spec-decode serve`."""
    return ServedAddress(server_child(pair, bind=_address(), threads=1), cores)


def replicated_service(pair: str, cores: Sequence[int], replicas: int = 2) -> ServedAddress:
    """`spec-decode replicas`: several processes under Ray behind one address."""
    command = [sys.executable, "-m", "spec_decode_ros.cli", "replicas", "--pair", pair, "--bind", _address()]
    command += ["--replicas", str(replicas), "--threads", "1", "--device", "cpu", "--with-parent"]
    return ServedAddress(ReadyChild(command, "the replicas", START_TIMEOUT_S), cores)


def _address() -> str:
    return f"tcp://127.0.0.1:{free_port()}"
