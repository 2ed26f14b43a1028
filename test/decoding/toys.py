"""Deterministic toy models: a next token that is a hash of the text, and drafters that agree now and then."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.sampling import choose
from spec_decode_ros.decoding.testing import Exit, NextToken, Times

EOS = 0


@dataclass
class HostileLink:
    """Loses, repeats, delays and reorders messages at random."""

    rng: random.Random
    loss: float
    repeat: float
    longest_delay: float

    def arrivals(self, now: float, upward: bool, message: object) -> list[float]:
        copies = 0 if self.rng.random() < self.loss else 2 if self.rng.random() < self.repeat else 1
        return [now + self.rng.random() * self.longest_delay for _ in range(copies)]


def _hash(seed: int, *numbers: int) -> int:
    return zlib.crc32(repr((seed, numbers)).encode())


def toy_target(seed: int, vocabulary: int = 20, context: int | None = None, end_after: int = 0) -> NextToken:
    """A target whose token depends on the position and on the last `context` tokens (None: all of them).

    A context of 0 is a text of fixed shape, as an action is. No end token comes before `end_after` tokens.
    """

    def next_token(text: Sequence[int]) -> int:
        seen = text if context is None else text[len(text) - context :] if context else ()
        token = _hash(seed, len(text), *seen) % vocabulary
        return token if token != EOS or len(text) >= end_after else 1

    return next_token


def toy_drafter(target: NextToken, seed: int, agreement: float, gives_up: float = 0.0) -> NextToken:
    """Says what the target says in about `agreement` of all places; at times it has nothing to say."""

    def next_token(text: Sequence[int]) -> int | None:
        chance = _hash(seed, 1, *text) / 2**32
        if _hash(seed, 2, *text) / 2**32 < gives_up:
            return None
        return target(text) if chance < agreement else _hash(seed, 3, *text) % 20

    return next_token


def coupled(vocabulary: int, sampling: Sampling, spread: float) -> tuple[NextToken, NextToken]:
    """A target and a drafter that sample with the same seeded noise, from logits that are `spread` apart."""

    def logits(text: Sequence[int]) -> np.ndarray:
        return np.random.default_rng([sampling.seed, *text]).normal(size=(1, vocabulary)) * 2.0

    def target(text: Sequence[int]) -> int:
        return choose(logits(text), len(text), sampling)[0]

    def drafter(text: Sequence[int]) -> int:
        other = np.random.default_rng([sampling.seed, 1, *text]).normal(size=(1, vocabulary)) * spread
        return choose(logits(text) + other, len(text), sampling)[0]

    return target, drafter


def any_link(draw: st.DrawFn, rng: random.Random) -> HostileLink:
    """A link that may lose, repeat, delay and reorder."""
    return HostileLink(
        rng,
        loss=draw(st.sampled_from([0.0, 0.1, 0.6])),
        repeat=draw(st.sampled_from([0.0, 0.5])),
        longest_delay=draw(st.sampled_from([0.0, 0.003, 0.05, 1.0])),
    )


def any_times(rng: random.Random) -> Times:
    """What work costs, on either side."""
    return Times(
        draft_prefill=rng.random() * 0.02,
        draft_token=rng.choice([0.0, 0.001, 0.02]),
        prepare=rng.random() * 0.02,
        prefill=rng.random() * 0.05,
        step=rng.choice([0.0, 0.003, 0.03]),
    )


def toy_exit(target: NextToken, seed: int, fraction: float, agreement: float) -> Exit:
    """Foresees what the target says in about `agreement` of all places, and is sure of itself in half of them."""

    def choose(text: Sequence[int]) -> tuple[int, float]:
        agrees = _hash(seed, 1, *text) / 2**32 < agreement
        token = target(text) if agrees else _hash(seed, 2, *text) % 20
        assert token is not None
        return token, 0.95 if _hash(seed, 3, *text) % 2 else 0.5

    return Exit(fraction, choose)
