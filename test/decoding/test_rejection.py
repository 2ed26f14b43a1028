from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from chi_square import p_value, survival
from hypothesis import given, settings
from hypothesis import strategies as st

from spec_decode_ros.decoding import rejection
from spec_decode_ros.decoding.acceptance import VerificationResult
from spec_decode_ros.decoding.distribution import Distribution, draw, warped
from spec_decode_ros.decoding.messages import Sampling, TokenOutcome
from spec_decode_ros.decoding.philox import Purpose, uniform
from spec_decode_ros.decoding.rejection import (
    DRAFT_UNIT,
    accepts,
    draft_token,
    resample,
)
from spec_decode_ros.decoding.sparse import Sparse, head_of, pack, unpack
from spec_decode_ros.errors import SpecDecodeError

V = 13
NEVER = -np.inf
Row = tuple[float, ...]
Resample = Callable[[Sparse, Distribution, int, Sampling], int]


@pytest.fixture(autouse=True)
def warp_each_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The statistics ask about the same few rows again and again; warping them is most of the work."""

    @functools.cache
    def remembered(row: bytes, sampling: Sampling) -> Distribution:
        return warped(np.frombuffer(row), sampling)

    def warped_without_seed(row: np.ndarray, sampling: Sampling) -> Distribution:
        same = Sampling(sampling.temperature, sampling.top_k, sampling.top_p)
        return remembered(np.asarray(row, dtype=np.float64).tobytes(), same)

    monkeypatch.setattr(rejection, "warped", warped_without_seed)


def exact(row: Sequence[float], sampling: Sampling) -> dict[int, float]:
    """The target's distribution, written down without any of the code under test (rows without ties)."""
    order = sorted((i for i, x in enumerate(row) if x > NEVER), key=lambda i: -row[i])
    mass = {i: float(np.exp((row[i] - max(row)) / sampling.temperature)) for i in order}
    kept = order[: sampling.top_k] if sampling.top_k else order
    total, before, nucleus = sum(mass[i] for i in kept), 0.0, []
    for i in kept:
        if before < sampling.top_p * total:
            nucleus.append(i)
        before += mass[i]
    total = sum(mass[i] for i in nucleus)
    return {i: mass[i] / total for i in nucleus}


def judge_sampled(
    draft: Sequence[int],
    probabilities: Sequence[float],
    rows: Sequence,
    position: int,
    sampling: Sampling,
    *bounds,
) -> VerificationResult:
    """From the target's logits, as a verifier has them; `bounds` are eos, room and k."""
    targets = [rejection.warped(row, sampling) for row in rows]
    sampled = rejection.SampledDraft(tuple(draft), tuple(probabilities))
    return rejection.judge_sampled(sampled, targets, position, sampling, *bounds)


def one_token(
    target: np.ndarray,
    drafter: np.ndarray,
    position: int,
    sampling: Sampling,
    k: int,
    again: Resample = resample,
) -> int:
    """The whole exchange for one place, with what crosses the wire packed and unpacked."""
    drafted = draft_token(drafter, position, sampling)
    probability = float(np.float32(drafted.probability))
    verdict = judge_sampled([drafted.token], [probability], [target] * 2, position, sampling, (), 1, k)
    if verdict.sparse is None:
        return verdict.tokens[0]
    return again(unpack(pack(verdict.sparse)), drafted.distribution, position, sampling)


def many_tokens(case: Case, n: int, first: int = 0, again: Resample = resample) -> list[int]:
    """Half of them at many positions with one seed, half at one position with many seeds."""
    temperature, top_k, top_p = case.warpers
    places = [(first + 7, i) for i in range(n // 2)] + [(first + 1000 + i, 3) for i in range(n - n // 2)]
    return [
        one_token(case.target, case.drafter, where, Sampling(temperature, top_k, top_p, seed), case.k, again)
        for seed, where in places
    ]


def random_row(seed: int, spread: float = 1.5, never: Sequence[int] = ()) -> np.ndarray:
    row = np.random.default_rng(seed).normal(size=V) * spread
    row[list(never)] = NEVER
    return row


class Case:
    def __init__(self, target: np.ndarray, drafter: np.ndarray, k: int, warpers=(1.0, 0, 1.0)) -> None:
        self.target, self.drafter, self.k, self.warpers = target, drafter, k, warpers


NEAR = random_row(1), random_row(1) + random_row(2, 0.3)
FAR = random_row(3), random_row(4, 2.5)
APART = random_row(31, 1.0), random_row(32, 1.0)
CASES = {
    "near, all covered": Case(*NEAR, k=V),
    "far, all covered": Case(*FAR, k=V),
    "near, three of thirteen": Case(*NEAR, k=3),
    "far, three of thirteen": Case(*FAR, k=3),
    "apart, all covered": Case(*APART, k=V),
    "apart, four of thirteen": Case(*APART, k=4),
    "far, only one": Case(*FAR, k=1),
    "impossible tokens on both sides": Case(
        random_row(5, never=[0, 4, 12]), random_row(6, never=[1, 4, 8]), k=4
    ),
    "nothing in common": Case(random_row(7, never=range(7)), random_row(8, never=range(7, V)), k=2),
    "warped, all covered": Case(*FAR, k=8, warpers=(0.8, 7, 0.95)),
    "warped, two of the support": Case(*NEAR, k=2, warpers=(1.4, 7, 0.95)),
    "a drafter without doubt": Case(FAR[0], np.where(np.arange(V) == 2, 0.0, NEVER), k=4),
    "flat target, only one": Case(random_row(9, 0.1), random_row(10), k=1),
}
TOKENS_A_CASE = 8_000
assert TOKENS_A_CASE * len(CASES) >= 100_000


def test_the_p_values_are_right() -> None:
    assert survival(3.841459, 1) == pytest.approx(0.05, abs=1e-6)
    assert survival(18.307038, 10) == pytest.approx(0.05, abs=1e-6)
    assert survival(25.744832, 5) == pytest.approx(1e-4, abs=1e-9)
    assert survival(0.0, 4) == survival(0.0, 3) == 1.0
    rolls = np.random.default_rng(0).integers(6, size=6000).tolist()
    assert p_value(rolls, dict.fromkeys(range(6), 1 / 6)) > 0.01
    assert p_value([*rolls, 6], dict.fromkeys(range(6), 1 / 6)) == 0
    assert p_value([*rolls, *[5] * 200], dict.fromkeys(range(6), 1 / 6)) < 1e-4


@pytest.mark.parametrize("name", CASES)
def test_tokens_follow_the_targets_distribution(name: str) -> None:
    case = CASES[name]
    assert p_value(many_tokens(case, TOKENS_A_CASE), exact(case.target, Sampling(*case.warpers))) > 0.01


# ---- the same test finds each of these mistakes ------------------------------------------------------------


@pytest.mark.parametrize("name", ["apart, all covered", "apart, four of thirteen"])
def test_resampling_from_the_target_itself_would_be_found(name: str) -> None:
    nothing = Distribution(np.array([V]), np.ones(1))

    def from_target(sparse: Sparse, q: Distribution, position: int, sampling: Sampling) -> int:
        return resample(sparse, nothing, position, sampling)

    case = CASES[name]
    assert p_value(many_tokens(case, 4000, again=from_target), exact(case.target, Sampling(1.0))) < 1e-6


def test_leaving_out_the_rest_would_be_found() -> None:
    def from_head(sparse: Sparse, q: Distribution, position: int, sampling: Sampling) -> int:
        missing = np.maximum(sparse.head - q.of(sparse.tokens), 0.0)
        if not missing.any():
            return resample(sparse, q, position, sampling)
        return sparse.tokens[draw(missing, uniform(sampling.seed, position, Purpose.RESAMPLE))]

    case = CASES["apart, four of thirteen"]
    assert p_value(many_tokens(case, 4000, again=from_head), exact(case.target, Sampling(1.0))) < 1e-6


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Purpose.DRAFT, Purpose.ACCEPT),
        (Purpose.ACCEPT, Purpose.RESAMPLE),
        (Purpose.DRAFT, Purpose.RESAMPLE),
        (Purpose.REST, Purpose.RESAMPLE),
    ],
)
def test_one_draw_for_two_purposes_would_be_found(monkeypatch, first: Purpose, second: Purpose) -> None:
    monkeypatch.setattr(
        rejection,
        "uniform",
        lambda seed, place, purpose: uniform(seed, place, first if purpose is second else purpose),
    )
    case = CASES["apart, four of thirteen"]
    assert p_value(many_tokens(case, 4000), exact(case.target, Sampling(1.0))) < 1e-6


def test_a_wrong_draft_probability_would_be_found(monkeypatch) -> None:
    case = CASES["apart, all covered"]
    true = rejection.accepts
    monkeypatch.setattr(rejection, "accepts", lambda head, q, *where: true(head, q * 0.8, *where))
    assert p_value(many_tokens(case, 4000), exact(case.target, Sampling(1.0))) < 1e-6


# ---- whole sequences ---------------------------------------------------------------------------------------

Model = Callable[[tuple[int, ...]], np.ndarray]


def context_model(seed: int, vocabulary: int, spread: float = 1.2) -> Model:
    @functools.cache
    def logits(text: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng([seed, *text]).normal(size=vocabulary) * spread

    return logits


def decode(
    target: Model, drafter: Model, sampling: Sampling, k: int, length: int, eos: Sequence[int], ahead: int
) -> tuple[int, ...]:
    """An answer of up to `length` tokens, drafted `ahead` tokens at a time."""
    text: tuple[int, ...] = ()
    while len(text) < length and not (text and text[-1] in eos):
        drafts, guess = [], text
        while len(drafts) < ahead and not (drafts and guess[-1] in eos):
            drafts.append(draft_token(drafter(guess), len(guess), sampling))
            guess = (*guess, drafts[-1].token)
        rows = [target(guess[: len(text) + i]) for i in range(len(drafts) + 1)]
        tokens, probabilities = guess[len(text) :], [each.probability for each in drafts]
        room = length - len(text)
        verdict = judge_sampled(tokens, probabilities, rows, len(text), sampling, eos, room, k)
        text += verdict.tokens
        if verdict.sparse:
            q = drafts[len(verdict.tokens)].distribution
            text += (resample(unpack(pack(verdict.sparse)), q, len(text), sampling),)
    return text


def exact_joint(
    target: Model, sampling: Sampling, length: int, eos: Sequence[int]
) -> dict[tuple[int, ...], float]:
    finished, open_ = {}, {(): 1.0}
    for _ in range(length):
        longer = {}
        for (text, mass), token in itertools.product(open_.items(), range(len(target(())))):
            probability = mass * exact(target(text), sampling).get(token, 0.0)
            if probability:
                (finished if token in eos else longer)[(*text, token)] = probability
        open_ = longer
    return finished | open_


@pytest.mark.parametrize(
    ("vocabulary", "length", "eos", "k", "warpers"),
    [
        (6, 2, (), 6, (1.0, 0, 1.0)),
        (4, 3, (), 2, (1.0, 0, 1.0)),
        (5, 3, (0,), 1, (1.0, 0, 1.0)),
        (5, 3, (0,), 3, (1.3, 4, 0.9)),
    ],
)
def test_whole_sequences_follow_the_targets_joint_distribution(vocabulary, length, eos, k, warpers) -> None:
    target, drafter = context_model(11, vocabulary), context_model(12, vocabulary)
    answers = [
        decode(target, drafter, Sampling(*warpers, seed), k, length, eos, ahead=3) for seed in range(5000)
    ]
    joint = exact_joint(target, Sampling(*warpers), length, eos)
    assert sum(joint.values()) == pytest.approx(1)
    assert p_value(answers, joint) > 0.01


def test_sequences_with_one_draw_for_all_positions_would_be_found(monkeypatch) -> None:
    monkeypatch.setattr(rejection, "uniform", lambda seed, place, purpose: uniform(seed, 0, purpose))
    target, drafter = context_model(11, 4), context_model(12, 4)
    answers = [decode(target, drafter, Sampling(1.0, seed=seed), 4, 3, (), ahead=3) for seed in range(2000)]
    assert p_value(answers, exact_joint(target, Sampling(1.0), 3, ())) < 1e-6


# ---- what a verdict says -----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, V])
def test_acceptance_is_the_best_that_the_head_allows(k: int) -> None:
    target, drafter = FAR
    p, n, accepted = warped(target, Sampling(1.0)), 4000, 0
    for position in range(n):
        drafted = draft_token(drafter, position, Sampling(1.0, seed=5))
        verdict = judge_sampled(
            [drafted.token], [drafted.probability], [target] * 2, position, Sampling(1.0, seed=5), (), 1, k
        )
        accepted += verdict.outcomes == (TokenOutcome.ACCEPTED,)
    allowed = np.minimum(head_of(p, k), drafted.distribution.of(p.tokens)).sum()
    assert accepted / n == pytest.approx(allowed, abs=4 * np.sqrt(allowed * (1 - allowed) / n))


def test_with_temperature_0_the_answer_is_the_greedy_one() -> None:
    target, drafter = context_model(21, 7), context_model(22, 7)
    greedy: tuple[int, ...] = ()
    while len(greedy) < 12:
        greedy = (*greedy, int(np.argmax(target(greedy))))
    assert decode(target, drafter, Sampling(), 4, 12, (), ahead=3) == greedy
    # All draws are certain, so that the cloud never has to ask the edge.
    verdict = judge_sampled(
        [greedy[0], 99], [1.0, 1.0], [target(greedy[:i]) for i in range(3)], 0, Sampling(), (), 9
    )
    assert verdict == VerificationResult(greedy[:2], (TokenOutcome.ACCEPTED, TokenOutcome.RECOVERED), False)


def test_a_verdict_ends_at_the_end_token_and_at_the_room() -> None:
    sure = np.full((4, 5), NEVER)
    sure[[0, 1, 2, 3], [1, 2, 3, 4]] = 0.0
    hot = Sampling(1.0)
    assert judge_sampled([1, 2, 3], [0.5] * 3, sure, 0, hot, (), 9).tokens == (1, 2, 3, 4)
    assert judge_sampled([1, 2, 3], [0.5] * 3, sure, 0, hot, (), 9).done is False
    assert judge_sampled([1, 2, 3], [0.5] * 3, sure, 0, hot, (2,), 9) == VerificationResult(
        (1, 2), (TokenOutcome.ACCEPTED,) * 2, True
    )
    assert judge_sampled([1, 2, 3], [0.5] * 3, sure, 0, hot, (4,), 9).done
    assert judge_sampled([1, 2, 3], [0.5] * 3, sure, 0, hot, (), 3) == VerificationResult(
        (1, 2, 3), (TokenOutcome.ACCEPTED,) * 3, True
    )
    rejected = judge_sampled([1, 0, 3], [0.5] * 3, sure, 0, hot, (), 9)
    assert rejected == VerificationResult((1,), (TokenOutcome.ACCEPTED,), False, Sparse((2,), (2**20,)))
    assert judge_sampled([], [], sure[:1], 0, hot, (), 9) == VerificationResult(
        (1,), (TokenOutcome.BONUS,), False
    )


def test_a_token_that_the_target_has_never_heard_of_is_rejected() -> None:
    verdict = judge_sampled([V + 50], [0.3], [FAR[0]] * 2, 0, Sampling(1.0), (), 9, V)
    assert verdict.tokens == () and verdict.sparse is not None


@settings(max_examples=60)
@given(st.integers(0, 2**64 - 1), st.integers(0, 10_000), st.integers(1, V))
def test_repeating_any_call_gives_the_same(seed: int, position: int, k: int) -> None:
    sampling = Sampling(1.1, top_k=9, top_p=0.97, seed=seed)
    runs = []
    for _ in range(2):
        drafted = draft_token(FAR[1], position, sampling)
        verdict = judge_sampled(
            [drafted.token], [drafted.probability], [FAR[0]] * 2, position, sampling, (), 9, k
        )
        again = resample(verdict.sparse, drafted.distribution, position, sampling) if verdict.sparse else None
        runs.append((drafted.token, drafted.probability, verdict, again))
        draft_token(FAR[1], position + 1, sampling)  # what happens in between does not matter
    assert runs[0] == runs[1]


@settings(max_examples=100)
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=40), st.integers(0, 2**32))
def test_a_draft_probability_is_a_float32_of_a_whole_distribution(row: list[float], seed: int) -> None:
    drafted = draft_token(row, 0, Sampling(0.9, seed=seed))
    q = drafted.distribution
    assert q.probabilities.sum() == 1 and (q.probabilities > 0).all()
    assert np.array_equal(q.probabilities, q.probabilities.astype(np.float32))
    assert drafted.probability == q.of(drafted.token)
    true = warped(row, Sampling(0.9))
    assert np.abs(q.of(true.tokens) - true.probabilities).max() <= DRAFT_UNIT * 1.0001


def test_acceptance_is_certain_where_the_target_has_no_less() -> None:
    for position in range(2000):
        assert accepts(0.3, 0.3, position, Sampling(1.0))
        assert not accepts(0.0, 2.0**-24, position, Sampling(1.0))


# ---- what is wrong is named --------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.5, float("nan"), float("inf")])
def test_an_impossible_probability_is_named(probability: float) -> None:
    with pytest.raises(SpecDecodeError, match="above 0"):
        judge_sampled([1], [probability], [FAR[0]] * 2, 0, Sampling(1.0), (), 9)


def test_what_does_not_belong_together_is_named() -> None:
    with pytest.raises(ValueError, match="one more row"):
        judge_sampled([1], [0.5], [FAR[0]], 0, Sampling(1.0), (), 9)
    with pytest.raises(ValueError, match="probabilities"):
        judge_sampled([1], [], [FAR[0]] * 2, 0, Sampling(1.0), (), 9)
    with pytest.raises(SpecDecodeError, match="from 1 to"):
        judge_sampled([12], [0.5], [FAR[0]] * 2, 0, Sampling(1.0), (), 9, 0)
    with pytest.raises(SpecDecodeError, match="same draft probabilities"):
        resample(Sparse((4,), (2**20,)), Distribution(np.array([4]), np.ones(1)), 0, Sampling(1.0))


@pytest.mark.parametrize("row", [[1.0, np.nan], [NEVER, NEVER], [np.inf, 0.0], [], [[1.0]]])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_broken_logits_are_named(row, temperature: float) -> None:
    with pytest.raises(SpecDecodeError, match="logits"):
        warped(row, Sampling(temperature))
