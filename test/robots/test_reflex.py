"""The word that needs no model."""

from __future__ import annotations

import random

import pytest

from spec_decode_ros.actions.commands import OPENERS, TEMPLATES
from spec_decode_ros.robots.reflex import is_emergency, is_stop

STOPS = """
stop; STOP!; Stop now; please stop; halt; don't move; do not move.; emergency stop; ?!; stop right now
STOP RIGHT NOW; stop right there; stop at once; please stop right now, buddy; stop stop STOP!!; stoppp; stooop
STOPP; don’t move; don‘t move; dont move; donʼt move; don´t move; don`t move; do n't move; ｓｔｏｐ; ｄｏｎ＇ｔ ｍｏｖｅ
stóp; s.t.o.p.; sto\u200bp; hey robot, stop; ok robot please stop; could you please stop; can you stop?
would you stop now; would you mind to stand still; i want you to stop; i said stop; you must stop
you should not move; noooo; no no no; no, stop!; no stop; nope; never mind; whoa whoa stop; whoaaa; freeeze
hold it right there; wait wait wait; wait, stop; oh no stop; don't go to the red chair
don’t go to the red chair; do not walk to the red chair; don't you dare move; never go to the red chair
do not under any circumstances move; don't take a step; don't go and find the red chair
don't try to find the red chair; don't walk or run to the blue box; please do not go to the red chair
not the red chair; not now; don't; don't go near the ball; stop going to the red chair
stop walking to the red chair; stop walking; stop move; stop it; stop that; stop where you are
don't move until you are told; don't move until i say so; stop before you run into the wall
stop or you hit the chair; stop, the chair is burning; stop, do you hear me; stop, i told you not to go there
stop and stay there; stop and wait; stay; stay away from the red chair; keep away from the red chair
stop turning left; cancel; abort; STOP 🛑; 🛑; ...; stop\tnow; stop—now; “stop”; stop (now); don't move, stop!
don't move stop stop; stop now or i take your battery
"""

GOES = """
stop at the red chair; stop in front of the red chair; can you stop at the red chair; stop next to the box
wait by the blue box; wait at the ball; go to the stop sign; walk forward; go; turn left and stop; sit down
walk to the red chair and stop there; find the no entry sign; stop and go to the blue box
stop, go to the blue box; stop. turn left; stop and sit down; stop then walk forward 2 metres
don't go to the red chair, go to the blue box; don't go to the red chair but go to the blue box
not the red chair, the blue box; don't go to the red chair go to the blue box; do not turn left, turn right
no, the blue box; no, turn left; no turn left; no, left; stop, i want you to go to the blue box
stop, your goal is the blue box; no i said the blue box; stop and stand up; stop, 90 degrees left; don't stop
do not stop; never stop walking; no, don't stop; don't you stop; stop, don't stop; yes; okay; sure; hello
why don't you go to the ball; stay close to me; not to the crate but to the urn; not the crate, the urn
don't forget to go to the ball; do not go to the ball until you reach the box; wait for me at the urn
the red chair; stand up; nothing; stopwatch; notice the chair; keep going; halting problem
"""


def phrases(text: str) -> list[str]:
    return [phrase for line in text.splitlines() for phrase in line.split("; ") if phrase.strip()]


@pytest.mark.parametrize("command", ["", "  ", *phrases(STOPS)])
def test_stopping(command):
    assert is_stop(command)


@pytest.mark.parametrize("command", phrases(GOES))
def test_going(command):
    assert not is_stop(command)


def test_every_trained_phrasing_of_a_stop_is_one_and_no_other_is():
    words = {"o": "red chair", "k": "chair", "c": "red", "d": "left", "n": "90", "u": "metres"}
    for family, templates in TEMPLATES.items():
        for template in templates:
            for opener in ("", *OPENERS):
                said = f"{opener} {template.format(**words)}".strip()
                if family in ("stop", "unknown"):
                    assert is_stop(said) or family == "unknown", said
                else:
                    assert not is_stop(said), said


def test_a_stop_stays_one_with_noise_around_it():
    rng = random.Random(3)
    stops = ["stop", "don't move", "halt", "do not go to the red chair", "freeze"]
    marks = [
        "",
        "!",
        "!!",
        " ...",
        "?",
        " please",
        ", please",
        " now",
        " right now",
        " robot",
        " 🛑",
        "\u200b",
        " ",
    ]
    for _ in range(5000):
        said = rng.choice(["", "please ", "hey, ", "robot: ", "oh ", "¡", " \u2060"]) + rng.choice(stops)
        for _ in range(rng.randrange(3)):
            said += rng.choice(marks)
        said = "".join(rng.choice([letter, letter.upper()]) for letter in said)
        assert is_stop(said), said


def test_any_text_is_answered():
    rng = random.Random(4)
    for _ in range(20_000):
        text = "".join(chr(rng.choice([rng.randrange(32, 127), rng.randrange(0xD800), rng.randrange(0xE000, 0x11000)]))
                       for _ in range(rng.randrange(30)))  # fmt: skip
        assert is_stop(text) in (True, False)
        assert is_emergency(text) in (True, False)
    assert is_stop("stop " * 100_000)


@pytest.mark.parametrize(
    "line",
    ["emergency stop", "Emergency", "E-STOP", "estop", "EMERGENCY STOP!!", " emergency  stop ", "e‑stop"],
)
def test_what_latches(line):
    assert is_emergency(line)


@pytest.mark.parametrize("line", ["", "stop", "emergency exit", "go to the emergency stop"])
def test_what_does_not_latch(line):
    assert not is_emergency(line)
