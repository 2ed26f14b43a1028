from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import EOS

from spec_decode_ros.decoding.distribution import warped
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.decoding.sampling import choose, gumbel_noise, runner_up, warp
from spec_decode_ros.decoding.testing import Scenario, SteadyLink, VirtualAction, decode_alone
from spec_decode_ros.errors import SpecDecodeError

CHI2_5_DEGREES_P_1_IN_10000 = 25.74


def softmax(scores: np.ndarray) -> np.ndarray:
    mass = np.exp(scores - scores.max())
    return mass / mass.sum()


def test_greedy_takes_the_largest_and_the_first_of_equals() -> None:
    assert choose([[0.0, 3.0, 3.0], [5.0, 1.0, 2.0]], 0, Sampling()) == (1, 0)


def test_many_positions_follow_the_softmax_distribution() -> None:
    logits = np.array([1.0, 0.0, -1.0, 2.0, 0.5, -0.5])
    sampling = Sampling(temperature=0.8, seed=42)
    n = 6000
    chosen = np.array(choose(np.tile(logits, (n, 1)), 0, sampling))
    expected = n * softmax(logits / 0.8)
    chi2 = float(((np.bincount(chosen, minlength=6) - expected) ** 2 / expected).sum())
    assert chi2 < CHI2_5_DEGREES_P_1_IN_10000


def test_many_seeds_follow_the_warped_distribution() -> None:
    logits = np.array([[1.0, 0.0, -1.0, 2.0, 0.5, -0.5, 0.9, -3.0]])
    n = 4000
    counts = np.zeros(8)
    for seed in range(n):
        counts[choose(logits, 3, Sampling(1.3, top_k=6, top_p=0.98, seed=seed))[0]] += 1
    tokens, scores = warp(logits[0], Sampling(1.3, top_k=6, top_p=0.98))
    expected = n * softmax(scores)
    assert counts.sum() == counts[tokens].sum()
    chi2 = float(((counts[tokens] - expected) ** 2 / expected).sum())
    assert len(tokens) == 6 and chi2 < CHI2_5_DEGREES_P_1_IN_10000


def test_close_models_choose_alike_far_more_often_than_independent_ones() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(3000, 30)) * 2
    draft = target + rng.normal(size=target.shape) * 0.3
    sampling = Sampling(0.8, seed=1)
    same = np.mean(np.array(choose(target, 0, sampling)) == np.array(choose(draft, 0, sampling)))
    p = np.array([softmax(row / 0.8) for row in target])
    q = np.array([softmax(row / 0.8) for row in draft])
    distance = 0.5 * np.abs(p - q).sum(axis=1)
    independent = (p * q).sum(axis=1).mean()
    assert same > np.mean((1 - distance) / (1 + distance)) - 0.03  # the theorem's bound, less sampling noise
    assert same > independent + 0.2
    assert same < np.mean(1 - distance) + 0.03  # and no coupling can do better than this


@given(st.integers(0, 2**64 - 1), st.integers(0, 10_000), st.integers(1, 50))
def test_noise_belongs_to_seed_position_and_token(seed: int, position: int, size: int) -> None:
    whole = gumbel_noise(seed, position, np.arange(60))
    assert np.array_equal(gumbel_noise(seed, position, np.arange(size)), whole[:size])
    assert np.array_equal(gumbel_noise(seed, position, np.array([size, 59])), whole[[size, 59]])
    assert np.isfinite(whole).all()
    assert not np.array_equal(gumbel_noise(seed, position + 1, np.arange(60)), whole)
    assert not np.array_equal(gumbel_noise((seed + 1) % 2**64, position, np.arange(60)), whole)


@settings(max_examples=50)
@given(st.integers(0, 1000), st.integers(0, 20), st.sampled_from([0.0, 0.7, 2.0]))
def test_one_pass_over_many_rows_equals_many_passes_over_one(seed, position, temperature) -> None:
    logits = np.random.default_rng(seed).normal(size=(6, 40)).astype(np.float32)
    sampling = Sampling(temperature, top_k=10, top_p=0.9, seed=seed)
    one_by_one = [choose(logits[i : i + 1], position + i, sampling)[0] for i in range(6)]
    assert choose(logits, position, sampling) == tuple(one_by_one)


def test_padding_the_vocabulary_changes_nothing() -> None:
    logits = np.random.default_rng(3).normal(size=(50, 40))
    padded = np.concatenate([logits, np.full((50, 24), -np.inf)], axis=1)
    sampling = Sampling(1.0, seed=9)
    assert choose(logits, 0, sampling) == choose(padded, 0, sampling)


def test_warpers_work_in_their_order() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.06, 0.04]))
    assert warp(logits, Sampling(1.0))[0].tolist() == [0, 1, 2, 3, 4]
    assert warp(logits, Sampling(1.0, top_k=2))[0].tolist() == [0, 1]
    assert warp(logits, Sampling(1.0, top_p=0.65))[0].tolist() == [0, 1]
    assert warp(logits, Sampling(1.0, top_p=0.75))[0].tolist() == [0, 1, 2]
    assert warp(logits, Sampling(1.0, top_p=1e-9))[0].tolist() == [0]
    # Temperature first: the sharper distribution reaches the mass with fewer tokens.
    assert warp(logits, Sampling(0.25, top_p=0.7))[0].tolist() == [0]
    # top-k before top-p: 0.4 is 0.57 of what the two best have together.
    assert warp(logits, Sampling(1.0, top_k=2, top_p=0.55))[0].tolist() == [0]
    assert warp(np.zeros(4), Sampling(1.0, top_k=2))[0].tolist() == [0, 1, 2, 3]  # ties with the k-th stay


@pytest.mark.parametrize("row", [[1.0, np.nan], [-np.inf, -np.inf], [np.inf, 0.0]])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_broken_logits_are_named(row, temperature) -> None:
    with pytest.raises(SpecDecodeError, match="position 7"):
        choose([row], 7, Sampling(temperature))


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(SpecDecodeError, match=r"\(K, V\)"):
        choose([1.0, 2.0], 0, Sampling())


@pytest.mark.parametrize("method", ["cloud", "sync", "auto"])
@pytest.mark.parametrize("agreement", [0.0, 0.3, 3.0])
def test_every_method_samples_what_the_target_alone_samples(method: str, agreement: float) -> None:
    for seed in range(12):
        sampling = Sampling(0.9, top_k=12, top_p=0.95, seed=seed)

        def logits(text, noise, seed=seed):
            rng = np.random.default_rng([seed, *text])
            own = rng.normal(size=16) * 2
            return (
                own if noise == 0 else own + noise * np.random.default_rng([1, seed, *text]).normal(size=16)
            )

        def target(text, s=sampling, logits=logits):
            return choose(logits(text, 0)[None], len(text), s)[0]

        def drafter(text, s=sampling, logits=logits):
            return choose(logits(text, agreement)[None], len(text), s)[0]

        request = Request(1, "p", sampling=sampling, max_tokens=20)
        done = (
            VirtualAction(Scenario(METHODS[method], request, {EOS}, target, drafter, SteadyLink(0.02)))
            .run()
            .ending
        )
        assert done.tokens == decode_alone(target, {EOS}, 20)


@pytest.mark.parametrize(
    "sampling", [Sampling(1.3, seed=5), Sampling(1.3, 4, seed=5), Sampling(1.3, 0, 0.9, 5)]
)
def test_tokens_that_a_grammar_forbids_are_neither_chosen_nor_in_the_distribution(sampling: Sampling) -> None:
    rng = np.random.default_rng(2)
    row = rng.normal(size=200)
    allowed = np.sort(rng.choice(200, 3, replace=False))
    masked = np.full(200, -np.inf)
    masked[allowed] = row[allowed]
    tokens, scores = warp(masked, sampling)
    assert set(tokens) <= set(allowed) and np.isfinite(scores).all()
    chosen = {choose(masked[None], position, sampling)[0] for position in range(60)}
    assert chosen == set(tokens)
    assert set(warped(masked, sampling).tokens) == set(tokens)
    for position in range(20):
        second = runner_up(masked, position, sampling)
        assert second is None or second[0] in allowed
