"""What decoders have in common that keep keys and values in rows of memory and take several sequences in one pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from spec_decode_ros.models.decoder import NOBODY, AfterLayer
from spec_decode_ros.models.packing import Attention, Pack, Segment
from spec_decode_ros.models.slots import CacheShape, RowCache, SlotPool

LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")
"""Kinds of rotary positions that depend on the longest position in the pass, so that sequences disturb each other."""


class RowDecoder(ABC):
    """A `decoder.Decoder` for which forgetting what was rejected costs nothing."""

    takes_trees = True
    stops_early = True

    def __init__(self, shape: CacheShape, heads: int) -> None:
        self.cache_shape = shape
        self.attention = Attention(heads, shape.heads, shape.dtype, shape.device)
        self.pool: SlotPool | None = None

    def reserve(self, sessions: int, tokens: int) -> None:
        self.pool = SlotPool(self.cache_shape, sessions, tokens)

    def new_cache(self) -> RowCache:
        return self.pool.take() if self.pool else RowCache(self.cache_shape)

    def make_room(self, cache: RowCache, past: int, length: int) -> None:
        cache.reserve(past, length)

    def free(self, cache: RowCache) -> None:
        cache.free()

    def roll_back(  # noqa: B027 (not abstract)
        self, cache: RowCache, length: int, to: int, depth: int | None = None
    ) -> None:
        """Nothing to do: the next pass says how many tokens it keeps."""

    def move_up(self, cache: RowCache, start: int, rows: Sequence[int]) -> None:
        cache.move_up(start, rows)

    def run(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        cache: RowCache,
        past: int,
        seen: torch.Tensor | None = None,
        after_layer: AfterLayer = NOBODY,
        depth: int | None = None,
    ) -> torch.Tensor:
        pack = self.attention.pack([Segment(cache, past, embeddings.shape[1], seen)])
        return self._run(embeddings, positions, pack, after_layer, depth)

    def run_many(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        segments: Sequence[Segment],
        after_layer: AfterLayer = NOBODY,
    ) -> torch.Tensor:
        return self._run(embeddings, positions, self.attention.pack(segments), after_layer, None)

    @abstractmethod
    def _run(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        pack: Pack,
        after_layer: AfterLayer,
        depth: int | None,
    ) -> torch.Tensor:
        """The layers over tokens (1, T, width), whose attention `pack` computes; see `decoder.Decoder.run`."""
