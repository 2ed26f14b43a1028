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
_SOCKET = "transport.router_worker"
_SOCKET_ENDED = "the process of the socket has ended"
_COMPLAINTS = ("Traceback", "ERROR", "CRITICAL")
_MOST_COMPLAINTS = 20


class RestartableService:
    """A process that serves robots on some cores, at the same endpoint after every start."""

    def __init__(self, child: ReadyChild, cores: Sequence[int]) -> None:
        self.child = child
        self.complaints: list[str] = []
        self._aborts: list[str] = []
        self._sockets_killed = 0
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
        """SIGSTOP to all its processes for a while."""
        with self._lock:
            processes = [self.child.pid, *descendants(self.child.pid)]
            for pid in processes:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            for pid in processes:
                os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and start it again at once. Raises ChildError."""
        with self._lock:
            self._collect_complaints()
            self._aborts = self.aborts
            self._sockets_killed = 0
            self.child.kill()
            self.start()

    @property
    def aborts(self) -> list[str]:
        """What has ended by itself so far."""
        found = list(self._aborts)
        if not self.child.running:
            found.append(f"the server at {self.endpoint} had ended by itself")
        sockets = self.child.stderr_text().count(_SOCKET_ENDED) - self._sockets_killed
        if sockets > 0:
            found.append(f"the socket at {self.endpoint} ended {sockets} times by itself")
        return found

    def kill_socket(self) -> bool:
        """SIGABRT to the process of its socket, as an assertion of ZeroMQ's ends it; returns whether there was one."""
        with self._lock:
            sockets = [pid for pid, words in descendants(self.child.pid).items() if _SOCKET in words]
            for pid in sockets:
                os.kill(pid, signal.SIGABRT)
                self._sockets_killed += 1
            return bool(sockets)

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
        self.complaints += [
            line for line in lines if any(word in line for word in _COMPLAINTS) and _SOCKET_ENDED not in line
        ]
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
