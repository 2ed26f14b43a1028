"""Exponential backoff with jitter: how long to wait before the next attempt."""

from __future__ import annotations

_MAX_DOUBLINGS = 32  # a float holds the result


def backoff_s(failures: int, jitter: float = 1.0, first_s: float = 0.1, longest_s: float = 1.0) -> float:
    """Seconds to wait after this number of failures in a row, doubling from `first_s` to at most `longest_s`.

    Half of the time is fixed, `jitter` (0 to 1, random) is the share of the other half that is added, so that clients
    that lost a server at the same moment do not all come back at the same moment. 1 is the whole time.
    """
    doubled = first_s * 2.0 ** min(max(failures, 1) - 1, _MAX_DOUBLINGS)
    return min(longest_s, doubled) * (1.0 + jitter) / 2.0
