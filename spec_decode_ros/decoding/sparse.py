"""The compressed target distribution that goes down at a rejection: the K likeliest tokens, and one draw.

PicoSpec (arXiv 2603.19133) sends the K largest probabilities of the target and leaves out the rest, which
changes the distribution a little, and rounding them changes it a little more. Here nothing is lost. The
target's distribution p is cut into two parts, p = head + rest:

- `head`: of each of the K likeliest tokens, its probability rounded *down* to a multiple of 2**-20. These
  numbers cross the wire exactly. Only the head can accept a drafted token, and the edge resamples from it.
- `rest`: all that is missing, both the tokens beyond the K likeliest and what rounding took from the others.
  No draft token is ever accepted on its account, so that the cloud can draw from it without knowing the
  draft's distribution: it sends *one token drawn from the rest*. How much mass the rest has, both sides know,
  since it is what the head lacks to 1.

`rejection.py` says why the output then follows p exactly, for every K. A small K costs acceptance (at most the
mass of the rest), never exactness, nor a second message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spec_decode_ros.decoding.distribution import Distribution, draw
from spec_decode_ros.decoding.message_checks import MAX_TOKEN_ID
from spec_decode_ros.errors import SpecDecodeError

UNITS = 2**20
"""A head's weights are in units of 1 / UNITS, so that rounding takes less than K / UNITS in all."""

MAX_ENTRIES = 4096
"""The largest K."""


@dataclass(frozen=True)
class Sparse:
    """The head's `tokens` in rising order, their `weights` in units of 1 / UNITS, and a draw from the rest.

    `rest_token` is None exactly when the head has all the mass.
    """

    tokens: tuple[int, ...]
    weights: tuple[int, ...]
    rest_token: int | None = None

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.weights) or len(self.tokens) > MAX_ENTRIES:
            raise SpecDecodeError(
                f"A sparse distribution has a weight for each of at most {MAX_ENTRIES} tokens, "
                f"not {len(self.weights)} for {len(self.tokens)}."
            )
        if any(a >= b for a, b in zip(self.tokens, self.tokens[1:], strict=False)):
            raise SpecDecodeError("The tokens of a sparse distribution must rise.")
        for token in (*self.tokens, self.rest_token or 0):
            if not 0 <= token <= MAX_TOKEN_ID:
                raise SpecDecodeError(f"A token id must be an int from 0 to {MAX_TOKEN_ID}, not {token}.")
        if any(weight < 1 for weight in self.weights) or sum(self.weights) > UNITS:
            raise SpecDecodeError(f"The weights must be at least 1 each and at most {UNITS} in all.")
        if (self.rest_token is None) != (sum(self.weights) == UNITS):
            raise SpecDecodeError("A sparse distribution needs a token of the rest exactly if it has a rest.")

    @property
    def head(self) -> NDArray[np.float64]:
        """The mass (n,) of each token."""
        return np.array(self.weights, dtype=np.float64) / UNITS

    @property
    def rest(self) -> float:
        """The mass that the head lacks to 1."""
        return (UNITS - sum(self.weights)) / UNITS


def head_of(p: Distribution, k: int) -> NDArray[np.float64]:
    """The head's mass (n,) for each of `p.tokens` (n,); 0 beyond the `k` likeliest (of equals, the first)."""
    if not 1 <= k <= MAX_ENTRIES:
        raise SpecDecodeError(f"The sparse distribution must keep from 1 to {MAX_ENTRIES} tokens, not {k}.")
    head = np.floor(p.probabilities * UNITS) / UNITS
    if len(head) > k:
        least = np.partition(p.probabilities, -k)[-k]
        equals = np.flatnonzero(p.probabilities == least)
        head[p.probabilities < least] = 0.0
        head[equals[k - np.count_nonzero(p.probabilities > least) :]] = 0.0
    return head


def compress(p: Distribution, k: int, uniform: float) -> Sparse:
    """What the edge needs of `p`: its head of at most `k` tokens, and the token of the rest that `uniform` hits."""
    head = head_of(p, k)
    kept = head > 0
    weights = np.rint(head[kept] * UNITS).astype(np.int64)
    rest = None if weights.sum() == UNITS else int(p.tokens[draw(p.probabilities - head, uniform)])
    return Sparse(tuple(p.tokens[kept].tolist()), tuple(weights.tolist()), rest)


# ---- bytes -------------------------------------------------------------------------------------------------


def pack(sparse: Sparse) -> bytes:
    """As a sequence of variable-length numbers (7 bits a byte, the lowest first, the high bit says "goes on").

    First 1 + the token of the rest, or 0; then for each token how many ids it skips, and its weight.
    """
    numbers = [0 if sparse.rest_token is None else sparse.rest_token + 1]
    before = -1
    for token, weight in zip(sparse.tokens, sparse.weights, strict=True):
        numbers += [token - before - 1, weight]
        before = token
    return _pack_numbers(numbers)


def unpack(packed: bytes) -> Sparse:
    """The reverse of `pack`. Raises SpecDecodeError for bytes that no sparse distribution packs into."""
    numbers = _unpack_numbers(packed)
    if len(numbers) % 2 == 0 or len(numbers) > 1 + 2 * MAX_ENTRIES:
        raise SpecDecodeError(f"A sparse distribution is not packed in {len(numbers)} numbers.")
    steps, weights = np.array(numbers[1::2], dtype=np.int64), numbers[2::2]
    tokens = (np.cumsum(steps + 1) - 1).tolist()
    return Sparse(tuple(tokens), tuple(weights), numbers[0] - 1 if numbers[0] else None)


def bytes_of_full(vocabulary: int) -> int:
    """What one whole distribution costs in fp16, which is what compression is measured against."""
    return 2 * vocabulary


def _pack_numbers(numbers: Iterable[int]) -> bytes:
    packed = bytearray()
    for number in numbers:
        while number > 0x7F:
            packed.append(number & 0x7F | 0x80)
            number >>= 7
        packed.append(number)
    return bytes(packed)


def _unpack_numbers(packed: bytes) -> list[int]:
    numbers, number, shift = [], 0, 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 35:
            raise SpecDecodeError("A sparse distribution holds a number that is too long.")
        if not byte & 0x80:
            numbers.append(number)
            number, shift = 0, 0
    if shift:
        raise SpecDecodeError("A sparse distribution is cut off.")
    return numbers
