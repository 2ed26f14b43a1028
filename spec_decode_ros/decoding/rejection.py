"""Separate rejection sampling: the edge drafts and resamples, the cloud accepts, neither sees both distributions.

Speculative sampling (Leviathan, Kalman, Matias, arXiv 2211.17192) accepts a token x that was drafted from q
with probability min(1, p(x) / q(x)) and else draws from what p has more than q. PicoSpec (arXiv 2603.19133)
parts the two: up goes one probability q(x) for each drafted token, down goes, only at a rejection, one
compressed p, and the edge, which alone knows all of q, draws the other token.

    edge     draft_token     x from q; sends x and q(x)
    cloud    judge_sampled   p = head + rest (`sparse.py`); accepts x with probability min(1, head(x) / q(x)),
                             at the first rejection sends the head and a token y drawn from the rest;
                             when all are accepted it draws the next token from p itself
    edge     resample        a token from max(head - q, 0), or y, in proportion to their masses

*Exact for every K, p and q.* A token z is output by acceptance with probability min(q(z), head(z)), and the
mass that is rejected is 1 - sum min(q, head) = sum max(head - q, 0) + sum rest, because head and rest together
have mass 1. Those two terms are just the masses from which `resample` draws, so that a rejection gives z with
probability max(head(z) - q(z), 0) + rest(z); with the first term this is head(z) + rest(z) = p(z).

*Exact with respect to what.* p is the target's distribution after temperature, top-k and top-p, in float64
from the logits of the pass. The numbers that cross the wire are exact on both sides: q is first rounded to
multiples of 2**-24 and then drafted from (any q will do; a rounded one has probabilities that are float32
numbers), and the head is p rounded down, with the difference left in the rest. What remains is the rounding of
float64 sums and of 53-bit draws: less than 1e-10 in total variation.

*Draws.* Each is a pure function of the seed, the position and its purpose (`philox.py`), so every call can be
repeated. Exactness asks that a drafted token does not depend on the draws that judge its own place. So an
answer whose drafts come from an earlier answer needs another seed than that one, and which of several
drafts is judged must not be chosen by the tokens that they have from that place on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from spec_decode_ros.decoding.acceptance import VerificationResult
from spec_decode_ros.decoding.distribution import Distribution, draw, warped
from spec_decode_ros.decoding.messages import Sampling, TokenOutcome
from spec_decode_ros.decoding.philox import Purpose, uniform
from spec_decode_ros.decoding.sparse import Sparse, compress, head_of
from spec_decode_ros.errors import SpecDecodeError

DEFAULT_K = 64
"""How many target probabilities a rejection sends; covers the usual top-k of 50 with ties."""

DRAFT_UNIT = 2.0**-24
"""Draft probabilities are multiples of this, hence exact in float32."""


@dataclass(frozen=True, eq=False)
class DraftedToken:
    """A token, its `probability` (goes up with it), and all of q, which the edge keeps until the verdict."""

    token: int
    probability: float
    distribution: Distribution


@dataclass(frozen=True)
class SampledDraft:
    """Draft tokens with the probabilities that their draft model gave them, from the edge's n-th `round`.

    A token that was certain to its drafter (probability 1, as any draft that was not sampled) tells the cloud all of q:
    its replacement is drawn by the cloud, and nothing needs to be sent or awaited. `bonus`: the cloud also draws the token
    after them.
    """

    tokens: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()
    bonus: bool = True
    round: int = 1

    def cut(self, width: int) -> SampledDraft:
        """The first `width` tokens."""
        if len(self.tokens) <= width:
            return self
        return SampledDraft(self.tokens[:width], self.probabilities[:width], False, self.round)


def draft_token(row: ArrayLike, position: int, sampling: Sampling) -> DraftedToken:
    """The edge drafts for `position` from its logits `row` (V,)."""
    q = warped(row, sampling).rounded(DRAFT_UNIT)
    index = draw(q.probabilities, uniform(sampling.seed, position, Purpose.DRAFT))
    return DraftedToken(int(q.tokens[index]), float(q.probabilities[index]), q)


def certain(token: int) -> DraftedToken:
    """A token from a distribution that is all on it."""
    return DraftedToken(token, 1.0, Distribution(np.array([token]), np.ones(1)))


def accepts(head: float, probability: float, position: int, sampling: Sampling) -> bool:
    """Whether a token of mass `head` in the target that was drafted with `probability` stands."""
    chance = uniform(sampling.seed, position, Purpose.ACCEPT)
    return head >= probability or chance * probability < head


def judge_sampled(
    draft: SampledDraft,
    targets: Sequence[Distribution],
    position: int,
    sampling: Sampling,
    eos: Collection[int],
    room: int,
    k: int = DEFAULT_K,
) -> VerificationResult:
    """What a pass over `draft` (n tokens from `position` on) commits.

    `targets` (n + 1) are the target's warped distributions, the last one for the place after the draft. The answer is cut
    after an end-of-sequence token and after `room` (at least 1) tokens.

    Raises SpecDecodeError if a probability is not above 0 and at most 1.
    """
    probabilities = draft.probabilities
    if not (len(draft.tokens) == len(probabilities) == len(targets) - 1):
        raise ValueError(
            f"A pass over {len(draft.tokens)} draft tokens has as many probabilities and one more row of logits, "
            f"not {len(probabilities)} and {len(targets)}."
        )
    for probability in probabilities:
        if not 0 < probability <= 1:  # nor NaN
            raise SpecDecodeError(
                f"The probability of a drafted token must be above 0 and at most 1, not {probability}."
            )
    tokens: list[int] = []
    outcomes: list[TokenOutcome] = []
    for index, p in enumerate(targets):
        here = position + index
        if index == len(draft.tokens):
            if not draft.bonus:
                break
            tokens.append(_target_token(p, here, sampling))
            outcomes.append(TokenOutcome.BONUS)
        elif _stands(draft.tokens[index], probabilities[index], p, here, sampling, k):
            tokens.append(int(draft.tokens[index]))
            outcomes.append(TokenOutcome.ACCEPTED)
        elif probabilities[index] == 1:
            others = p.tokens != draft.tokens[index]
            tokens.append(
                _target_token(Distribution(p.tokens[others], p.probabilities[others]), here, sampling)
            )
            outcomes.append(TokenOutcome.RECOVERED)
        else:
            sparse = compress(p, k, uniform(sampling.seed, here, Purpose.REST))
            return VerificationResult(tuple(tokens), tuple(outcomes), False, sparse)
        if tokens[-1] in eos or len(tokens) == room or outcomes[-1] is TokenOutcome.RECOVERED:
            break
    done = len(tokens) == room or (bool(tokens) and tokens[-1] in eos)
    return VerificationResult(tuple(tokens), tuple(outcomes), done)


def resample(sparse: Sparse, q: Distribution, position: int, sampling: Sampling) -> int:
    """The edge's token in place of the rejected one, which it had drafted from `q`.

    Raises SpecDecodeError if the target can't have rejected anything, as `sparse` is nowhere above `q`.
    """
    missing = np.maximum(sparse.head - q.of(sparse.tokens), 0.0)
    index = draw(np.append(missing, sparse.rest), uniform(sampling.seed, position, Purpose.RESAMPLE))
    if index < len(sparse.tokens):
        return sparse.tokens[index]
    assert sparse.rest_token is not None  # without it the rest has no mass, and is not drawn
    return sparse.rest_token


def _stands(
    token: int, probability: float, p: Distribution, position: int, sampling: Sampling, k: int
) -> bool:
    """A certain guess is judged by all of p, for its replacement is drawn from all of the others."""
    mass = p.probabilities if probability == 1 else head_of(p, k)
    return accepts(float(mass[p.tokens == token].sum()), probability, position, sampling)


def _target_token(p: Distribution, position: int, sampling: Sampling) -> int:
    return int(p.tokens[draw(p.probabilities, uniform(sampling.seed, position, Purpose.OWN))])
