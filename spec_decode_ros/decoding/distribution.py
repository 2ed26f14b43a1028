"""A model's distribution over the next token, after its warpers, as the tokens that are possible at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.sampling import warp
from spec_decode_ros.errors import SpecDecodeError


@dataclass(frozen=True, eq=False)
class Distribution:
    """`tokens` (n,) in rising order and their `probabilities` (n,): all above 0, together 1."""

    tokens: NDArray[np.intp]
    probabilities: NDArray[np.float64]

    def of(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """The probabilities of any tokens, 0 for those that are impossible; the shape stays."""
        wanted = np.asarray(tokens)
        place = np.minimum(np.searchsorted(self.tokens, wanted), len(self.tokens) - 1)
        return np.where(self.tokens[place] == wanted, self.probabilities[place], 0.0)

    def rounded(self, unit: float) -> Distribution:
        """A distribution of multiples of `unit` (a power of 2), each at most one `unit` away; tiny ones go."""
        below = np.cumsum(self.probabilities)
        steps = np.diff(np.rint(below / below[-1] / unit), prepend=0.0)
        kept = steps > 0
        return Distribution(self.tokens[kept], steps[kept] * unit)


def warped(row: ArrayLike, sampling: Sampling) -> Distribution:
    """The distribution that `sampling` makes of one row (V,) of logits; at temperature 0 all on the largest.

    Raises SpecDecodeError if the row has no largest number (NaN, or all -inf).
    """
    logits = np.asarray(row)
    if logits.ndim != 1 or not logits.size:
        raise SpecDecodeError(
            f"One row of logits must be of shape (V,) with V of at least 1, not {logits.shape}."
        )
    best = int(np.argmax(logits))
    if not np.isfinite(logits[best]):  # argmax returns the first NaN if there is one
        raise SpecDecodeError("The model's logits are not finite; try float32 rather than half precision.")
    if sampling.temperature == 0:
        return Distribution(np.array([best]), np.ones(1))
    tokens, scores = warp(logits, sampling)
    mass = np.exp(scores)
    kept = mass > 0
    return Distribution(tokens[kept], mass[kept] / mass.sum())


def draw(masses: NDArray[np.float64], uniform: float) -> int:
    """The index at which `uniform` (from 0 to below 1) falls, in proportion to `masses` (n,), none negative.

    An index without mass is never drawn. Raises SpecDecodeError if there is no mass at all.
    """
    below = np.cumsum(masses)
    if not below.size or not below[-1] > 0:
        raise SpecDecodeError(
            "There is nothing to draw from; both sides must use the same draft probabilities."
        )
    # The product may round up to the whole mass, and that belongs to the last index that has any.
    return int(
        min(np.searchsorted(below, uniform * below[-1], side="right"), np.searchsorted(below, below[-1]))
    )
