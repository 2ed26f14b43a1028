"""What training needs of an architecture: batched passes with a slope, one protocol for both pairs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import torch

from spec_decode_ros.lab.training.network import Pointer

Item = TypeVar("Item")


class Passes(Protocol):
    """Batched passes of one architecture; :mod:`spec_decode_ros.lab.training.network` is one such."""

    def see(self, model: Any, frames: torch.Tensor) -> torch.Tensor:
        """Visual tokens (B, cells, width) of frames (B, height, width, 3) uint8."""
        ...

    def think(
        self,
        model: Any,
        visual: torch.Tensor,
        tokens: torch.Tensor,
        question: torch.Tensor,
        position: torch.Tensor,
    ) -> torch.Tensor:
        """Hidden states (B, T, width) of the text tokens of all questions, each of which sees the picture and itself."""
        ...

    def pointer(self, model: Any, layer: int) -> Pointer:
        """Watches a decoder layer."""
        ...


class Answers:
    """The output head over the tokens that a model can say: all, or those of a reduced table."""

    def __init__(self, head: Any) -> None:
        self._head = head
        self.tokens: torch.Tensor | None = None
        if hasattr(head, "frequent"):
            self.tokens = head.tokens.long()
            self._row = torch.full((head.out_features,), -100, device=self.tokens.device)
            self._row[self.tokens] = torch.arange(len(self.tokens), device=self.tokens.device)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits (N, sayable) of hidden states (N, width)."""
        return self._head(hidden) if self.tokens is None else self._head.frequent(hidden)

    def columns(self, tokens: torch.Tensor) -> torch.Tensor:
        """Where tokens (N,) are among the sayable ones, -100 for those that are not."""
        return tokens if self.tokens is None else self._row[tokens]

    def of(self, logits: torch.Tensor) -> torch.Tensor:
        """The sayable columns of another model's logits (N, vocabulary)."""
        return logits if self.tokens is None else logits[:, self.tokens]


def ahead(items: Iterator[Item], count: int) -> Iterator[Item]:
    """The same items, up to `count` of them made in a thread before they are asked for."""
    made: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(count)
    over = threading.Event()

    def make() -> None:
        failure: BaseException | None = None
        try:
            for item in items:
                if not _put(made, (item, None), over):
                    return
        except BaseException as error:
            failure = error
        _put(made, (None, failure), over)

    thread = threading.Thread(target=make, daemon=True, name="batches")
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        over.set()
        thread.join(timeout=10.0)


def _put(made: queue.Queue[Any], item: Any, over: threading.Event) -> bool:
    while not over.is_set():
        try:
            made.put(item, timeout=0.2)
            return True
        except queue.Full:
            continue
    return False
