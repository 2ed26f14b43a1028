"""Attention for several sequences whose new tokens stand in one row, each sequence against its own cache.

The linear layers of a decoder do not care whose tokens stand beside each other; attention does. Sequences that have a
slot of the same pool and about as many new tokens are computed in one call, padded to the longest of them; any other
sequence in a call of its own. On two CPU cores one call for 64 sequences took a fifth of the time of 64 calls; on a GPU,
where the number of calls counts for more, this has not been measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional as F

from spec_decode_ros.models.slots import RowCache, Slot, SlotPool

_WIDEST_TOGETHER = 32
"""Sequences with more new tokens are computed alone: the call is no longer what costs, and masks grow with the square."""


class Segment(NamedTuple):
    """New tokens of one sequence.

    Attributes:
        cache: holds `past` tokens, and `new` more after the pass.
        seen: for a tree: booleans (N, N), which of the last N new tokens each of them sees of these.
    """

    cache: RowCache
    past: int
    new: int
    seen: torch.Tensor | None = None

    @property
    def total(self) -> int:
        return self.past + self.new


class Attention:
    """What packs of one decoder have in common.

    Args:
        heads: query heads.
        shared: key-value heads, which divide them.
    """

    def __init__(self, heads: int, shared: int, dtype: torch.dtype, device: torch.device) -> None:
        self.heads, self.shared = heads, shared
        self._lower = torch.zeros((0, 0), dtype=dtype, device=device)

    def causal(self, past: int, total: int) -> torch.Tensor:
        """Additive mask (new tokens, total): each token sees all before it. Not to be changed."""
        if total > len(self._lower):
            size = max(256, 2 * total)
            self._lower = self._lower.new_full((size, size), float("-inf")).triu(1)
        return self._lower[past:total, :total]

    def pack(self, segments: Sequence[Segment]) -> Pack:
        """Prepare a pass over the segments, whose tokens follow each other in this order; reserves room for them.

        Raises SpecDecodeError if a cache cannot hold them.
        """
        return Pack(self, segments)


class Pack:
    """The attention of one pass, called once a layer. See `Attention.pack`."""

    def __init__(self, attention: Attention, segments: Sequence[Segment]) -> None:
        self._heads = attention.heads
        groups: dict[
            tuple[SlotPool, int], list[tuple[int, Segment]]
        ] = {}  # by bits of the number of new tokens
        self._calls: list[_Alone | _Together] = []
        start = 0
        for segment in segments:
            segment.cache.reserve(segment.past, segment.total)
            pool = segment.cache.pool if isinstance(segment.cache, Slot) else None
            if pool is None or segment.new > _WIDEST_TOGETHER or len(segments) == 1:
                self._calls.append(_Alone(attention, start, segment))
            else:
                groups.setdefault((pool, (segment.new - 1).bit_length()), []).append((start, segment))
            start += segment.new
        for (pool, _), members in groups.items():
            if len(members) == 1:
                self._calls.append(_Alone(attention, *members[0]))
            else:
                self._calls.append(_Together(attention, pool, members))

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scale: float | None = None,
    ) -> torch.Tensor:
        """Write keys and values (T, key-value heads, width) to the caches, and mix for queries (T, heads, width).

        Returns (T, heads * width).
        """
        if len(self._calls) == 1:
            return self._calls[0].attend(layer, query, keys, values, scale)
        mixed = query.new_empty((query.shape[0], self._heads * values.shape[-1]))
        for call in self._calls:
            rows = call.rows
            mixed[rows] = call.attend(layer, query[rows], keys[rows], values[rows], scale)
        return mixed


class _Alone:
    """One sequence."""

    def __init__(self, attention: Attention, start: int, segment: Segment) -> None:
        self.rows = slice(start, start + segment.new)
        self._heads, self._shared = attention.heads, attention.shared
        self._cache, self._past, self._total = segment.cache, segment.past, segment.total
        self._mask = None
        if segment.new > 1:
            mask = attention.causal(segment.past, segment.total)
            if segment.seen is not None:
                mask = with_tree(mask.clone(), segment.seen)
            self._mask = mask.repeat(self._heads // self._shared, 1)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scale: float | None,
    ) -> torch.Tensor:
        count, _, width = query.shape
        all_keys = self._cache.keys[layer, None, :, : self._total]
        all_values = self._cache.values[layer, None, :, : self._total]
        all_keys[0, :, self._past :] = keys.transpose(0, 1)
        all_values[0, :, self._past :] = values.transpose(0, 1)
        # Query heads that share a key-value head become further rows of it, so that nothing is repeated.
        query = query.transpose(0, 1).reshape(1, self._shared, -1, width)
        mixed = F.scaled_dot_product_attention(query, all_keys, all_values, attn_mask=self._mask, scale=scale)
        return mixed.view(self._heads, count, width).transpose(0, 1).reshape(count, -1)


class _Together:
    """Sequences with about equally many new tokens in slots of one pool."""

    rows: slice | torch.Tensor

    def __init__(self, attention: Attention, pool: SlotPool, members: Sequence[tuple[int, Segment]]) -> None:
        device = pool.keys.device
        segments = [segment for _, segment in members]
        self._pool, self._heads, self._shared = pool, attention.heads, attention.shared
        self._widest = max(segment.new for segment in segments)
        self._longest = max(segment.total for segment in segments)
        numbers: list[int] = []
        rows: list[int] = []
        slots: list[int] = []
        columns: list[int] = []
        for start, segment in members:
            assert isinstance(segment.cache, Slot)
            segment.cache.clean(self._longest)
            numbers.append(segment.cache.number)
            rows += range(start, start + segment.new)
            slots += [segment.cache.number] * segment.new
            columns += range(segment.past, segment.total)
        whole = rows[-1] - rows[0] + 1 == len(rows)
        self.rows = slice(rows[0], rows[-1] + 1) if whole else torch.tensor(rows, device=device)
        self._slots = torch.tensor(numbers, device=device)
        self._where = (
            torch.tensor(slots, device=device),
            slice(None),
            torch.tensor(columns, device=device),
        )
        # Those with fewer new tokens repeat their last one; what comes of the repetitions is left out.
        self._padding = self._kept = None
        if len(rows) < len(segments) * self._widest:
            padding: list[int] = []
            kept: list[int] = []
            end = 0
            for number, segment in enumerate(segments):
                kept += range(number * self._widest, number * self._widest + segment.new)
                end += segment.new
                padding += [*range(end - segment.new, end), *[end - 1] * (self._widest - segment.new)]
            self._padding, self._kept = (
                torch.tensor(padding, device=device),
                torch.tensor(kept, device=device),
            )
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
            if segment.seen is not None:
                with_tree(rows[: segment.new, : segment.total], segment.seen)
        return mask

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scale: float | None,
    ) -> torch.Tensor:
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


def with_tree(mask: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """The additive `mask` (T, total), changed so that the last N tokens see of each other what `seen` (N, N) says."""
    count = len(seen)
    mask[-count:, -count:] = torch.zeros_like(mask[-count:, -count:]).masked_fill(
        ~seen.to(mask.device), float("-inf")
    )
    return mask
