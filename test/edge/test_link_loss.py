"""When the link counts as lost, and what acting on drafts costs. No ROS and no model."""

from __future__ import annotations

import pytest

from spec_decode_ros.edge.draft_motion import DraftMotion
from spec_decode_ros.edge.link_watch import SILENCE_S, LinkWatch


def test_an_action_without_a_verdict_is_a_lost_link_until_the_next_word():
    link = LinkWatch()
    assert not link.heard(silence_s=0.2, now=100.0)
    assert link.no_verdict(now=100.0)
    assert not link.no_verdict(now=101.0), "no news"
    assert link.heard(silence_s=1.5, now=102.0), "what was heard was heard before"
    assert not link.heard(silence_s=0.1, now=103.0)
    assert not link.lost


def test_silence_alone_is_a_lost_link_too():
    link = LinkWatch()
    assert not link.heard(SILENCE_S - 0.1, now=10.0)
    assert link.heard(SILENCE_S + 0.1, now=10.2)
    assert link.heard(float("inf"), now=20.0)
    assert not link.heard(0.0, now=20.1)


def test_the_correction_is_the_way_between_what_was_done_and_what_the_verdict_says():
    motion = DraftMotion()
    assert motion.correction(0.4, 0.2, at=1.0).metres == 0.0
    motion.drafted(0.6, 0.2, at=1.0)
    motion.drafted(0.4, -0.3, at=1.1)
    correction = motion.correction(0.4, 0.2, at=1.3)
    assert correction.metres == pytest.approx(0.2 * 0.1)
    assert correction.radians == pytest.approx(0.5 * 0.2)
