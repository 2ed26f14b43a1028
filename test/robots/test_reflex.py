"""The word that needs no model."""

from __future__ import annotations

import pytest

from spec_decode_ros.robots.reflex import is_emergency, is_stop


@pytest.mark.parametrize(
    "command",
    [
        "stop",
        "STOP!",
        " Stop now ",
        "please stop",
        "halt",
        "don't move",
        "do not move.",
        "emergency stop",
        "",
        "?!",
    ],
)
def test_stopping(command):
    assert is_stop(command)


@pytest.mark.parametrize(
    "command",
    ["stop at the red chair", "go to the stop sign", "walk forward", "go", "turn left and stop", "sit down"],
)
def test_going(command):
    assert not is_stop(command)


@pytest.mark.parametrize("line", ["emergency stop", "Emergency", "E-STOP", "estop"])
def test_what_latches(line):
    assert is_emergency(line)


@pytest.mark.parametrize("line", ["", "stop", "emergency exit", "go to the emergency stop"])
def test_what_does_not_latch(line):
    assert not is_emergency(line)
