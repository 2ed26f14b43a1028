"""Edge and cloud on different cores, so that neither takes the other's time in a comparison on one machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Cores:
    """Which cores each side has; the same ones where the machine has a single core or cannot pin."""

    edge: tuple[int, ...]
    cloud: tuple[int, ...]

    @property
    def all(self) -> tuple[int, ...]:
        return tuple(sorted({*self.edge, *self.cloud}))


def divided(available: Sequence[int] | None = None) -> Cores:
    """One core for the edge, all others that this process may use for the cloud."""
    if available is None:
        pinned = getattr(os, "sched_getaffinity", None)
        available = sorted(pinned(0)) if pinned else range(os.cpu_count() or 1)
    first, *others = available
    return Cores((first,), tuple(others) or (first,))


@contextmanager
def on(cores: Sequence[int]) -> Iterator[None]:
    """Keep this thread, and the threads and processes that it starts meanwhile, to some cores.

    Does nothing where the system cannot pin.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
