"""Uniform random numbers that belong to a place rather than to a moment.

Rejection sampling needs several independent draws for every position of an answer, some on the edge and some
in the cloud, and a repeated or late message must meet the same draw again. So a draw is a pure function of
(seed, position, purpose): one block of the counter-based generator Philox4x64-10 (Salmon et al., *Parallel
random numbers: as easy as 1, 2, 3*, SC 2011), keyed by seed and position, with the purpose as the highest
word of the counter. NumPy's generator of that name gives the same numbers; making one takes several times as
long as the ten rounds below, for it gathers entropy that it does not use.
"""

from __future__ import annotations

import enum

_WORD = 2**64 - 1
_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_KEY_STEPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
_ROUNDS = 10


class Purpose(enum.IntEnum):
    """What a draw decides. The Gumbel noise of `sampling.py` has the counters with the highest word 0."""

    DRAFT = 1
    """The edge: which token to draft."""
    ACCEPT = 2
    """The cloud: whether that token stands."""
    REST = 3
    """The cloud: the token from what its compressed distribution leaves out."""
    RESAMPLE = 4
    """The edge: the token in the place of a rejected one."""
    OWN = 5
    """The cloud: a token that it chooses alone."""


def uniform(seed: int, position: int, purpose: Purpose) -> float:
    """The draw, from 0 to below 1 in steps of 2**-53. `seed` and `position` are below 2**64."""
    return (_first_word(seed, position, purpose) >> 11) * 2.0**-53


def _first_word(seed: int, position: int, purpose: int) -> int:
    a, b, c, d = 1, 0, 0, int(purpose)  # counters begin at 1, as NumPy's do
    key_a, key_b = seed, position
    for _ in range(_ROUNDS):
        left, right = _MULTIPLIERS[0] * a, _MULTIPLIERS[1] * c
        a, b, c, d = (right >> 64) ^ b ^ key_a, right & _WORD, (left >> 64) ^ d ^ key_b, left & _WORD
        key_a, key_b = (key_a + _KEY_STEPS[0]) & _WORD, (key_b + _KEY_STEPS[1]) & _WORD
    return a
