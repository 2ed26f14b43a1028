"""An early exit on a GPU beside the pass, so that the pass waits for nothing.

A hook runs when a layer is launched, which on a GPU is before it has been computed. What looks at its outcome there and
then holds up the launching of the later layers; here the exit is queued on a stream of its own, behind an event that
the layer sets off, and a thread waits for its outcome.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from spec_decode_ros.models.exits import Exits

_LONGEST_WAIT_S = 60.0


class StreamedExit:
    """The exit after one layer, and when its choices were in the memory of the host."""

    def __init__(self, exits: Exits, layer: int, device: torch.device) -> None:
        self._exits, self._layer = exits, layer
        self._stream = torch.cuda.Stream(device)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="exit")
        self._told: Future[float] | None = None

    @torch.inference_mode()
    def look(self, hidden: torch.Tensor) -> None:
        """Begin with rows (K, width) of hidden states; returns at once. To be called after the layer."""
        reached = torch.cuda.Event()
        reached.record()
        self._stream.wait_event(reached)
        with torch.cuda.stream(self._stream):
            sure, choices = self._exits.logits(self._layer, hidden).float().softmax(-1).max(-1)
            told = torch.empty((2, len(hidden)), pin_memory=True)
            told.copy_(torch.stack((choices.float(), sure)), non_blocking=True)
            done = torch.cuda.Event(blocking=True)
            done.record()
        hidden.record_stream(self._stream)
        self._told = self._thread.submit(self._wait, done)

    @staticmethod
    def _wait(done: torch.cuda.Event) -> float:
        done.synchronize()
        return time.perf_counter()

    def told_at(self) -> float:
        """When the choices were there, on the clock of `time.perf_counter`."""
        assert self._told is not None
        return self._told.result(_LONGEST_WAIT_S)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()
