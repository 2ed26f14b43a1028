"""The processes that share one model: how they are started, connect, and get their calls from the first.

They run on one machine and connect through a file, so no port is open to strangers; what they exchange stays on the
loopback address or between the GPUs. Calls travel as msgpack in tensors of bytes: nothing is unpickled.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgpack
import torch
import torch.distributed as dist

from spec_decode_ros.errors import SpecDecodeError

_log = logging.getLogger(__name__)

_TIMEOUT_S = 600.0
"""Loading takes that long at most, and no pass does."""
_IDLE = timedelta(days=3650)
_GRACE_S = 5.0
_STORE = "store"


class Channel:
    """Sends calls from rank 0 to all others, in order."""

    def __init__(self) -> None:
        # A group of its own on the CPU: it waits while there is no robot, and GPUs do not spin meanwhile.
        self._group = dist.new_group(backend="gloo", timeout=_IDLE)

    def meet(self) -> None:
        """Wait until all ranks are here."""
        dist.barrier(group=self._group)

    def send(self, call: list[Any]) -> None:
        """On rank 0: send a call to the others."""
        packed = bytearray(msgpack.packb(call))
        dist.broadcast(torch.tensor([len(packed)]), 0, group=self._group)
        dist.broadcast(torch.frombuffer(packed, dtype=torch.uint8), 0, group=self._group)

    def receive(self) -> list[Any]:
        """On the others: wait for the next call."""
        length = torch.zeros(1, dtype=torch.int64)
        dist.broadcast(length, 0, group=self._group)
        packed = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(packed, 0, group=self._group)
        return list(msgpack.unpackb(packed.numpy().tobytes()))


def join(rank: int, size: int, folder: str, device: str) -> Channel:
    """Become one of the processes that share a model; waits for the others.

    Args:
        rank: this one's number from 0.
        size: how many there are.
        folder: for the file through which they connect.
        device: cpu or cuda; on cuda each has the GPU of its number.

    Raises:
        SpecDecodeError: this process shares a model already, or the others do not come.
    """
    if dist.is_initialized():
        raise SpecDecodeError(
            "A process can share one model only: load the other one in a process of its own."
        )
    # The processes are on this machine; by default both would listen at the address of a network.
    os.environ.update(GLOO_SOCKET_IFNAME="lo", NCCL_SOCKET_IFNAME="lo")
    cuda = device == "cuda"
    if cuda:
        torch.cuda.set_device(rank)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            init_method=(Path(folder) / _STORE).as_uri(),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=_TIMEOUT_S),
        )
        return Channel()
    except (RuntimeError, ValueError) as error:
        raise SpecDecodeError(f"The processes of a shared model do not find each other: {error}") from error


class Followers:
    """The other processes, from rank 1 on. They end with this one; when one of them ends, this one gets a SIGTERM.

    Args:
        module: what they run, with rank, size and folder as arguments; it reads `settings` as a line of JSON.
        size: how many processes there are with this one.
    """

    def __init__(self, module: str, size: int, settings: dict[str, Any]) -> None:
        self.folder = tempfile.mkdtemp(prefix="spec-decode-ranks-")
        self._ending = False
        self.children: list[subprocess.Popen[bytes]] = []
        for rank in range(1, size):
            command = [sys.executable, "-m", module, str(rank), str(size), self.folder]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            self.children.append(child)
            assert child.stdin is not None
            child.stdin.write(json.dumps(settings).encode() + b"\n")
            child.stdin.flush()
            threading.Thread(target=self._watch, args=(child, rank), name=f"rank {rank}", daemon=True).start()

    def met(self) -> None:
        """All have joined and loaded; their folder is not needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def expect_end(self) -> None:
        """From now on they may end."""
        self._ending = True

    def stop(self) -> None:
        """End them. Stopping twice does nothing."""
        self.expect_end()
        for child in self.children:
            assert child.stdin is not None
            child.stdin.close()
            try:
                child.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(_GRACE_S)
        self.met()

    def _watch(self, child: subprocess.Popen[bytes], rank: int) -> None:
        code = child.wait()
        if not self._ending:
            _log.critical("the process with part %d of the model has ended with code %d; ending", rank, code)
            os.kill(os.getpid(), signal.SIGTERM)


def settings_of_leader() -> dict[str, Any]:
    """In a follower: the settings from rank 0. From now on the process ends when rank 0 does."""
    settings = dict(json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with, args=(sys.stdin.fileno(),), name="parent", daemon=True).start()
    return settings


def _end_with(pipe: int) -> None:
    # Not through Python's buffer, which cannot be closed while a thread reads it.
    while os.read(pipe, 4096):
        pass
    os._exit(0)  # the main thread waits for a call in C, where nothing else reaches it
