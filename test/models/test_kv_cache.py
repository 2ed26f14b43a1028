"""Memory for keys and values that is allocated once: taken, given back, never shared and never read too far."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_checkpoints
import torch
from families import Family, pair_of, reserved
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.tree import merge
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.batch_decoder import BatchDecoder
from spec_decode_ros.models.interfaces import ForwardInput
from spec_decode_ros.models.kv_cache import CachePool, CacheShape
from spec_decode_ros.models.pair import load_verifier
from spec_decode_ros.models.verifier import HfVerifier, HfVerifySession

GREEDY = Sampling()
SHAPE = CacheShape(layers=2, heads=2, width=4)


def pool_of(verifier: HfVerifier) -> CachePool:
    decoder = verifier.model.decoder
    assert isinstance(decoder, BatchDecoder) and decoder.pool is not None
    return decoder.pool


def test_what_a_token_takes(qwen: Family) -> None:
    assert qwen.verifier.bytes_per_token == 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, width, bytes
    pool = CachePool(SHAPE, 3, 10)
    assert pool.keys.nbytes + pool.values.nbytes == 30 * SHAPE.bytes_per_token


def test_a_thousand_sessions_leave_every_slot_free(qwen: Family) -> None:
    verifier = qwen.verifier
    prompts = ("stop", "find the blue box")
    with reserved(verifier, 4, 64):
        pool = pool_of(verifier)
        for number in range(1000):
            sessions = [verifier.prepare(prompt) for prompt in prompts]
            if number % 3 == 0:
                sessions[0].verify((), (), GREEDY)
            elif number % 3 == 1:
                verifier.verify_many([ForwardInput(session, prefill=2) for session in sessions])
            if number % 2:
                for session in sessions:
                    session.close()
            del sessions  # one that nobody closed gives its slot back too
        assert pool.free == 4
        session = verifier.prepare("stop")
        session.verify((), (), GREEDY)
        held = session.sequence._cache  # as a traceback may
        session.close()
        assert pool.free == 4 and held.keys.numel() == 0


def test_without_a_slot_left_a_session_hears_so_and_the_others_go_on(everyone: Family) -> None:
    verifier = everyone.verifier
    if not isinstance(verifier.model.decoder, BatchDecoder):
        assert verifier.bytes_per_token is None
        with pytest.raises(SpecDecodeError, match="no memory can be reserved"):
            verifier.reserve(2, 64)
        return
    sessions = [verifier.prepare(prompt) for prompt in ("stop", "find the blue box", "turn left")]
    expected = [verifier.prepare(prompt).verify((), (5,), GREEDY) for prompt in ("stop", "find the blue box")]
    with reserved(verifier, 2, 64):
        got = verifier.verify_many([ForwardInput(session, draft=(5,)) for session in sessions])
        assert got[:2] == expected
        assert isinstance(got[2], SpecDecodeError) and "All 2 sessions" in str(got[2])
        with pytest.raises(SpecDecodeError, match="All 2 sessions"):
            sessions[2].verify((), (5,), GREEDY)
        sessions[0].close()
        assert isinstance(sessions[2].verify((), (5,), GREEDY), tuple)
        for session in sessions:
            session.close()
        assert pool_of(verifier).free == 2


def test_a_session_ends_where_its_slot_does(qwen: Family) -> None:
    verifier = load_verifier(pair_of(qwen.path))
    whole = verifier.prepare("stop").answer_room
    verifier.reserve(2, 40)
    session, other = verifier.prepare("stop"), verifier.prepare("turn left")
    room = session.answer_room
    assert room == 40 - session.prompt_tokens < whole
    assert len(session.verify([5] * room, (), GREEDY)) == 1
    parts = [ForwardInput(session, [5] * (room + 1)), ForwardInput(other, draft=(6,))]
    too_long, fine = verifier.verify_many(parts)
    assert isinstance(too_long, SpecDecodeError) and "context of 40 tokens" in str(too_long)
    assert fine == qwen.verifier.prepare("turn left").verify((), (6,), GREEDY)
    wide = merge(
        [(1, 2), (3, 4), (5, 6)], 9
    )  # as high as the room, but with more nodes than slots have tokens
    wide_part, fine = verifier.verify_many(
        [ForwardInput(session, [5] * (room - 2), tree=wide), ForwardInput(other, draft=(6,))]
    )
    assert isinstance(wide_part, SpecDecodeError) and "reserve more" in str(wide_part)
    assert fine == qwen.verifier.prepare("turn left").verify((), (6,), GREEDY)
    assert session.verify([5] * room, (), GREEDY) == qwen.verifier.prepare("stop").verify(
        [5] * room, (), GREEDY
    )
    with pytest.raises(SpecDecodeError, match="at least one session of one token"):
        verifier.reserve(0, 40)


def test_what_an_earlier_session_left_reaches_nobody(qwen: Family) -> None:
    verifier = qwen.verifier
    sessions = [verifier.prepare(prompt) for prompt in ("stop", "turn left 90 degrees " * 25)]
    expected = [verifier.verify_many([ForwardInput(session, draft=(5, 6))])[0] for session in sessions]
    for session in sessions:
        session.close()
    with reserved(verifier, 2, 200):
        pool = pool_of(verifier)
        pool.keys.fill_(float("nan"))
        pool.values.fill_(float("inf"))
        parts = [ForwardInput(session, draft=(5, 6)) for session in sessions]
        for _ in range(3):
            assert verifier.verify_many([ForwardInput(session, prefill=999) for session in sessions]) == [
                (),
                (),
            ]
            assert verifier.verify_many(parts) == expected
            for session in sessions:
                session.close()


def test_a_slot_is_given_back_once() -> None:
    pool = CachePool(SHAPE, 2, 8)
    first = pool.take()
    first.free()
    first.free()
    assert pool.free == 2
    slot = pool.take()
    slot.reserve(0, 8)
    assert slot.keys.data_ptr() == pool.keys[:, slot.slot].data_ptr()
    with pytest.raises(SpecDecodeError, match="memory for 8 tokens, not for 9"):
        slot.reserve(8, 9)
    del slot
    gc.collect()
    assert pool.free == 2
    assert torch.equal(pool.keys[:, first.slot, :, :8], torch.zeros(2, 2, 8, 4))


class Comings(RuleBasedStateMachine):
    """Sessions join, take in prompts, guess, begin again and leave; a twin of each on a model of its own is always alone."""

    together: HfVerifier
    alone: HfVerifier

    def __init__(self) -> None:
        super().__init__()
        self.robots: list[tuple[HfVerifySession, HfVerifySession, list[int]]] = []

    def teardown(self) -> None:
        for session, _, _ in self.robots:
            session.close()
        assert pool_of(self.together).free == 4

    @precondition(lambda self: len(self.robots) < 4)
    @rule(
        words=st.lists(st.sampled_from(tiny_checkpoints.WORDS), min_size=1, max_size=30),
        seed=st.none() | st.integers(0, 3),
    )
    def join(self, words: list[str], seed: int | None) -> None:
        images = [] if seed is None else [tiny_checkpoints.jpeg(seed)]
        session, twin = (side.prepare(" ".join(words), images) for side in (self.together, self.alone))
        self.robots.append((session, twin, []))

    @precondition(lambda self: self.robots)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        session, _, _ = self.robots.pop(data.draw(st.integers(0, len(self.robots) - 1)))
        session.close()

    @precondition(lambda self: self.robots)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        asking = data.draw(st.permutations(self.robots))[: data.draw(st.integers(1, 4))]
        parts = [self.part(data, session, committed) for session, _, committed in asking]
        for part, (_, twin, committed), choices in zip(
            parts, asking, self.together.verify_many(parts), strict=True
        ):
            assert not isinstance(choices, Exception), choices
            if not part.prefill:
                assert [choices] == self.alone.verify_many([replace(part, session=twin)])
                committed[:] = [*part.committed, choices[0]][:20]

    def part(self, data: st.DataObject, session: HfVerifySession, committed: list[int]) -> ForwardInput:
        kind = data.draw(st.sampled_from(("read", "verify", "verify", "tree", "begin again")))
        if kind == "read":
            return ForwardInput(session, prefill=data.draw(st.integers(1, 50)))
        kept = data.draw(st.integers(0, len(committed))) if kind == "begin again" else len(committed)
        if kind == "tree":
            branches = data.draw(st.lists(st.lists(st.integers(0, 80), max_size=4), max_size=4))
            return ForwardInput(session, committed[:kept], tree=merge(branches, 9))
        return ForwardInput(session, committed[:kept], data.draw(st.lists(st.integers(-1, 90), max_size=9)))

    @invariant()
    def no_slot_is_lost(self) -> None:
        assert pool_of(self.together).free >= 4 - len(self.robots)


def test_whoever_comes_and_goes_each_gets_what_it_gets_alone(checkpoints: Callable[[str], Path]) -> None:
    path = checkpoints("qwen2_vl")
    Comings.together, Comings.alone = load_verifier(pair_of(path)), load_verifier(pair_of(path))
    Comings.together.reserve(4, 128)
    run_state_machine_as_test(Comings, settings=settings(max_examples=40, stateful_step_count=12))
