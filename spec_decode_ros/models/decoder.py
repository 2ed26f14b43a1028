"""What a decoder is to the rest of the package: new tokens in, hidden states out, caches that can be rolled back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import torch

from spec_decode_ros.models.packing import Segment
from spec_decode_ros.models.slots import CacheShape

AfterLayer = Mapping[int, Callable[[torch.Tensor], None]]
"""By number of a layer, from 0, what looks at its hidden states."""

NOBODY: AfterLayer = MappingProxyType({})


class Decoder(Protocol):
    """A stack of decoder layers with its final norm."""

    @property
    def takes_trees(self) -> bool:
        """Whether `run` computes the right thing when it is given `seen`."""
        ...

    @property
    def stops_early(self) -> bool:
        """Whether `run` can be told a `depth`."""
        ...

    @property
    def cache_shape(self) -> CacheShape | None:
        """What a token takes in a cache; None where `run_many` and `reserve` do not work."""
        ...

    def reserve(self, sessions: int, tokens: int) -> None:
        """Allocate memory for so many caches of so many tokens; every later one comes out of it."""
        ...

    def new_cache(self) -> Any:
        """An empty cache. Raises SpecDecodeError if the reserved ones are all taken."""
        ...

    def make_room(self, cache: Any, past: int, length: int) -> None:
        """See that a cache, of whose tokens the first `past` count, can hold `length`. Raises SpecDecodeError."""
        ...

    def free(self, cache: Any) -> None:
        """Give back what `new_cache` gave, which must not be used again."""
        ...

    def roll_back(self, cache: Any, length: int, to: int, depth: int | None = None) -> None:
        """Forget what a cache of `length` tokens holds behind the first `to`; with `depth` only in the first layers."""
        ...

    def move_up(self, cache: Any, start: int, rows: Sequence[int]) -> None:
        """Put what the cache holds at `start + row`, for rising rows, at `start`, `start + 1`, ...; only with trees."""
        ...

    def run(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        cache: Any,
        past: int,
        seen: torch.Tensor | None = None,
        after_layer: AfterLayer = NOBODY,
        depth: int | None = None,
    ) -> torch.Tensor:
        """One pass over tokens (1, T, width) that follow `past` cached ones; hidden states of the same shape.

        Args:
            embeddings: (1, T, width).
            positions: (1, T), or (3, 1, T) for decoders with three-dimensional positions.
            cache: from `new_cache`, holding `past` tokens; it then holds `past + T`.
            seen: for a tree: booleans (N, N), which of the last N tokens each of them sees of these. They see
                everything before them in any case; without it each token sees all before it.
            after_layer: what to call after a layer, with its hidden states (1, T, width), before the next one runs.
            depth: run only so many layers, and not the final norm; the cache of the others stays as it is. Only where
                `stops_early`.
        """
        ...

    def run_many(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        segments: Sequence[Segment],
        after_layer: AfterLayer = NOBODY,
    ) -> torch.Tensor:
        """`run` for several sequences at once, the tokens of all in one row (1, T, width), in the order of `segments`.

        If it raises, every cache is as it was: only what lies behind the tokens that it held may have changed.
        """
        ...
