"""Which frame and which prompt every recorded action was made from."""

from __future__ import annotations

import pytest
from bags import WALK, S, recording
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.replay import moments as m
from spec_decode_ros.replay.bag import read_recording
from spec_decode_ros.replay.pairing import recorded_actions

GO = "go to the red chair"
A, B = "vx 0.4 wz 0.0 | red chair ahead 2.0", "vx 0.2 wz 0.4 | red chair left 1.0"


def found(bag) -> list[tuple[float, str | None]]:
    return [(action.stamp / S, action.text) for action in recorded_actions(bag)]


def test_a_text_belongs_to_the_velocities_before_it():
    bag = recording(verified=[(1.1, 1.0, 0.4, 0.0), (1.4, 1.3, 0.2, 0.4)], texts=[(1.12, A), (1.42, B)])
    assert found(bag) == [(1.0, A), (1.3, B)]
    assert [action.time for action in recorded_actions(bag)] == [1.12 * S, 1.42 * S]


def test_topics_that_were_recorded_out_of_their_order_are_put_right():
    bag = recording(verified=[(1.1, 1.0, 0.4, 0.0), (1.401, 1.3, 0.4, 0.0)], texts=[(1.099, A), (1.400, A)])
    assert found(bag) == [(1.0, A), (1.3, A)]


def test_a_lost_text_leaves_its_action_without_and_takes_no_other():
    bag = recording(
        verified=[(1.1, 1.0, 0.4, 0.0), (1.4, 1.3, 0.4, 0.0), (1.7, 1.6, 0.4, 0.0)],
        texts=[(1.12, A), (1.72, A)],
    )
    assert found(bag) == [(1.0, A), (1.3, None), (1.6, A)]


def test_velocities_that_were_corrected_count_as_they_ended():
    bag = recording(verified=[(1.1, 1.0, 0.6, 0.0), (1.2, 1.0, 0.4, 0.0)], texts=[(1.21, A)])
    assert found(bag) == [(1.0, A)]


def test_texts_that_fit_nothing_are_left_out():
    bag = recording(verified=[(1.1, 1.0, 0.4, 0.0)], texts=[(0.5, A), (1.12, B), (1.13, "no action")])
    assert found(bag) == [(1.0, None)]


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B]), st.floats(0.02, 0.13), st.floats(-0.0099, 0.15), st.booleans()),
        max_size=30,
    )
)
def test_every_text_finds_its_frame_whatever_is_lost(actions):
    """Decisions 0.3 s apart: latency, from velocities to text, and whether the text was recorded."""
    verified, texts, expected = [], [], []
    for index, (text, latency, jitter, kept) in enumerate(actions):
        stamp = 1.0 + 0.3 * index
        vx, wz = (0.4, 0.0) if text == A else (0.2, 0.4)
        verified.append((stamp + latency, stamp, vx, wz))
        if kept:
            texts.append((stamp + latency + jitter, text))
        expected.append((round(stamp * S), text if kept else None))
    got = recorded_actions(recording(verified=verified, texts=texts))
    assert [(action.stamp, action.text) for action in got] == expected


def decided(**parts) -> list[tuple[str, str | None, str]]:
    moments = m.moments_of(recording(**parts))
    return [(moment.instruction, moment.last_action, moment.uncertain) for moment in moments]


def test_the_prompt_has_the_last_action_of_the_same_instruction():
    """A command that is repeated changes nothing; a new one is answered from the first text after it on."""
    assert decided(
        frames=[1.0, 1.3, 1.6, 1.9],
        commands=[(0.9, GO), (1.35, GO), (1.55, "sit down")],
        verified=[(1.1, 1.0, 0.4, 0.0), (1.4, 1.3, 0.2, 0.4), (1.7, 1.6, 0.0, 0.0), (2.0, 1.9, 0.0, 0.0)],
        texts=[(1.12, A), (1.42, B), (1.72, "vx 0.0 wz 0.0 | sit down"), (2.02, "vx 0.0 wz 0.0 | sit down")],
    ) == [(GO, None, ""), (GO, A, ""), ("sit down", None, ""), ("sit down", "vx 0.0 wz 0.0 | sit down", "")]


def test_a_frame_from_before_the_command_is_answered_for_the_command():
    (moment,) = m.moments_of(
        recording(
            frames=[0.95],
            commands=[(0.0, "sit down"), (1.0, GO)],
            verified=[(1.1, 0.95, 0.4, 0.0)],
            texts=[(1.12, A)],
        )
    )
    assert (moment.instruction, moment.last_action, moment.uncertain) == (GO, None, "")


def test_what_cannot_be_known_is_said():
    verified = [(1.1, 1.0, 0.4, 0.0), (1.7, 1.6, 0.4, 0.0), (2.0, 1.9, 0.4, 0.0), (2.3, 2.2, 0.4, 0.0)]
    assert decided(
        frames=[1.0, 1.6, 2.2],
        commands=[(0.9, GO)],
        verified=verified,
        texts=[(1.12, A), (1.72, A), (2.32, A)],
        drafts=[(1.05, 1.0, 0.4, 0.0), (1.35, 1.3, 0.4, 0.0)],
    ) == [(GO, None, ""), (GO, A, m.AFTER_UNVERIFIED), (GO, A, m.NO_FRAME), (GO, None, m.AFTER_NO_TEXT)]


def test_a_bag_without_commands_needs_an_instruction():
    bag = recording(
        frames=[1.0, 1.3], verified=[(1.1, 1.0, 0.4, 0.0), (1.4, 1.3, 0.4, 0.0)], texts=[(1.12, A), (1.42, A)]
    )
    with pytest.raises(SpecDecodeError, match="--instruction"):
        m.moments_of(bag)
    first, second = m.moments_of(bag, GO)
    assert first.uncertain == m.BEGINS_LATE
    assert (second.last_action, second.uncertain) == (A, "")


def test_the_prompt_has_the_counter_that_odometry_gave_it():
    turns = [f"vx 0.0 wz 0.8 | turning {left}" for left in (90, 75, 60)]
    measured = "vx 0.0 wz 0.8 | turning 90"
    assert decided(
        frames=[1.0, 1.3, 1.6],
        commands=[(0.9, GO)],
        verified=[(1.1, 1.0, 0.0, 0.8), (1.4, 1.3, 0.0, 0.8), (1.7, 1.6, 0.0, 0.8)],
        texts=list(zip((1.11, 1.41, 1.71), turns, strict=True)),
        decided=[(1.111, turns[0], ""), (1.412, turns[1], turns[0]), (1.713, turns[2], measured)],
    ) == [(GO, None, ""), (GO, turns[0], ""), (GO, measured, "")]


def test_a_prompt_is_known_from_its_action_where_what_came_before_is_not():
    (moment,) = m.moments_of(
        recording(frames=[1.0], verified=[(1.1, 1.0, 0.2, 0.4)], texts=[(1.11, B)], decided=[(1.112, B, A)]),
        GO,
    )
    assert (moment.last_action, moment.uncertain) == (A, "")


def test_a_bag_without_actions_is_decided_on_once_a_period():
    bag = recording(frames=[index / 10 for index in range(20)], commands=[(0.45, GO)])
    stamps = [moment.stamp / S for moment in m.moments_of(bag, period_s=0.5)]
    assert stamps == [0.5, 1.0, 1.5]
    assert all(moment.recorded is None for moment in m.moments_of(bag))


def test_every_action_of_the_shipped_bag_is_known_to_the_last_word():
    pytest.importorskip("rosbags", reason="rosbags is not installed: bags need it")
    bag = read_recording(WALK)
    moments = m.moments_of(bag)
    assert len(moments) == len(bag.texts) > 30
    assert [text for _, text in found(bag)] == [said.text for said in bag.texts]
    assert [moment.uncertain for moment in moments] == [""] * len(moments)
    assert sum(moment.last_action is None for moment in moments) == 3
