"""The figures of a walk's smoothness, and its picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.viz.velocity import Walk, draw_velocity, smoothness

TICK_S = 0.05
BAG = Path(__file__).parents[1] / "data" / "walk"


def walk(speeds: list[float], verified: list[tuple[float, float]]) -> Walk:
    """A walk of these commanded speeds at 20 Hz, and verified actions at (time, speed)."""
    commanded = tuple((TICK_S * tick, speed, 0.0) for tick, speed in enumerate(speeds))
    return Walk(commanded, commanded, tuple((t, vx, 0.0) for t, vx in verified))


def test_a_walk_without_a_halt():
    found = smoothness(walk([0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.0], [(0.0, 0.4), (0.2, 0.4), (0.35, 0.0)]))
    assert (found.actions, found.halts) == (2, 0)
    assert found.max_ax == pytest.approx(2.0), "the stop at the end does not count"
    assert found.span_s == pytest.approx(0.2)


def test_a_halt_that_no_verified_action_asked_for_is_counted():
    speeds = [0.4] * 4 + [0.0] * 3 + [0.4] * 5
    found = smoothness(walk(speeds, [(0.0, 0.4), (0.5, 0.4)]))
    assert found.halts == 1
    assert found.longest_halt_s == pytest.approx(3 * TICK_S)
    asked = smoothness(walk(speeds, [(0.0, 0.4), (0.2, 0.0), (0.5, 0.4)]))
    assert asked.halts == 0


def test_a_walk_on_drafts_alone_has_no_halts_to_count():
    assert smoothness(walk([0.0, 0.2, 0.0, 0.2], [])).halts == 0


def test_the_picture_is_written_where_it_is_wanted(tmp_path):
    picture = draw_velocity(
        walk([0.0, 0.2, 0.4, 0.0], [(0.0, 0.4), (0.1, 0.4)]),
        tmp_path / "new" / "velocity.png",
        title="A walk",
    )
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_nothing_to_draw_is_said_in_one_sentence():
    with pytest.raises(SpecDecodeError, match="commanded"):
        Walk((), ())


def test_the_command_draws_a_recorded_walk(tmp_path, capsys):
    pytest.importorskip("rosbags", reason="rosbags is not installed: bags cannot be read")
    from spec_decode_ros.cli import main

    picture = tmp_path / "velocity.png"
    assert main(["velocity", str(BAG), "--plot", str(picture), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert picture.exists()
    assert found["actions"] > 10
    assert found["span_s"] > 3.0


def test_a_bag_that_is_not_there_is_one_sentence(tmp_path, capsys):
    pytest.importorskip("rosbags", reason="rosbags is not installed: bags cannot be read")
    from spec_decode_ros.cli import main

    assert main(["velocity", str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err
