"""The interface of a decoder: embeddings of new tokens in, hidden states out, on KV caches that can be rolled back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch

from spec_decode_ros.models.kv_cache import CacheShape

LayerHooks = Mapping[int, Callable[[torch.Tensor], None]]
"""By layer number, from 0: what is called with the layer's hidden states before the next layer runs."""

NO_HOOKS: LayerHooks = MappingProxyType({})


class Segment(NamedTuple):
    """The new tokens of one sequence in a pass.

    Attributes:
        cache: from `Decoder.new_cache`; holds `past` tokens, and `new` more after the pass.
        visible: for a token tree: booleans (N, N), which of the last N tokens each of them attends to. All attend to
            everything before these N; without it each token attends to all before it.
    """

    cache: Any
    past: int
    new: int
    visible: torch.Tensor | None = None

    @property
    def total(self) -> int:
        return self.past + self.new


class Decoder(Protocol):
    """A stack of decoder layers with its final norm."""

    @property
    def takes_trees(self) -> bool:
        """Whether `run` is right for segments that have `visible`."""
        ...

    @property
    def stops_early(self) -> bool:
        """Whether `run` can be given a `depth`."""
        ...

    @property
    def cache_shape(self) -> CacheShape | None:
        """The size of one token in a cache; None where `run` takes one segment only and `reserve` does not work."""
        ...

    def reserve(self, sessions: int, tokens: int) -> None:
        """Allocate memory for so many caches of so many tokens; every later one comes out of it."""
        ...

    def new_cache(self) -> Any:
        """An empty cache. Raises SpecDecodeError if the reserved ones are all taken."""
        ...

    def make_room(self, cache: Any, past: int, length: int) -> None:
        """See that a cache, of whose tokens the first `past` are valid, can hold `length`. Raises SpecDecodeError."""
        ...

    def free(self, cache: Any) -> None:
        """Give back what `new_cache` gave, which must not be used again."""
        ...

    def roll_back(self, cache: Any, length: int, to: int, depth: int | None = None) -> None:
        """Forget what a cache of `length` tokens holds behind the first `to`; with `depth` only in the first layers."""
        ...

    def move_up(self, cache: Any, start: int, rows: Sequence[int]) -> None:
        """Move the entries at `start + row`, for rising rows, to `start`, `start + 1`, ...; only with trees."""
        ...

    def run(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        segments: Sequence[Segment],
        hooks: LayerHooks = NO_HOOKS,
        depth: int | None = None,
    ) -> torch.Tensor:
        """One pass over the new tokens of all segments in turn; hidden states (1, T, width).

        If it raises, caches of a decoder with a `cache_shape` hold what they held.

        Args:
            embeddings: (1, T, width).
            positions: (1, T), or (3, 1, T) for decoders with three-dimensional positions.
            segments: of different caches; only one where `cache_shape` is None.
            hooks: are given hidden states (1, T, width).
            depth: run only so many layers, and not the final norm; the caches of the others stay as they are. Only
                where `stops_early`.
        """
        ...
