"""KV caches: the keys and values of one session, in memory of its own or in a slot of a pool allocated once.

A pool bounds what all sessions of a model take together, and lets the attention of sessions in one pass be computed in
one call. It is made with `torch.empty`, so on a CPU memory is taken up only as slots are first used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from spec_decode_ros.errors import SpecDecodeError


class CacheShape(NamedTuple):
    """The shape of one token's keys, and of its values: layers, key-value heads, width of a head."""

    layers: int
    heads: int
    width: int
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.layers * self.heads * self.width * self.dtype.itemsize

    def empty(self, *sizes: int) -> torch.Tensor:
        """(layers, *sizes but the last, heads, last of sizes, width), not initialised."""
        shape = (self.layers, *sizes[:-1], self.heads, sizes[-1], self.width)
        return torch.empty(shape, dtype=self.dtype, device=self.device)


class KVCache:
    """Keys and values (layers, heads, capacity, width) of one session, in memory that grows.

    How many tokens are valid is its owner's to know; what lies behind them is overwritten.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, shape: CacheShape) -> None:
        self._shape = shape
        self.keys, self.values = shape.empty(0), shape.empty(0)

    def reserve(self, past: int, length: int) -> None:
        """Make room for `length` tokens, keeping the first `past`."""
        if length <= self.keys.shape[2]:
            return
        for name in ("keys", "values"):
            new = self._shape.empty(max(128, 2 * length))
            new[:, :, :past] = getattr(self, name)[:, :, :past]
            setattr(self, name, new)

    def move_up(self, start: int, rows: Sequence[int]) -> None:
        """Move what is at `start + row`, for rising rows, to `start`, `start + 1`, ..."""
        move_rows_up(self.keys, start, rows)
        move_rows_up(self.values, start, rows)

    def free(self) -> None:
        """Give the memory back; the cache must not be used again."""
        self.keys, self.values = self._shape.empty(0), self._shape.empty(0)


class CachePool:
    """Keys and values (layers, slots, heads, capacity, width) for `slots` sessions of at most `capacity` tokens."""

    def __init__(self, shape: CacheShape, slots: int, capacity: int) -> None:
        if slots < 1 or capacity < 1:
            raise SpecDecodeError(
                f"There must be memory for at least one session of one token, not for {slots} of {capacity}."
            )
        self.slots, self.capacity = slots, capacity
        self.keys, self.values = shape.empty(slots, capacity), shape.empty(slots, capacity)
        self._free = list(range(slots))

    @property
    def free(self) -> int:
        """How many slots are not taken."""
        return len(self._free)

    def take(self) -> PooledCache:
        """A cache in the slot that was given back last. Raises SpecDecodeError if all are taken."""
        if not self._free:
            raise SpecDecodeError(
                f"All {self.slots} sessions that memory was reserved for are taken: close one, or reserve more."
            )
        return PooledCache(self, self._free.pop())

    def give_back(self, slot: int) -> None:
        self._free.append(slot)


class PooledCache(KVCache):
    """A session's slot of a pool: a cache that neither grows nor moves.

    Sessions in one pass are read up to the end of the longest of them. Hence what an earlier session left in the slot
    is overwritten with zeros before it is read: a number that is not finite would get through a mask.
    """

    def __init__(self, pool: CachePool, slot: int) -> None:
        self.pool: CachePool | None = pool
        self.slot = slot
        self.keys, self.values = pool.keys[:, slot], pool.values[:, slot]
        self._cleared = 0  # tokens up to here are this session's or zeros

    def reserve(self, past: int, length: int) -> None:
        if length > self.keys.shape[2]:
            raise SpecDecodeError(
                f"A session has memory for {self.keys.shape[2]} tokens, not for {length}: reserve more."
            )
        self.clear(length)

    def clear(self, length: int) -> None:
        """See that the first `length` tokens are this session's or zeros."""
        if length > self._cleared:
            end = min(-(-length // 64) * 64, self.keys.shape[2])
            self.keys[:, :, self._cleared : end] = 0
            self.values[:, :, self._cleared : end] = 0
            self._cleared = end

    def free(self) -> None:
        if self.pool is not None:
            self.keys, self.values = self.keys[:, :, :0], self.values[:, :, :0]
            self.pool.give_back(self.slot)
            self.pool = None

    def __del__(self) -> None:
        self.free()


def move_rows_up(cached: torch.Tensor, start: int, rows: Sequence[int]) -> None:
    """Copy rows start + rows of the last dimension but one to start, start + 1, ..., in place."""
    index = torch.tensor(rows, device=cached.device) + start
    cached[..., start : start + len(rows), :] = cached.index_select(-2, index)
