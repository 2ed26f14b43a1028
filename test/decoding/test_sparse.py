from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spec_decode_ros.decoding.distribution import Distribution, draw
from spec_decode_ros.decoding.message_checks import MAX_TOKEN_ID
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.philox import Purpose, uniform
from spec_decode_ros.decoding.rejection import resample
from spec_decode_ros.decoding.sparse import (
    MAX_ENTRIES,
    UNITS,
    Sparse,
    bytes_of_full,
    compress,
    head_of,
    pack,
    unpack,
)
from spec_decode_ros.errors import SpecDecodeError

DOCS = Path(__file__).parents[2] / "docs"


def distribution(masses: list[float], first: int = 0, gap: int = 1) -> Distribution:
    mass = np.array(masses, dtype=np.float64)
    return Distribution(first + gap * np.arange(len(mass)), mass / mass.sum())


@st.composite
def distributions(draw_value) -> Distribution:
    masses = draw_value(st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=80))
    return distribution(masses, draw_value(st.integers(0, 10**6)), draw_value(st.integers(1, 20_000)))


@st.composite
def sparses(draw_value) -> Sparse:
    tokens = sorted(draw_value(st.sets(st.integers(0, MAX_TOKEN_ID), max_size=30)))
    weights = [draw_value(st.integers(1, UNITS // 30)) for _ in tokens]
    return Sparse(tuple(tokens), tuple(weights), _rest_for(weights, draw_value(st.integers(0, MAX_TOKEN_ID))))


def _rest_for(weights: list[int], token: int) -> int | None:
    return None if sum(weights) == UNITS else token


# ---- cutting in two ----------------------------------------------------------------------------------------


@given(distributions(), st.integers(1, 100))
def test_the_head_is_the_likeliest_rounded_down(p: Distribution, k: int) -> None:
    head = head_of(p, k)
    kept = np.zeros(len(head), dtype=bool)
    kept[sorted(range(len(head)), key=lambda i: -p.probabilities[i])[:k]] = True
    assert (head[~kept] == 0).all()
    assert (head <= p.probabilities).all()
    assert (p.probabilities[kept] - head[kept] < 1 / UNITS).all()
    assert np.array_equal(head * UNITS, np.rint(head * UNITS))


@given(distributions(), st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_both_sides_agree_on_the_head_and_on_the_mass_of_the_rest(
    p: Distribution, k: int, chance: float
) -> None:
    received, head = unpack(pack(compress(p, k, chance))), head_of(p, k)
    assert np.array_equal(received.tokens, p.tokens[head > 0])
    assert np.array_equal(received.head, head[head > 0])
    assert received.head.sum() + received.rest == 1
    assert received.rest == pytest.approx((p.probabilities - head).sum(), abs=1e-12)
    if k >= len(p.tokens):
        assert received.rest < len(p.tokens) / UNITS


def test_the_token_of_the_rest_follows_the_rest() -> None:
    p = distribution([0.5, 0.2, 0.15, 0.1, 0.05])
    n = 4000
    drawn = [compress(p, 2, (i + 0.5) / n).rest_token for i in range(n)]
    counts = np.bincount(drawn, minlength=5) / n
    assert counts == pytest.approx([0, 0, 0.5, 1 / 3, 1 / 6], abs=2 / n)


def test_a_certain_token_leaves_no_rest() -> None:
    assert compress(distribution([1.0], first=77), 5, 0.9) == Sparse((77,), (UNITS,), None)
    assert compress(distribution([0.5, 0.25, 0.25]), 3, 0.9) == Sparse(
        (0, 1, 2), (UNITS // 2, *[UNITS // 4] * 2)
    )


def test_what_is_too_small_for_a_unit_is_in_the_rest() -> None:
    flat = distribution([1.0] * (2 * UNITS))
    assert compress(flat, 64, 0.25) == Sparse((), (), UNITS // 2)
    almost = compress(distribution([1.0, 1e-9]), 2, 0.99)
    assert almost.tokens == (0,) and almost.weights == (UNITS - 1,) and almost.rest_token == 0


def test_of_equals_the_first_are_kept() -> None:
    assert head_of(distribution([1.0, 5.0, 1.0, 1.0]), 3).tolist() == [0.125, 0.625, 0.125, 0.0]
    assert head_of(distribution([1.0] * 4), 1).tolist() == [0.25, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("k", [0, -3, MAX_ENTRIES + 1])
def test_a_budget_out_of_bounds_is_named(k: int) -> None:
    with pytest.raises(SpecDecodeError, match="from 1 to"):
        compress(distribution([1.0, 2.0]), k, 0.5)


def test_draws_follow_masses_and_never_hit_nothing() -> None:
    masses = np.array([0.0, 0.25, 0.0, 0.75, 0.0])
    assert [draw(masses, u) for u in (0.0, 0.2499, 0.25, 0.9, 1 - 2**-53)] == [1, 1, 3, 3, 3]
    assert draw(masses * 1e-300, 1 - 2**-53) == 3
    assert draw(np.array([3.0, 5e-324]), np.nextafter(1, 0)) == 0
    for nothing in ([], [0.0, 0.0], [np.nan]):
        with pytest.raises(SpecDecodeError, match="nothing to draw"):
            draw(np.array(nothing), 0.5)


# ---- bytes -------------------------------------------------------------------------------------------------


@given(sparses())
def test_packing_loses_nothing(sparse: Sparse) -> None:
    assert unpack(pack(sparse)) == sparse


@settings(max_examples=500)
@given(st.binary(max_size=60))
@example(b"")
@example(b"\x80")
@example(b"\xff" * 6)
@example(b"\x00\x05\x00")
@example(b"\x01" + b"\x00\x01" * (MAX_ENTRIES + 1))
def test_any_bytes_are_a_sparse_distribution_or_named_wrong(packed: bytes) -> None:
    try:
        sparse = unpack(packed)
    except SpecDecodeError:
        return
    assert unpack(pack(sparse)) == sparse
    q = distribution([1.0, 2.0, 3.0])
    try:
        token = resample(sparse, q, 4, Sampling(1.0, seed=3))
    except SpecDecodeError:
        return
    assert token in (*sparse.tokens, sparse.rest_token)


@settings(max_examples=300)
@given(sparses(), st.data())
def test_damaged_bytes_are_a_sparse_distribution_or_named_wrong(sparse: Sparse, data: st.DataObject) -> None:
    packed = bytearray(pack(sparse))
    cut = data.draw(st.integers(0, len(packed)))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    for damaged in (bytes(packed), bytes(packed[:cut])):
        try:
            assert isinstance(unpack(damaged), Sparse)
        except SpecDecodeError as error:
            assert str(error).endswith(".")


@pytest.mark.parametrize(
    ("packed", "sentence"),
    [
        (b"", "0 numbers"),
        (b"\x01\x00", "2 numbers"),
        (b"\x81", "cut off"),
        (b"\xff\xff\xff\xff\xff\x01", "too long"),
        (b"\x00", "needs a token of the rest"),
        (b"\x01\x00\x00", "at least 1"),
        (b"\x01\x00\x81\x80\x40", "in all"),
        (b"\x00\x00\x01", "needs a token of the rest"),
        (b"\x01\x00\x80\x80\x40", "needs a token of the rest"),
        (b"\x01\xff\xff\xff\xff\x0f\x01", "token id"),
    ],
)
def test_malformed_bytes_are_named(packed: bytes, sentence: str) -> None:
    with pytest.raises(SpecDecodeError, match=sentence):
        unpack(packed)


@pytest.mark.parametrize(
    "fields",
    [((2, 1), (1, 1), 0), ((1, 1), (1, 1), 0), ((1,), (1, 1), 0), ((-1,), (1,), 0), ((1,), (1,), -5)],
)
def test_a_malformed_value_is_named(fields) -> None:
    with pytest.raises(SpecDecodeError):
        Sparse(*fields)


def test_a_rejection_costs_about_four_bytes_a_token() -> None:
    rng = np.random.default_rng(0)
    for vocabulary in (49_152, 151_936):
        p = Distribution(np.sort(rng.choice(vocabulary, 50, replace=False)), np.full(50, 1 / 50))
        assert len(pack(compress(p, 64, 0.5))) <= 5 * 50 + 4
        assert bytes_of_full(vocabulary) > 300 * len(pack(compress(p, 64, 0.5)))


# ---- draws -------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.sampled_from(Purpose))
def test_draws_are_those_of_numpys_philox(seed: int, position: int, purpose: Purpose) -> None:
    key = np.array([seed, position], dtype=np.uint64)
    counter = np.array([0, 0, 0, purpose], dtype=np.uint64)
    theirs = np.random.Generator(np.random.Philox(key=key, counter=counter)).random()
    assert uniform(seed, position, purpose) == theirs


def test_draws_for_different_purposes_and_places_are_independent() -> None:
    n = 4000
    columns = [[uniform(9, i, purpose) for i in range(n)] for purpose in Purpose]
    columns += [
        [uniform(9, i + 1, Purpose.DRAFT) for i in range(n)],
        [uniform(i, 5, Purpose.DRAFT) for i in range(n)],
    ]
    correlations = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlations).max() < 4.5 / np.sqrt(n)
    assert np.mean(columns, axis=1) == pytest.approx(0.5, abs=4.5 * np.sqrt(1 / 12 / n))
