"""How long to wait before trying again: exponential backoff with jitter."""

from __future__ import annotations

FIRST_S = 0.1
LONGEST_S = 1.0
_DOUBLINGS = 32  # beyond any sensible bound, and far from what a float can't hold


def backoff_s(failures: int, spread: float, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> float:
    """Seconds before the next attempt after so many failures in a row.

    They double from `first_s` to at most `longest_s`; half of them are fixed, and `spread` (0 to 1, drawn by chance) is
    how much of the other half is added. So those who lost the same server together do not come back together.
    """
    doubled = first_s * 2.0 ** min(max(failures, 1) - 1, _DOUBLINGS)
    return min(longest_s, doubled) * (1.0 + spread) / 2.0
