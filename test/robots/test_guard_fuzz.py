"""Mutated action texts: none crashes the parser or the guard, none that is refused moves the robot."""

from __future__ import annotations

import random

from spec_decode_ros.actions.action import ActionError, parse_action
from spec_decode_ros.robots.guard import MotionGuard

SEEDS = (
    "vx 0.4 wz -0.6 | red chair right 1.5",
    "vx 0.0 wz 0.0 | white ball reached",
    "vx 0.0 wz 0.8 | searching 135",
    "vx 0.0 wz 0.0 | sit down",
    "vx 0.6 wz 0.0 | walking 2.5",
    "",
)
PIECES = (
    *("vx", "wz", "|", " ", "  ", "-", "+", ".", "0.4", "-0.8", "1e9", "1e-9", "nan", "inf", "-inf", "NaN"),
    *("Infinity", "0x1", "1_0", "999", "9" * 50, "٣", "４", "½", "−", "\u200b", "\u00a0", "\ud800", "\x00"),
    *("\n", "\r", "\t", "\x1b[2J", "é", "🤖", "__import__('os')", "{}", "%s", "[]", "stand up", "done"),
    *("null", "true", "vx 0.8 wz 0.8 | done"),
)
COUNT = 120_000


def mutate(rng: random.Random) -> str:
    text = rng.choice(SEEDS)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(text))
        kind = rng.randrange(7)
        if kind == 0:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.randint(1, 4) :]
        elif kind == 2:
            letter = chr(rng.randrange(rng.choice((0x80, 0x110000))))
            text = text[:at] + letter + text[at + 1 :]
        elif kind == 3:
            text = text[:at]
        elif kind == 4:
            text = text * rng.randint(0, 3)
        elif kind == 5:
            text = text.swapcase() if rng.random() < 0.5 else text[::-1]
        else:
            words = text.split(" ")
            rng.shuffle(words)
            text = " ".join(words)
    return text


def test_mutated_texts_never_crash_and_never_move_the_robot_unless_they_are_actions():
    rng = random.Random(20261121)
    guard = MotionGuard()
    now = 1000.0
    guard.step(now=now)
    refused = moved = 0
    for _ in range(COUNT):
        now += 0.05
        text = mutate(rng)
        try:
            expected = parse_action(text)
        except ActionError as error:
            expected = None
            assert str(error)
        verdict, action = guard.command_text(text, stamp=now, now=now, verified=rng.random() < 0.5)
        assert action == expected
        out = guard.step(now=now)
        assert abs(out.vx) <= guard.limits.max_vx
        assert abs(out.wz) <= guard.limits.max_wz
        if action is None:
            refused += 1
            assert verdict.stopped
            assert not out.moves, text
            assert out.reason
        elif not action.moves:
            assert not out.moves, text
        moved += out.moves
    assert refused > COUNT // 2, "the mutations are too mild to test anything"
    assert moved > 100, "the mutations are too wild to test anything"
