"""The verifier's tokens are the target's own, however a draft is cut into passes."""

from __future__ import annotations

import random

import pytest
import tiny_checkpoints
import torch
import transformers_reference
from families import Family, pair_of

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.models.pair import load_verifier
from spec_decode_ros.models.verifier import HfVerifier

GREEDY = Sampling()
PROMPT = "go to the red chair | last vx 0.4 wz -0.6 | blue box left 2.5"
LENGTH = 16


def one_by_one(
    verifier: HfVerifier, prompt: str, images: list[bytes], count: int, sampling: Sampling
) -> list[int]:
    session = verifier.prepare(prompt, images)
    tokens: list[int] = []
    while len(tokens) < count and not (tokens and tokens[-1] in verifier.eos_ids):
        tokens += session.verify(tokens, (), sampling)
    session.close()
    return tokens


@pytest.mark.parametrize("seed", range(4))
def test_equals_transformers_generate(family: Family, seed: int) -> None:
    images = family.images(seed)
    expected = family.reference(PROMPT, images, LENGTH)
    assert one_by_one(family.verifier, PROMPT, images, LENGTH, GREEDY) == expected
    assert len(set(expected)) > 3  # a constant answer would prove little


def test_prompt_without_an_image_equals_transformers_generate(family: Family) -> None:
    expected = family.reference(PROMPT, [], LENGTH)
    assert one_by_one(family.verifier, PROMPT, [], LENGTH, GREEDY) == expected


def test_the_image_matters(family: Family) -> None:
    if family.sees:
        answers = {
            tuple(one_by_one(family.verifier, PROMPT, family.images(seed), 8, GREEDY)) for seed in range(5)
        }
        assert len(answers) > 1


def test_two_images(qwen: Family) -> None:
    images = [tiny_checkpoints.jpeg(1), tiny_checkpoints.jpeg(2, 112, 84)]
    assert one_by_one(qwen.verifier, PROMPT, images, LENGTH, GREEDY) == qwen.reference(PROMPT, images, LENGTH)


SAMPLINGS = [GREEDY, Sampling(temperature=1.5, top_k=20, top_p=0.95, seed=7)]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "sampled"])
def test_any_split_into_passes_gives_the_same_tokens(family: Family, sampling: Sampling) -> None:
    images = family.images()
    truth = one_by_one(family.verifier, PROMPT, images, LENGTH, sampling)
    fused = family.verifier.prepare(PROMPT, images)
    assert list(fused.verify((), truth[:-1], sampling)) == truth
    rng = random.Random(5)
    for _ in range(12):
        session = family.verifier.prepare(PROMPT, images)
        committed: list[int] = []
        while len(committed) < len(truth):
            draft = truth[len(committed) : len(committed) + rng.randrange(6)]
            wrong = rng.randrange(len(draft) + 1)
            if wrong < len(draft):
                draft[wrong] = (draft[wrong] + 1 + rng.randrange(5)) % 80
            choices = session.verify(committed, draft, sampling)
            assert len(choices) == len(draft) + 1
            good = next((i for i, token in enumerate(draft) if choices[i] != token), len(draft))
            committed += choices[: good + 1]
            assert committed == truth[: len(committed)] or len(committed) > len(truth)
        assert committed[: len(truth)] == truth


def test_committed_may_shrink_or_change(qwen: Family) -> None:
    images = qwen.images()
    truth = one_by_one(qwen.verifier, PROMPT, images, LENGTH, GREEDY)
    session = qwen.verifier.prepare(PROMPT, images)
    session.verify((), truth[:10], GREEDY)
    other = [5, 6, 7]
    fresh = qwen.verifier.prepare(PROMPT, images).verify(other, truth[:2], GREEDY)
    assert session.verify(other, truth[:2], GREEDY) == fresh
    assert list(session.verify(truth[:4], truth[4:9], GREEDY)) == truth[4:10]
    assert list(session.verify((), truth[:3], GREEDY)) == truth[:4]
    assert session.verify((), (), GREEDY) == (truth[0],)
    session.close()
    session.close()
    assert list(session.verify(truth[:2], truth[2:5], GREEDY)) == truth[2:6]


def test_sessions_that_share_a_model_do_not_disturb_each_other(family: Family) -> None:
    cases = [(PROMPT, family.images(1)), ("find the blue box", family.images(2)), ("stop", [])]
    if family.sees:
        cases.append(("turn left please", [tiny_checkpoints.jpeg(3, 168, 84)]))
    alone = [one_by_one(family.verifier, prompt, images, LENGTH, GREEDY) for prompt, images in cases]
    sessions = [family.verifier.prepare(prompt, images) for prompt, images in cases]
    answers: list[list[int]] = [[] for _ in cases]
    rng = random.Random(2)
    while any(len(answer) < len(truth) for answer, truth in zip(answers, alone, strict=True)):
        number = rng.randrange(len(cases))
        truth, answer = alone[number], answers[number]
        draft = truth[len(answer) : len(answer) + rng.randrange(4)]
        answer += sessions[number].verify(answer, draft, GREEDY)
    assert [answer[: len(truth)] for answer, truth in zip(answers, alone, strict=True)] == alone


def test_drafts_with_placeholders_and_ids_from_nowhere(family: Family) -> None:
    images = family.images()
    truth = one_by_one(family.verifier, PROMPT, images, LENGTH, GREEDY)
    placeholder = family.verifier.model.image_token_id
    for bad in (placeholder, -1, 10**9, family.verifier.model.text.size, 2**31 - 1):
        for session in (family.verifier.prepare(PROMPT, images), family.verifier.prepare(PROMPT, images)):
            choices = session.verify((), [*truth[:3], bad, *truth[4:6]], GREEDY)
            assert len(choices) == 7
            assert list(choices[:4]) == truth[:4]
            assert all(0 <= token < family.verifier.model.text.size for token in choices)
            assert list(session.verify(truth[:4], truth[4:8], GREEDY)) == truth[4:9]


def test_end_tokens_come_from_the_generation_settings(tmp_path) -> None:
    plain = tiny_checkpoints.make_qwen2_vl(tmp_path / "plain")
    images = [tiny_checkpoints.jpeg(1)]
    verifier = load_verifier(pair_of(plain))
    assert verifier.eos_ids == {1}
    answer = one_by_one(verifier, PROMPT, images, LENGTH, GREEDY)
    word = verifier.decode([answer[3]])
    ending = load_verifier(pair_of(tiny_checkpoints.make_qwen2_vl(tmp_path / "ending", eos_words=[word])))
    assert ending.eos_ids == {1, answer[3]}
    expected = answer[: answer.index(answer[3]) + 1]
    assert one_by_one(ending, PROMPT, images, LENGTH, GREEDY) == expected
    assert (
        transformers_reference.generate("qwen2_vl", tmp_path / "ending", PROMPT, images, LENGTH) == expected
    )


def test_rows_of_a_padded_head_are_never_chosen(tmp_path) -> None:
    padded = load_verifier(pair_of(tiny_checkpoints.make_qwen2_vl(tmp_path / "padded", padded_head=38)))
    assert padded.model.head.weight.shape[0] == padded.model.text.size + 38
    images = [tiny_checkpoints.jpeg(1)]
    for sampling in SAMPLINGS:
        tokens = one_by_one(padded, PROMPT, images, LENGTH, sampling)
        assert max(tokens) < padded.model.text.size


def test_a_pass_that_breaks_off_leaves_a_usable_session(family: Family, monkeypatch) -> None:
    images = family.images()
    truth = one_by_one(family.verifier, PROMPT, images, LENGTH, GREEDY)
    session = family.verifier.prepare(PROMPT, images)
    session.verify((), truth[:2], GREEDY)
    attention = torch.nn.functional.scaled_dot_product_attention
    calls = []

    def broken(*args: object, **kwargs: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:  # the first layer has written its cache by then
            raise RuntimeError("out of memory")
        return attention(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="out of memory"):
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", broken)
        session.verify(truth[:3], truth[3:6], GREEDY)
    assert list(session.verify(truth[:3], truth[3:6], GREEDY)) == truth[3:7]
