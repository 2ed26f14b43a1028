"""Services of a chaos run: verifiers that can be frozen, killed and started again at the same address."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence

from spec_decode_ros.lab.bench.machine import descendants, free_port, pinned_to
from spec_decode_ros.server.process import START_TIMEOUT_S, server_child
from spec_decode_ros.transport.process import ReadyChild

_REPLICA = "ray::Replica"
_COMPLAINTS = ("Traceback", "ERROR", "CRITICAL")
_MOST_COMPLAINTS = 20


class RestartableService:
    """A process that serves robots on some cores, at the same endpoint after every start."""

    def __init__(self, child: ReadyChild, cores: Sequence[int]) -> None:
        self.child = child
        self.complaints: list[str] = []
        self.endpoint = ""
        self._cores = cores
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start it and wait until it is ready. Raises ChildError."""
        with pinned_to(self._cores):
            self.endpoint = self.child.start()

    def stop(self) -> None:
        """End it, and keep the errors that it logged."""
        self._collect_complaints()
        self.child.stop()

    def freeze(self, seconds: float) -> None:
        """SIGSTOP for a while."""
        with self._lock:
            os.kill(self.child.pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(self.child.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and start it again at once. Raises ChildError."""
        with self._lock:
            self._collect_complaints()
            self.child.kill()
            self.start()

    def kill_replica(self, seed: int) -> bool:
        """SIGKILL to one of its replicas; returns whether there was one."""
        with self._lock:
            replicas = [
                pid for pid, words in descendants(self.child.pid).items() if words.startswith(_REPLICA)
            ]
            if replicas:
                os.kill(random.Random(seed).choice(sorted(replicas)), signal.SIGKILL)
            return bool(replicas)

    def _collect_complaints(self) -> None:
        lines = [line.strip() for line in self.child.stderr_text().splitlines()]
        self.complaints += [line for line in lines if any(word in line for word in _COMPLAINTS)]
        del self.complaints[_MOST_COMPLAINTS:]


def plain_service(pair: str, cores: Sequence[int]) -> RestartableService:
    """`spec-decode serve`."""
    return RestartableService(server_child(pair, bind=_address(), threads=1), cores)


def replicated_service(pair: str, cores: Sequence[int], replicas: int = 2) -> RestartableService:
    """`spec-decode replicas`: several processes under Ray behind one address."""
    command = [sys.executable, "-m", "spec_decode_ros.cli", "replicas", "--pair", pair, "--bind", _address()]
    command += ["--replicas", str(replicas), "--threads", "1", "--device", "cpu", "--with-parent"]
    return RestartableService(ReadyChild(command, "the replicas", START_TIMEOUT_S), cores)


def _address() -> str:
    return f"tcp://127.0.0.1:{free_port()}"
