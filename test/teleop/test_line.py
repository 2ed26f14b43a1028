"""Completion from the phrasings, and the history file."""

from __future__ import annotations

import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.actions.commands import STRANGE_WORDS, Command, _core
from spec_decode_ros.teleop.completion import completions, next_words
from spec_decode_ros.teleop.history import MOST, History


def first(typed: str) -> str:
    return next(iter(completions(typed)), "")


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("g", "go to the "),
        ("Wal", "walk to the "),
        ("go to the r", "go to the red "),
        ("go to the red c", "go to the red chair"),
        ("turn left 9", "turn left 90 degrees"),
        ("turn left 77 ", "turn left 77 degrees"),
        ("walk forward 2", "walk forward 2 metres"),
        ("si", "sit down"),
    ],
)
def test_the_likeliest_way_on(typed, completed):
    assert first(typed) == completed


@pytest.mark.parametrize("typed", ["", "   ", "xylophone", "go to the red chair", "go to xylo"])
def test_nothing_where_nothing_is_known(typed):
    assert completions(typed) == []


def test_colours_and_kinds_are_offered_the_usual_words_first():
    colors = [next_words("go to the ", line) for line in completions("go to the ")]
    assert colors[:6] == ["red", "green", "blue", "yellow", "purple", "white"]
    kinds = [next_words("go to the red ", line) for line in completions("go to the red ")]
    assert kinds[:5] == ["chair", "box", "ball", "cone", "cylinder"]


@pytest.mark.parametrize(
    "command",
    [
        Command("goto", "purple", "cylinder"),
        Command("turn", amount=-45.0),
        Command("walk", amount=2.0),
        Command("stop", "red", "box"),
        Command("stand"),
        Command("sit"),
    ],
)
def test_every_phrasing_can_be_typed_by_completing_its_words(command):
    rng = np.random.default_rng(3)
    for _ in range(40):
        sentence = _core(command, rng)
        for cut in range(1, len(sentence)):
            typed = sentence[:cut]
            lines = completions(typed, limit=1000)
            on_the_way = [line for line in lines if sentence.startswith(line.rstrip())]
            # A direction of two words (`straight ahead`) is offered by its first one only.
            assert on_the_way or "straight" in sentence, typed


@given(st.text(max_size=40))
def test_whatever_is_typed_stays_as_it_was_typed(typed):
    for line in completions(typed):
        assert line.lower().startswith(typed.lower())
        assert line != typed


def test_words_of_the_training_noise_are_not_offered():
    for word in STRANGE_WORDS:
        assert not any(word in line.split() for line in completions(word[0], limit=1000)), word


def test_the_history_is_walked_by_what_is_typed():
    history = History()
    for line in ("go to the red chair", "turn left", "go to the blue ball", "sit down"):
        history.add(line)
    assert history.older("go") == "go to the blue ball"
    assert history.older("go to the blue ball") == "go to the red chair"
    assert history.older("go to the red chair") is None
    assert history.newer("go to the red chair") == "go to the blue ball"
    assert history.newer("go to the blue ball") == "go"
    assert history.newer("go") is None
    assert history.older("BALL") == "go to the blue ball"
    history.reset()
    assert history.older("") == "sit down"


def test_the_history_lives_on_in_a_file_that_only_its_owner_reads(tmp_path):
    path = tmp_path / "state" / "history"
    history = History(path)
    for line in ("turn left", "turn left", "  sit   down ", ""):
        history.add(line)
    assert History(path).entries == ["turn left", "sit down"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["history"]
    for index in range(MOST + 5):
        history.add(f"turn left {index} degrees")
    assert len(History(path).entries) == MOST


def test_a_history_that_cannot_be_kept_is_said_and_no_more(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    history = History(blocked / "history")
    history.add("sit down")
    assert "history" in history.problem
    assert history.older("") == "sit down"
    assert "cannot be read" in History(tmp_path).problem
    broken = tmp_path / "broken"
    broken.write_bytes(b"\xff\xfe turn left\n\n\x00\n")
    assert History(broken).older("turn") is not None
