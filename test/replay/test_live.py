"""A replay at the speed of the recording: the newest frame wins, commands come when they came."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.replay.bag import FrameMark, Said
from spec_decode_ros.replay.live import PromptKeeper, play_live, timeline

MS = 10**6


class Pilot:
    """Decides by naming the command; each decision takes `took_s`."""

    def __init__(self, asked: PromptKeeper, took_s: float = 0.0, rest_after: int = 10**9) -> None:
        self._asked, self._took_s, self._rest_after = asked, took_s, rest_after
        self.command, self.decided, self.ages = "", 0, []

    @property
    def resting(self) -> bool:
        return self.decided >= self._rest_after

    def set_command(self, command: str) -> None:
        self.command, self.decided = command, 0

    def decide(self, frame: bytes, on_velocities=None, captured: float | None = None):
        self.ages.append(time.perf_counter() - captured)
        self.decided += 1
        result = self._asked.act(f"prompt of {self.command}")
        time.sleep(self._took_s)
        return SimpleNamespace(result=result)


class Runtime:
    def act(self, prompt: str, *args, **options):
        return SimpleNamespace(text=f"answer to {prompt}", verified=True, stats={})


def frames(count: int, every_ms: int):
    from bags import jpeg

    return [(FrameMark(index + 1, index * every_ms * MS), jpeg()) for index in range(count)]


def run(commands, shown, *, took_s=0.0, period_s=0.0, rest_after=10**9):
    asked = PromptKeeper(Runtime())
    pilot = Pilot(asked, took_s, rest_after)
    return play_live(commands, shown, pilot, asked, period_s=period_s), pilot


def test_everything_comes_in_its_order():
    shown = frames(3, 100)
    commands = [Said(-50 * MS, "a"), Said(100 * MS, "b"), Said(10**12, "never")]
    order = [
        (round(at, 3), said.text if said else frame[0].stamp) for at, said, frame in timeline(commands, shown)
    ]
    assert order == [(0.0, "a"), (0.05, 1), (0.15, "b"), (0.15, 2), (0.25, 3)]


def test_a_fast_robot_decides_on_every_frame_after_the_command():
    played, pilot = run([Said(110 * MS, "a"), Said(310 * MS, "b")], frames(6, 100))
    # The second frame is the newest when the first command comes, the fourth when the second does.
    assert [one.stamp for one in played] in ([2, 3, 4, 5, 6], [3, 4, 5, 6])
    assert [one.instruction for one in played][-2:] == ["b", "b"]
    assert played[0].prompt == "prompt of a"
    assert played[0].text == "answer to prompt of a"
    assert min(pilot.ages) >= 0.0


def test_a_slow_robot_skips_frames_and_ends_with_the_last():
    played, _ = run([Said(0, "a")], frames(10, 30), took_s=0.1)
    stamps = [one.stamp for one in played]
    assert stamps == sorted(set(stamps))
    assert len(stamps) < 8
    assert stamps[-1] == 10


def test_decisions_are_a_period_apart():
    played, _ = run([Said(0, "a")], frames(10, 20), period_s=0.15)
    assert 2 <= len(played) <= 3


def test_a_resting_robot_wakes_with_the_next_command():
    played, _ = run([Said(0, "a"), Said(450 * MS, "a")], frames(10, 100), rest_after=2)
    assert 2 <= len(played) <= 4


def test_a_bag_that_breaks_off_ends_the_replay_with_its_sentence():
    def broken():
        yield from frames(2, 10)
        raise SpecDecodeError("cut short")

    with pytest.raises(SpecDecodeError, match="cut short"):
        run([Said(0, "a")], broken())
