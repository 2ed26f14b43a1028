"""Faults of single messages on an emulated link: what is forwarded, and that both ends survive them."""

from __future__ import annotations

import queue
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.decoding.messages import Draft
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.network.link_profile import LinkProfile
from spec_decode_ros.lab.network.message_faults import MessageFault, MessageFaults, garbage, truncated

from .test_link import WAIT_S, linked

FRAMES = [b"head and body", b"picture"]


def test_a_fault_meets_the_next_message_in_its_direction_and_no_other() -> None:
    faults = MessageFaults()
    applied = faults.schedule(MessageFault("delayed", up=True, seconds=2.0))
    assert faults.apply(False, b"a", FRAMES) == [(0.0, FRAMES)] and not applied.is_set()
    assert faults.apply(True, b"a", FRAMES) == [(2.0, FRAMES)]
    assert faults.apply(True, b"a", FRAMES) == [(0.0, FRAMES)]
    assert applied.is_set()


def test_a_reordered_message_comes_after_the_next_of_its_robot() -> None:
    faults = MessageFaults()
    faults.schedule(MessageFault("reordered", up=True))
    assert faults.apply(True, b"a", [b"1"]) == []
    assert faults.apply(True, b"b", [b"x"]) == [(0.0, [b"x"])]
    assert faults.apply(True, b"a", [b"2"]) == [(0.0, [b"2"]), (0.0, [b"1"])]
    assert faults.apply(True, b"a", [b"3"]) == [(0.0, [b"3"])]


def test_repeats_and_garbage_come_beside_the_message_itself() -> None:
    faults = MessageFaults()
    faults.schedule(MessageFault("repeated", up=False, seconds=3.0, seed=1))
    faults.schedule(MessageFault("garbage", up=False, seed=2))
    first, *again = faults.apply(False, b"a", FRAMES)
    assert first == (0.0, FRAMES) and again
    assert all(0 <= later <= 3.0 and frames == FRAMES for later, frames in again)
    (_, kept), (_, made) = faults.apply(False, b"a", FRAMES)
    assert kept == FRAMES and made != FRAMES


@given(st.lists(st.binary(min_size=1), min_size=1, max_size=4), st.integers(0, 2**32))
def test_what_is_truncated_has_lost_something_and_gained_nothing(frames: list[bytes], seed: int) -> None:
    left = truncated(frames, random.Random(seed))
    assert sum(map(len, left)) < sum(map(len, frames))
    assert all(whole.startswith(part) for whole, part in zip(frames, left, strict=False))
    assert garbage(frames, random.Random(seed)) == garbage(frames, random.Random(seed)), "a seed decides"


@pytest.mark.parametrize("wrong", [{"kind": "nudged"}, {"seconds": -1.0}, {"seconds": float("nan")}])
def test_what_is_no_fault_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SpecDecodeError, match="message fault"):
        MessageFault(**{"kind": "delayed", "up": True, **wrong})  # type: ignore[arg-type]


def test_both_ends_live_on_after_every_fault() -> None:
    faults, applied = MessageFaults(), []
    with linked(LinkProfile(), faults) as (_, client, arrivals):
        for number, kind in enumerate(("garbage", "truncated", "repeated", "reordered")):
            for up in (True, False):
                applied.append(faults.schedule(MessageFault(kind, up, 0.01, seed=number)))  # type: ignore[arg-type]
                for place in range(3):
                    client.send(Draft(1, place, (1, 2, 3)))
        client.send(Draft(1, 99, (1,)))
        while getattr(arrivals.get(timeout=WAIT_S).message, "position", None) != 99:
            pass
        with pytest.raises(queue.Empty):
            while True:
                arrivals.get(timeout=0.2)
    assert len(applied) == 8 and all(each.wait(WAIT_S) for each in applied)
