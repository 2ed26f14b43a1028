"""Who shares a pass, and that everybody's request comes."""

from __future__ import annotations

import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.models.warmup import PassTiming
from spec_decode_ros.server.scheduler import BatchSlot, VerifyRequest, pass_budget, schedule_step

turns_lists = st.lists(
    st.builds(VerifyRequest, st.integers(0, 300), st.integers(0, 32)), min_size=1, max_size=40
)


def test_those_that_fit_share_the_pass_in_their_order() -> None:
    assert schedule_step([VerifyRequest(0, 4), VerifyRequest(0, 0), VerifyRequest(20, 5)], 64) == [
        BatchSlot(0),
        BatchSlot(1),
        BatchSlot(2),
    ]


def test_a_long_prompt_gets_what_the_others_leave() -> None:
    requests = [VerifyRequest(200, 8), VerifyRequest(0, 7), VerifyRequest(0, 7)]
    assert schedule_step(requests, 64) == [BatchSlot(0, 48), BatchSlot(1), BatchSlot(2)]


def test_prompts_get_a_quarter_also_in_a_crowd() -> None:
    crowd = [VerifyRequest(0, 0)] * 100
    assert schedule_step([VerifyRequest(200, 8), *crowd], 64)[0] == BatchSlot(0, 16)


def test_the_end_of_a_prompt_stays_with_its_draft() -> None:
    # The first choice follows from the last token of the prompt: that goes through with the draft.
    assert schedule_step([VerifyRequest(10, 20)], 15) == [BatchSlot(0, 9)]
    assert schedule_step([VerifyRequest(1, 20)], 15) == [BatchSlot(0)]


def test_the_smallest_budget_reads_a_token_of_the_first_prompt() -> None:
    assert schedule_step([VerifyRequest(2, 0), VerifyRequest(0, 0)], 1) == [BatchSlot(0, 1)]


@given(turns_lists, st.integers(1, 256))
def test_the_first_always_has_a_part_and_nobody_more_than_one(
    requests: list[VerifyRequest], budget: int
) -> None:
    slots = schedule_step(requests, budget)
    assert slots[0].index == 0
    indices = [slot.index for slot in slots]
    assert indices == sorted(set(indices))
    taken = [slot.prefill or requests[slot.index].width for slot in slots]
    assert len(taken) == 1 or sum(taken) <= budget
    for slot in slots:
        assert 0 <= slot.prefill < max(1, requests[slot.index].not_prefilled)


@given(turns_lists, st.integers(8, 256))
def test_nobody_waits_for_more_passes_than_there_are_turns_before_it(
    requests: list[VerifyRequest], budget: int
) -> None:
    """Everybody is done in the end, and between two parts of one session no other gets a second one more."""
    line = collections.deque(enumerate(requests))
    waited = dict.fromkeys(range(len(requests)), 0)
    ahead = {name: place for place, name in enumerate(range(len(requests)))}
    while line:
        slots = {slot.index: slot for slot in schedule_step([request for _, request in line], budget)}
        staying: collections.deque[tuple[int, VerifyRequest]] = collections.deque()
        again = []
        for index, (name, request) in enumerate(line):
            slot = slots.get(index)
            if slot is None:
                waited[name] += 1
                assert waited[name] <= ahead[name]
                staying.append((name, request))
            elif slot.prefill:
                again.append((name, VerifyRequest(request.not_prefilled - slot.prefill, request.draft)))
        line = staying
        for name, request in again:  # its next part is a request of its own, behind those that wait
            waited[name], ahead[name] = 0, len(line)
            line.append((name, request))


def test_the_budget_follows_from_what_passes_take() -> None:
    assert pass_budget(PassTiming()) == 256
    assert pass_budget(PassTiming(54.0, 4.0)) == 108
    assert pass_budget(PassTiming(2.0, 0.2)) == 200
    assert pass_budget(PassTiming(2.0, 2.0)) == 64
    assert pass_budget(PassTiming(30.0, 0.01)) == 2048


@pytest.mark.parametrize("wide", [VerifyRequest(0, 100), VerifyRequest(1, 100)])
def test_a_part_that_is_wider_than_the_budget_goes_alone(wide: VerifyRequest) -> None:
    assert schedule_step([wide, VerifyRequest(0, 0)], 64) == [BatchSlot(0)]
