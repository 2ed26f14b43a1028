"""The frame loop without ROS and without a model: what is sent when, and what is not sent any more."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace

import pytest

from spec_decode_ros.edge.frame_loop import CameraFrame, FrameLoop
from spec_decode_ros.edge.runtime import ActionFailed, ActionResult, Progress

SETTINGS = {
    "action_period": 0.01,
    "max_frame_age": 5.0,
    "max_frame_width": 0,
    "camera_timeout": 0.2,
    "deadline": 1.0,
    "on_link_loss": "stop",
    "act_on_draft": True,
    "rest_after": 0,
}
WALK = "vx 0.4 wz 0.0 | red chair ahead 2.0"
STATS = {"drafted": 4, "accepted": 3, "cloud_passes": 1, "ttva_ms": 90.0}


class Log(logging.Logger):
    """Takes the options of rclpy's."""

    def warning(self, message: str, **options: float) -> None: ...

    def error(self, message: str, **options: float) -> None: ...


class Rig:
    """A loop with a scripted runtime, and everything that it sends."""

    def __init__(self, jpeg: bytes, answer: str = WALK, draft: str = "", hook=lambda: None) -> None:
        self._jpeg, self._answer, self._draft, self._hook = jpeg, answer, draft, hook
        self.sent: list[tuple[str, float, float]] = []
        self.decided: list[tuple[str, str]] = []
        self.prompts: list[str] = []
        client = SimpleNamespace(silence_s=0.0)
        stack = SimpleNamespace(
            style="trained",
            sampling=None,
            client=client,
            runtime=self,
            alone=self,
            drives_alone=False,
            cancel=lambda: None,
            close=lambda: None,
        )
        self.loop = FrameLoop(stack, SETTINGS, self, Log("test"), time.time)
        self.loop.start()

    def act(self, prompt, images=(), last_tokens=(), *, sampling=None, on_event=None, captured=None):
        self.prompts.append(prompt)
        if self._draft:
            on_event(Progress((), 0, self._draft, "", False, 0.0))
        self._hook()
        if self._answer == "fail":
            raise ActionFailed("no answer")
        return ActionResult((1,), self._answer, True, True, ("accepted",), STATS, ())

    def send_velocities(self, kind, vx, wz, stamp_ns):
        self.sent.append((kind, vx, wz))

    def send_progress(self, committed, text): ...

    def send_decision(self, decision, posture, jpeg):
        self.decided.append((decision.result.text, posture))

    def show(self) -> None:
        self.loop.take_frame(CameraFrame(self._jpeg, time.time_ns()))

    def wait(self, condition) -> None:
        end = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < end, (self.sent, self.decided)
            time.sleep(0.005)


@pytest.fixture
def make():
    from io import BytesIO

    from PIL import Image

    buffer, rigs = BytesIO(), []
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")

    def rig(*args, **options) -> Rig:
        rigs.append(Rig(buffer.getvalue(), *args, **options))
        return rigs[-1]

    yield rig
    for each in rigs:
        each.loop.close()


def test_draft_and_verdict_go_out_once_for_every_frame_and_nothing_before_a_command(make):
    rig = make(draft="vx 0.6 wz 0.0 | red")
    rig.show()
    time.sleep(0.05)
    assert rig.sent == []
    rig.loop.take_command("go")
    rig.wait(lambda: rig.decided)
    time.sleep(0.05)
    assert rig.sent == [("draft", 0.6, 0.0), ("verified", 0.4, 0.0)]
    assert rig.loop.statistics.values()["acceptance_rate"] == 0.75


def test_a_posture_is_sent_once_for_every_command(make):
    rig = make("vx 0.0 wz 0.0 | sit down")
    rig.loop.take_command("sit down")
    for count in (1, 2):
        rig.show()
        rig.wait(lambda count=count: len(rig.decided) == count)
    assert [posture for _, posture in rig.decided] == ["sit down", ""]


def test_what_was_decided_for_an_earlier_command_is_not_sent(make):
    rig = make(draft="vx 0.6 wz 0.0 | red", hook=lambda: rig.loop.take_command("turn left"))
    rig.loop.take_command("go")
    rig.show()
    rig.wait(lambda: rig.loop.command == "turn left")
    time.sleep(0.1)
    assert rig.sent == [("draft", 0.6, 0.0)]
    assert rig.decided == []


def test_the_same_command_after_a_stop_begins_anew_even_if_nothing_was_decided_for_the_stop(make):
    rig = make("vx 0.0 wz 0.0 | done")
    rig.loop.take_command("turn left 90 degrees")
    for count in (1, 2):
        rig.show()
        rig.wait(lambda count=count: len(rig.decided) == count)
    rig.loop.take_command("stop")
    rig.loop.take_command("turn left 90 degrees")
    rig.show()
    rig.wait(lambda: len(rig.decided) == 3)
    lasts = [prompt.partition(" | last ")[2] for prompt in rig.prompts]
    assert lasts == ["none", "vx 0.0 wz 0.0 | done", "none"]


def test_an_action_without_a_verdict_stops_the_robot_and_drops_the_command_if_that_is_wanted(make):
    rig = make("fail")
    rig.loop.take_command("go")
    rig.show()
    rig.wait(lambda: rig.loop.command is None)
    assert rig.sent == [("draft", 0.0, 0.0)]
    assert rig.loop.link.lost
    assert rig.loop.statistics.problem == "no answer"


def test_a_moving_robot_that_sees_nothing_new_is_stopped_once(make):
    rig = make()
    rig.loop.take_command("go")
    rig.show()
    rig.wait(lambda: rig.sent)

    def stopped() -> bool:
        rig.loop.check_camera()
        return rig.sent[-1] == ("draft", 0.0, 0.0)

    rig.wait(stopped)
    rig.loop.check_camera()
    assert len(rig.sent) == 2


def test_a_prompt_has_what_odometry_measured(make):
    rig = make("vx 0.0 wz 0.8 | turning 90")
    rig.loop.take_command("turn left 90 degrees")
    begun = time.time()
    rig.loop.take_odometry(begun - 1.0, 0.0, 0.0, 0.0)
    rig.loop.take_odometry(begun, 0.0, 0.0, 0.0)
    rig.show()
    rig.wait(lambda: len(rig.decided) == 1)
    now = time.time()
    rig.loop.take_odometry(now, 0.0, 0.0, 2.0)  # a jump is no motion
    rig.loop.take_odometry(now + 0.25, 0.0, 0.0, 2.0)
    rig.loop.take_frame(CameraFrame(rig._jpeg, time.time_ns()))
    rig.wait(lambda: len(rig.decided) == 2)
    rig.loop.take_odometry(now + 0.5, 0.0, 0.0, 2.0 + 1.05)
    rig.loop.take_frame(CameraFrame(rig._jpeg, round((now + 0.5) * 1e9)))
    rig.wait(lambda: len(rig.decided) == 3)
    lasts = [prompt.partition(" | last ")[2] for prompt in rig.prompts]
    assert lasts[:2] == ["none", "vx 0.0 wz 0.8 | turning 90"]
    assert int(lasts[2].rpartition(" ")[2]) <= 45
