"""Prompt lookup, alone and before a draft model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from families import pair_of
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.decoding.messages import Sampler, Sampling
from spec_decode_ros.models import interfaces
from spec_decode_ros.models.drafter import HfDrafter
from spec_decode_ros.models.lookup import LookupDrafter, continuation
from spec_decode_ros.models.pair import load_drafter
from spec_decode_ros.models.prompts import prepare

PROMPT = "go to the red chair"
GREEDY = Sampling()


@pytest.mark.parametrize(
    ("tokens", "shortest", "found"),
    [
        ([1, 2, 3, 1, 2], 2, 3),
        ([1, 2, 3, 1, 2], 3, None),
        ([7, 2, 3, 1, 2], 2, None),
        ([7, 2, 3, 1, 2], 1, 3),
        ([1, 2, 3, 9, 2, 4, 1, 2], 1, 3),  # two tokens are better than the later one
        ([1, 2, 3, 1, 2, 4, 1, 2], 2, 4),  # of the same length the later one
        ([5, 5, 5], 2, 5),
        ([5, 5], 1, 5),
        ([5], 1, None),
        ([], 1, None),
    ],
)
def test_longest_then_latest_occurrence_goes_on(tokens: list[int], shortest: int, found: int | None) -> None:
    assert continuation(tokens, shortest) == found


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 5))
def test_as_if_every_occurrence_was_looked_at(tokens: list[int], shortest: int) -> None:
    expected = None
    for length in range(min(8, len(tokens) - 1), shortest - 1, -1):
        tail = tokens[-length:]
        ends = [end for end in range(length, len(tokens)) if tokens[end - length : end] == tail]
        if ends:
            expected = tokens[ends[-1]]
            break
    assert continuation(tokens, shortest) == expected


@pytest.fixture(scope="module")
def model(checkpoints: Callable[[str], Path]) -> HfDrafter:
    return load_drafter(pair_of(checkpoints("llama")))


def drafted(drafter: interfaces.Drafter, prefix: list[int], count: int = 8) -> list[int]:
    session = drafter.open(PROMPT)
    return list(itertools.islice(session.draft(prefix, GREEDY), count))


def test_fits_the_interfaces(model: HfDrafter) -> None:
    drafter = LookupDrafter(model.model.text, model)
    assert isinstance(drafter, interfaces.Drafter)
    assert isinstance(drafter.open(PROMPT), interfaces.DraftSession)
    assert drafter.vocabulary == model.vocabulary


def test_alone_it_copies_and_stops_where_nothing_recurs(model: HfDrafter) -> None:
    drafter = LookupDrafter(model.model.text)
    prompt = prepare(model.model, PROMPT).ids
    red = prompt.index(model.encode("red")[0])
    assert drafted(drafter, [red, prompt[red - 1]]) == []
    following = drafted(drafter, list(prompt[red - 1 : red + 1]), 2)
    assert following == list(prompt[red + 1 : red + 3])


def test_never_goes_on_after_the_end(model: HfDrafter) -> None:
    end = min(model.eos_ids)
    assert drafted(LookupDrafter(model.model.text), [end, 5, end]) == []
    copied = drafted(LookupDrafter(model.model.text), [8, 9, end - 1, end, 8, 9])
    assert end not in copied[:-1]


def test_model_drafts_where_nothing_recurs(model: HfDrafter) -> None:
    drafter = LookupDrafter(model.model.text, model, shortest=50)
    for prefix in ([], [11, 12]):
        assert drafted(drafter, prefix) == drafted(model, prefix)


def test_each_token_is_looked_up_or_the_models(model: HfDrafter) -> None:
    drafter = LookupDrafter(model.model.text, model, shortest=2)
    prompt = list(prepare(model.model, PROMPT).ids)
    answer = [20, 21, 22, 23, 20, 21]
    for token in drafted(drafter, answer, 16):
        expected = continuation(prompt + answer, 2)
        assert token == (drafted(model, answer, 1)[0] if expected is None else expected)
        answer.append(token)


def test_a_new_draft_ends_the_old_one(model: HfDrafter) -> None:
    session = LookupDrafter(model.model.text, model).open(PROMPT)
    old = session.draft((), GREEDY)
    next(old)
    assert next(session.draft((), GREEDY))
    assert list(old) == []


def test_for_rejection_sampling_a_looked_up_token_is_certain(model: HfDrafter) -> None:
    sampling = Sampling(temperature=1.0, seed=3, sampler=Sampler.REJECTION)
    session = LookupDrafter(model.model.text, model, shortest=2).open(PROMPT)
    first, *rest = itertools.islice(session.draft_sampled([20, 21, 22, 20, 21], sampling), 4)
    assert (first.token, first.probability) == (22, 1.0)
    assert first.distribution.of([22, 23]).tolist() == [1.0, 0.0]
    assert len(rest) == 3


def test_only_the_model_knows_a_runner_up(model: HfDrafter) -> None:
    session = LookupDrafter(model.model.text, model, shortest=2).open(PROMPT)
    looked_up = session.draft([20, 21, 22, 20, 21], GREEDY)
    assert next(looked_up) == 22
    assert session.runner_up is None
    alone = model.open(PROMPT)
    prefix = [20, 21, 22, 23, 24]
    assert next(session.draft(prefix, GREEDY)) == next(alone.draft(prefix, GREEDY))
    assert session.runner_up == alone.runner_up is not None
