"""The word that needs no model."""

from __future__ import annotations

import pytest

from spec_decode_ros.robots.reflex import is_stop


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
