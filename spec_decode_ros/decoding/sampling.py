"""Choosing tokens from logits so that draft, target and every decoding method choose alike.

Temperature 0 takes the largest logit. Above 0 the choice is `argmax(warped logits + Gumbel noise)`, which
follows the softmax distribution (the Gumbel-max trick). The noise depends on the seed and the token's
position only, so the draft and the target add the same noise and mostly choose the same token, no
distribution crosses the wire, and the output for a seed is the target's own whatever the draft, the method
and the network do: Daliri, Musco, Suresh, *Coupling without communication and drafter-invariant speculative
decoding*, arXiv 2408.07978. Two distributions p and q meet with probability at least
(1 - tv) / (1 + tv), tv being their total variation distance.

The noise comes from the counter-based generator Philox (Salmon et al., *Parallel random numbers: as easy as
1, 2, 3*, SC 2011), keyed by (seed, position). Token i gets the i-th number of that stream, so models whose
vocabularies are padded to different sizes still share the noise of the tokens that both have.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError

_SMALLEST_UNIFORM = 2.0**-54  # half a step of the generator's grid, so that log never sees 0


def choose(logits: ArrayLike, first_position: int, sampling: Sampling) -> tuple[int, ...]:
    """One token per row of `logits` (K, V); row i is for answer position `first_position + i`.

    A row's choice depends on that row alone, so that one pass over K rows equals K passes over one.
    Raises SpecDecodeError if a row has no largest number (NaN, or all -inf).
    """
    rows = np.asarray(logits)
    if rows.ndim != 2 or not rows.shape[1]:
        raise SpecDecodeError(f"logits must be of shape (K, V) with V of at least 1, not {rows.shape}.")
    return tuple(_choose_one(row, first_position + index, sampling) for index, row in enumerate(rows))


def _choose_one(row: NDArray, position: int, sampling: Sampling) -> int:
    best = int(np.argmax(row))
    if not np.isfinite(row[best]):  # argmax returns the first NaN if there is one
        raise SpecDecodeError(
            f"The model's logits at position {position} are not finite; try float32 rather than half precision."
        )
    if sampling.temperature == 0:
        return best
    tokens, scores = warp(row, sampling)
    if len(tokens) == 1:
        return int(tokens[0])
    return int(tokens[np.argmax(scores + gumbel_noise(sampling.seed, position, tokens))])


def runner_up(row: ArrayLike, position: int, sampling: Sampling) -> tuple[int, float] | None:
    """The second choice for one row (V,) of logits, and how probable it is beside the first, from 0 to 0.5.

    With seeded sampling that is the second largest of the scores with their noise. None where only one token is possible.
    """
    logits = np.asarray(row)
    tokens, scores = np.arange(logits.size), logits.astype(np.float64)
    if sampling.temperature > 0:
        tokens, scores = warp(logits, sampling)
        scores = scores + gumbel_noise(sampling.seed, position, tokens)
    first = int(np.argmax(scores))
    best, scores[first] = scores[first], -np.inf
    second = int(np.argmax(scores))
    if scores[second] == -np.inf:
        return None
    return int(tokens[second]), float(1.0 / (1.0 + np.exp(best - scores[second])))


def warp(row: NDArray, sampling: Sampling) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Apply temperature, top-k and top-p, in that order, to one row (V,) of logits.

    Returns the tokens that are left in rising order and their scores (unnormalised log-probabilities); none that is
    impossible, as its logit is minus infinity. Ties
    with the k-th largest stay, as in transformers; top-p keeps the smallest set whose probability reaches it.
    """
    scores = (row.astype(np.float64) - float(row.max())) / sampling.temperature
    tokens = np.arange(scores.size)
    if scores.min() == -np.inf:  # a grammar forbids these
        tokens = np.flatnonzero(scores > -np.inf)
        scores = scores[tokens]
    if 0 < sampling.top_k < scores.size:
        kept = scores >= np.partition(scores, -sampling.top_k)[-sampling.top_k]
        tokens, scores = tokens[kept], scores[kept]
    if sampling.top_p < 1:
        order = np.argsort(-scores, kind="stable")
        mass = np.exp(scores[order])
        before = np.cumsum(mass) - mass
        kept_order = np.sort(order[before < sampling.top_p * mass.sum()])
        tokens, scores = tokens[kept_order], scores[kept_order]
    return tokens, scores


def gumbel_noise(seed: int, position: int, tokens: NDArray[np.intp]) -> NDArray[np.float64]:
    """Standard Gumbel noise of the tokens (in rising order) at one position, the same in any vocabulary."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, position], dtype=np.uint64)))
    uniform = generator.random(int(tokens[-1]) + 1)[tokens]
    return -np.log(-np.log(np.maximum(uniform, _SMALLEST_UNIFORM)))
