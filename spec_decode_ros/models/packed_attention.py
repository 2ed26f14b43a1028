"""Attention for several sequences whose new tokens stand in one row, each sequence against its own KV cache.

The linear layers of a decoder treat tokens one by one; only attention needs to know which sequence a token belongs to.
Sequences whose caches are from one pool and that have about as many new tokens are computed in one call, padded to the
longest of them; any other sequence in a call of its own. On two CPU cores one call for 64 sequences took a fifth of the
time of 64 calls; on a GPU this has not been measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from spec_decode_ros.models.decoder import Segment
from spec_decode_ros.models.kv_cache import CachePool, PooledCache

QueryKeyValue = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Queries (T, heads, width), and keys and values (T, key-value heads, width)."""

_WIDEST_IN_BATCH = 32
"""Sequences with more new tokens are computed alone: the call is no longer what costs, and masks grow with the square."""


class AttentionHeads:
    """What the passes of one decoder have in common: its head counts, and the causal mask.

    Args:
        heads: query heads.
        shared: key-value heads, which divide them.
    """

    def __init__(self, heads: int, shared: int, dtype: torch.dtype, device: torch.device) -> None:
        self.heads, self.shared = heads, shared
        self._causal = torch.zeros((0, 0), dtype=dtype, device=device)

    def causal(self, past: int, total: int) -> torch.Tensor:
        """Additive mask (new tokens, total): each token attends to all before it. Not to be changed."""
        if total > len(self._causal):
            size = max(256, 2 * total)
            self._causal = self._causal.new_full((size, size), float("-inf")).triu(1)
        return self._causal[past:total, :total]


class PackedAttention:
    """The attention of one pass over segments that follow each other in this order; called once a layer.

    Reserves room in their caches. Raises SpecDecodeError if one cannot hold its segment.
    """

    def __init__(self, heads: AttentionHeads, segments: Sequence[Segment]) -> None:
        self._heads = heads.heads
        self._calls: list[_Single | _Batch] = []
        # By pool, and by bits of the number of new tokens.
        groups: dict[tuple[CachePool, int], list[tuple[int, Segment]]] = {}
        start = 0
        for segment in segments:
            segment.cache.reserve(segment.past, segment.total)
            pool = segment.cache.pool if isinstance(segment.cache, PooledCache) else None
            if pool is None or segment.new > _WIDEST_IN_BATCH or len(segments) == 1:
                self._calls.append(_Single(heads, start, segment))
            else:
                groups.setdefault((pool, (segment.new - 1).bit_length()), []).append((start, segment))
            start += segment.new
        for (pool, _), members in groups.items():
            alone = len(members) == 1
            self._calls.append(_Single(heads, *members[0]) if alone else _Batch(heads, pool, members))

    def attend(self, layer: int, qkv: QueryKeyValue, scale: float | None = None) -> torch.Tensor:
        """Write keys and values to the caches, and attend for the queries; returns (T, heads * width)."""
        if len(self._calls) == 1:
            return self._calls[0].attend(layer, qkv, scale)
        query, keys, values = qkv
        mixed = query.new_empty((query.shape[0], self._heads * values.shape[-1]))
        for call in self._calls:
            rows = call.rows
            mixed[rows] = call.attend(layer, (query[rows], keys[rows], values[rows]), scale)
        return mixed


class _Single:
    """One sequence."""

    def __init__(self, heads: AttentionHeads, start: int, segment: Segment) -> None:
        self.rows = slice(start, start + segment.new)
        self._heads, self._shared = heads.heads, heads.shared
        self._cache, self._past, self._total = segment.cache, segment.past, segment.total
        self._mask = None
        if segment.new > 1:
            mask = heads.causal(segment.past, segment.total)
            if segment.visible is not None:
                mask = with_tree(mask.clone(), segment.visible)
            self._mask = mask.repeat(self._heads // self._shared, 1)

    def attend(self, layer: int, qkv: QueryKeyValue, scale: float | None) -> torch.Tensor:
        query, keys, values = qkv
        count, _, width = query.shape
        all_keys = self._cache.keys[layer, None, :, : self._total]
        all_values = self._cache.values[layer, None, :, : self._total]
        all_keys[0, :, self._past :] = keys.transpose(0, 1)
        all_values[0, :, self._past :] = values.transpose(0, 1)
        # Query heads that share a key-value head become further rows of it, so that nothing is repeated.
        query = query.transpose(0, 1).reshape(1, self._shared, -1, width)
        mixed = F.scaled_dot_product_attention(query, all_keys, all_values, attn_mask=self._mask, scale=scale)
        return mixed.view(self._heads, count, width).transpose(0, 1).reshape(count, -1)


class _Batch:
    """Sequences with about equally many new tokens and caches of one pool."""

    rows: slice | torch.Tensor

    def __init__(
        self, heads: AttentionHeads, pool: CachePool, members: Sequence[tuple[int, Segment]]
    ) -> None:
        self._pool, self._heads, self._shared = pool, heads.heads, heads.shared
        segments = [segment for _, segment in members]
        self._widest = max(segment.new for segment in segments)
        self._longest = max(segment.total for segment in segments)
        rows: list[int] = []
        slots: list[int] = []
        columns: list[int] = []
        # Those with fewer new tokens repeat their last one; what comes of the repetitions is left out.
        padding: list[int] = []
        kept: list[int] = []
        for number, (start, segment) in enumerate(members):
            segment.cache.clear(self._longest)
            padding += range(len(rows), len(rows) + segment.new)
            padding += [padding[-1]] * (self._widest - segment.new)
            kept += range(number * self._widest, number * self._widest + segment.new)
            rows += range(start, start + segment.new)
            slots += [segment.cache.slot] * segment.new
            columns += range(segment.past, segment.total)

        def index(numbers: Sequence[int]) -> torch.Tensor:
            return torch.tensor(numbers, device=pool.keys.device)

        self.rows = slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] + 1 == len(rows) else index(rows)
        self._slots = index([segment.cache.slot for segment in segments])
        self._where = (index(slots), slice(None), index(columns))
        padded = len(padding) > len(rows)
        self._padding = index(padding) if padded else None
        self._kept = index(kept) if padded else None
        self._mask = self._masked(segments).repeat(1, self._heads // self._shared, 1).unsqueeze(1)

    def _masked(self, segments: Sequence[Segment]) -> torch.Tensor:
        """Additive (sequences, widest, longest)."""
        keys = self._pool.keys
        new = torch.arange(self._widest, device=keys.device)
        past = torch.tensor([segment.past for segment in segments], device=keys.device)
        most = torch.tensor([segment.total - 1 for segment in segments], device=keys.device)
        last_seen = torch.minimum(past.unsqueeze(1) + new, most.unsqueeze(1)).unsqueeze(2)
        hidden = torch.arange(self._longest, device=keys.device) > last_seen
        mask = keys.new_zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
        for rows, segment in zip(mask, segments, strict=True):
            if segment.visible is not None:
                with_tree(rows[: segment.new, : segment.total], segment.visible)
        return mask

    def attend(self, layer: int, qkv: QueryKeyValue, scale: float | None) -> torch.Tensor:
        query, keys, values = qkv
        size, width, count = len(self._slots), query.shape[-1], self._widest
        all_keys, all_values = self._pool.keys[layer], self._pool.values[layer]
        all_keys[self._where] = keys
        all_values[self._where] = values
        if self._padding is not None:
            query = query.index_select(0, self._padding)
        query = query.reshape(size, count, self._heads, width).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(
            query.reshape(size, self._shared, -1, width),
            all_keys[:, :, : self._longest].index_select(0, self._slots),
            all_values[:, :, : self._longest].index_select(0, self._slots),
            attn_mask=self._mask,
            scale=scale,
        )
        mixed = mixed.view(size, self._heads, count, width).transpose(1, 2).reshape(size * count, -1)
        return mixed if self._kept is None else mixed.index_select(0, self._kept)


def with_tree(mask: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """The additive `mask` (T, total), changed so that of the last N tokens each attends to those in `visible` (N, N)."""
    count = len(visible)
    mask[-count:, -count:] = torch.zeros_like(mask[-count:, -count:]).masked_fill(
        ~visible.to(mask.device), float("-inf")
    )
    return mask
