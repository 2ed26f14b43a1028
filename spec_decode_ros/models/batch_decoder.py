"""Base class of the decoders that keep their own KV caches and take several sequences in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spec_decode_ros.models.kv_cache import CachePool, CacheShape, KVCache
from spec_decode_ros.models.packed_attention import AttentionHeads


def sequences_disturb_each_other(module: Any) -> bool:
    """Whether a decoder's rotary positions depend on the longest sequence in the pass."""
    return getattr(getattr(module, "rotary_emb", None), "rope_type", "") in ("dynamic", "longrope")


class BatchDecoder:
    """A `decoder.Decoder` but for its `run`, on caches that need no work to roll back."""

    takes_trees = True
    stops_early = True

    def __init__(self, shape: CacheShape, heads: int) -> None:
        self.cache_shape = shape
        self.heads = AttentionHeads(heads, shape.heads, shape.dtype, shape.device)
        self.pool: CachePool | None = None

    def reserve(self, sessions: int, tokens: int) -> None:
        self.pool = CachePool(self.cache_shape, sessions, tokens)

    def new_cache(self) -> KVCache:
        return self.pool.take() if self.pool else KVCache(self.cache_shape)

    def make_room(self, cache: KVCache, past: int, length: int) -> None:
        cache.reserve(past, length)

    def free(self, cache: KVCache) -> None:
        cache.free()

    def roll_back(self, cache: KVCache, length: int, to: int, depth: int | None = None) -> None:
        """Nothing to do: the next pass says how many tokens it keeps."""

    def move_up(self, cache: KVCache, start: int, rows: Sequence[int]) -> None:
        cache.move_up(start, rows)
