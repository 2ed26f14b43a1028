"""The drafter: any prefix, any order, abandoned at any token."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_checkpoints
from families import PROMPTS, Family, pair_of, reserved

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.drafter import HfDrafter, HfDraftSession
from spec_decode_ros.models.pair import load_drafter

PROMPT = "go to the red chair"
GREEDY = Sampling()
SAMPLINGS = [GREEDY, Sampling(temperature=1.2, seed=3)]


@pytest.fixture(scope="module")
def drafter(checkpoints: Callable[[str], Path]) -> HfDrafter:
    return load_drafter(pair_of(checkpoints("qwen2_vl")))


def fresh(drafter: HfDrafter, prefix: list[int], count: int, sampling: Sampling) -> list[int]:
    session = drafter.open(PROMPT, [tiny_checkpoints.jpeg(1)])
    return list(itertools.islice(session.draft(prefix, sampling), count))


def test_drafting_alone_is_the_models_greedy_answer(family: Family) -> None:
    drafter = HfDrafter(family.verifier.model)
    images = family.images()
    expected = family.reference(PROMPT, images, 12)
    assert (
        list(itertools.islice(drafter.open(PROMPT, images).draft((), Sampling()), len(expected))) == expected
    )


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "sampled"])
def test_draft_and_verifier_of_one_model_agree(family: Family, sampling: Sampling) -> None:
    drafter = HfDrafter(family.verifier.model)
    images = family.images()
    tokens = list(itertools.islice(drafter.open(PROMPT, images).draft((), sampling), 12))
    choices = family.verifier.prepare(PROMPT, images).verify((), tokens, sampling)
    assert list(choices[: len(tokens)]) == tokens


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "sampled"])
def test_any_sequence_of_prefixes_is_drafted_as_if_fresh(drafter: HfDrafter, sampling: Sampling) -> None:
    rng = random.Random(1)
    session = drafter.open(PROMPT, [tiny_checkpoints.jpeg(1)])
    base = fresh(drafter, [], 12, sampling)
    for _ in range(15):
        prefix = base[: rng.randrange(len(base))]
        if rng.random() < 0.5:
            prefix = [*prefix, *(rng.randrange(10, 80) for _ in range(rng.randrange(4)))]
        count = rng.randrange(1, 6)
        got = list(itertools.islice(session.draft(prefix, sampling), count))
        assert got == fresh(drafter, prefix, count, sampling)


def test_ends_with_the_end_token(drafter: HfDrafter, tmp_path: Path) -> None:
    answer = fresh(drafter, [], 8, Sampling())
    word = drafter.decode([answer[2]])
    ending = load_drafter(pair_of(tiny_checkpoints.make_qwen2_vl(tmp_path / "a", eos_words=[word])))
    session = ending.open(PROMPT, [tiny_checkpoints.jpeg(1)])
    assert list(session.draft((), Sampling())) == answer[: answer.index(answer[2]) + 1]
    assert list(session.draft(answer[:3], Sampling())) == []
    assert list(session.draft((), Sampling())) == answer[: answer.index(answer[2]) + 1]


def test_a_new_draft_ends_the_old_one(drafter: HfDrafter) -> None:
    session = drafter.open(PROMPT, [tiny_checkpoints.jpeg(1)])
    old = session.draft((), Sampling())
    first = next(old)
    new = session.draft((first,), Sampling())
    assert next(new) == fresh(drafter, [first], 1, Sampling())[0]
    assert list(old) == []
    session.close()
    assert list(new) == []


def test_stops_when_the_context_is_full(checkpoints: Callable[[str], Path]) -> None:
    drafter = load_drafter(pair_of(checkpoints("qwen2_vl")))
    drafter.model.context = 40
    session = drafter.open(PROMPT, [tiny_checkpoints.jpeg(1)])
    tokens = list(session.draft((), Sampling()))
    assert len(session.sequence.prompt.ids) + len(tokens) == 41
    assert tokens[-1] not in drafter.eos_ids


def test_a_pair_with_noise_is_accepted_in_part(tmp_path: Path) -> None:
    from spec_decode_ros.models.pair import load_pair

    drafter, verifier = load_pair(tiny_checkpoints.make_qwen2_vl_pair(tmp_path))
    accepted = drafted = 0
    for seed in range(8):
        images = [tiny_checkpoints.jpeg(seed)]
        draft = list(itertools.islice(drafter.open(PROMPT, images).draft((), Sampling()), 10))
        choices = verifier.prepare(PROMPT, images).verify((), draft, Sampling())
        good = next((i for i, token in enumerate(draft) if choices[i] != token), len(draft))
        accepted, drafted = accepted + good, drafted + len(draft)
    assert 0 < accepted < drafted


@pytest.mark.parametrize("slots", [0, 8], ids=["own memory", "slots"])
def test_several_drafts_in_one_pass_are_those_of_each_alone(everyone: Family, slots: int) -> None:
    drafter = HfDrafter(everyone.verifier.model)
    rng = random.Random(slots)
    with reserved(drafter, slots, 120):
        sessions = drafter.open_many([(prompt, everyone.images(n)) for n, prompt in enumerate(PROMPTS)])
        twins = [drafter.open(prompt, everyone.images(n)) for n, prompt in enumerate(PROMPTS)]
        prefixes: list[list[int]] = [[] for _ in PROMPTS]
        for _ in range(5):
            count, parts, expected = rng.randrange(1, 6), [], []
            for number in rng.sample(range(len(PROMPTS)), rng.randrange(1, len(PROMPTS) + 1)):
                session, sampling = sessions[number], rng.choice(SAMPLINGS)
                assert isinstance(session, HfDraftSession)
                parts.append((session, prefixes[number], sampling))
                alone = itertools.islice(twins[number].draft(prefixes[number], sampling), count)
                expected.append(list(alone))
                prefixes[number] = [*prefixes[number], *expected[-1][: rng.randrange(count + 1)]]
            assert drafter.draft_many(parts, count) == expected
            for session, *_ in parts:
                mine, theirs = session.runner_up, twins[sessions.index(session)].runner_up
                assert mine is not None and theirs is not None
                assert mine[0] == theirs[0] and mine[1] == pytest.approx(theirs[1], abs=1e-4)
        for opened in (*sessions, *twins):
            assert isinstance(opened, HfDraftSession)
            opened.close()


def test_a_draft_that_cannot_be_made_is_said_beside_the_others(family: Family) -> None:
    drafter = HfDrafter(family.verifier.model)
    sessions = [drafter.open(prompt) for prompt in PROMPTS[:3]]
    alone = fresh_text(drafter, PROMPTS[0], 4)
    broken, room = sessions[1], drafter.model.context
    old = sessions[0].draft((), GREEDY)
    next(old)

    def refuse(*_: object) -> None:
        raise MemoryError("no memory")

    broken.sequence.plan = broken.sequence.logits = refuse  # type: ignore[assignment, method-assign]
    got = drafter.draft_many(
        [(sessions[0], (), GREEDY), (broken, (), GREEDY), (sessions[2], [5] * room, GREEDY)], 4
    )
    assert got[0] == alone
    assert isinstance(got[1], MemoryError)
    assert got[2] == [], "no room"
    assert list(old) == [], "a new draft ends the old one"
    assert drafter.draft_many([], 4) == []
    assert isinstance(drafter.open_many([(PROMPTS[0], [b"no picture"])])[0], SpecDecodeError)


def fresh_text(drafter: HfDrafter, prompt: str, count: int) -> list[int]:
    return list(itertools.islice(drafter.open(prompt).draft((), GREEDY), count))
