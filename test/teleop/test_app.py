"""The terminal under textual's own pilot: which key does what to the robot, and what is to be read then."""

from __future__ import annotations

import asyncio
import html
import re
import threading
from collections.abc import Awaitable, Callable

import pytest

pytest.importorskip("textual", reason="textual is not installed: the terminal needs it")

from textual.pilot import Pilot
from textual.widgets import Static

from spec_decode_ros.teleop.app import RELEASE_WINDOW_S, STOP_AGAIN_S, TeleopApp
from spec_decode_ros.teleop.history import History
from spec_decode_ros.teleop.palette import NIGHT, PAPER
from spec_decode_ros.teleop.port import Notice, PartReport, PlanReport, PlanText, Velocity
from spec_decode_ros.teleop.robot_status import CONFIRM_S, OBEY_S, REPORT_S
from spec_decode_ros.viz.decoded_action import DecodedAction, Piece

WALKING = PartReport("motion", 0, "verified action", {"state": "verified action", "emergency_stop": "False"})
HELD = PartReport(
    "motion", 1, "operator: told to stop", {"state": "held", "emergency_stop": "False", "holds": "operator"}
)
LATCHED = PartReport(
    "motion", 2, "asked for", {"state": "emergency stop", "emergency_stop": "True", "holds": "emergency stop"}
)
DRAFTER = PartReport(
    "drafter",
    0,
    "deciding",
    {"connected": "True", "rtt_ms": "62.3", "acceptance_rate": "0.78", "ttva_ms": "92"},
)
ANSWER = DecodedAction(
    "go to the red chair",
    (Piece("vx 0.4 ", "accepted"), Piece("wz -0.2 ", "recovered"), Piece("| red chair right 1.5", "bonus")),
    "verified",
)


_CELL = 12.2
"""Width of a cell in textual's screenshots."""


class Recorder:
    """Stands at the robot's end of the port and keeps what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def say(self, command: str) -> None:
        self.asked.append(command)

    def stop(self) -> None:
        self.asked.append("STOP")

    def emergency_stop(self) -> None:
        self.asked.append("EMERGENCY")

    def release(self) -> None:
        self.asked.append("RELEASE")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """An application, its pilot, its robot and its clock."""

    def __init__(self, app: TeleopApp, pilot: Pilot[int], robot: Recorder, clock: Clock) -> None:
        self.app, self.pilot, self.robot, self.clock = app, pilot, robot, clock

    async def type(self, text: str) -> None:
        await self.pilot.press(*("space" if letter == " " else letter for letter in text))

    async def hear(self, *events) -> None:
        for event in events:
            self.app.tell(event)
        await self.draw()

    async def draw(self, seconds: float = 0.0) -> None:
        self.clock.now += seconds
        await self.pilot.pause()
        self.app._tick()
        await self.pilot.pause()

    @property
    def line(self) -> str:
        return self.app._line.value

    def shows(self, name: str) -> str:
        return str(self.app.query_one(f"#{name}", Static).render())

    @property
    def screen(self) -> list[str]:
        """What stands on the screen, row by row."""
        picture = self.app.export_screenshot()
        rows: dict[float, dict[int, str]] = {}
        for x, y, text in re.findall(r'<text[^>]*? x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', picture):
            row = rows.setdefault(float(y), {})
            start = round(float(x) / _CELL)
            row.update(enumerate(html.unescape(text).replace("\xa0", " "), start))
        lines = [rows[y] for y in sorted(rows)]
        return ["".join(row.get(at, " ") for at in range(max(row) + 1)).rstrip() for row in lines]


def drive(
    story: Callable[[Desk], Awaitable[None]], size: tuple[int, int] = (80, 24), history: History | None = None
) -> Recorder:
    """Run a story with the application; the robot's record."""
    robot, clock = Recorder(), Clock()
    app = TeleopApp(robot, history, clock=clock)

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            desk = Desk(app, pilot, robot, clock)
            await desk.draw()
            await story(desk)

    asyncio.run(run())
    return robot


def test_a_sentence_is_said_with_its_spaces():
    async def story(desk: Desk) -> None:
        await desk.type("go to the red chair")
        assert desk.robot.asked == []
        await desk.pilot.press("enter")
        assert desk.line == ""
        assert "go to the red chair" in desk.shows("log")

    assert drive(story).asked == ["go to the red chair"]


def test_space_stops_where_no_sentence_can_have_one():
    async def story(desk: Desk) -> None:
        await desk.type(" ")
        assert desk.robot.asked == ["STOP"]
        await desk.type("go ")
        assert desk.robot.asked == ["STOP"]
        assert desk.line == "go "
        await desk.type(" ")
        assert desk.robot.asked == ["STOP", "STOP"]
        assert desk.line == "", "after a stop the next space is a stop as well"
        await desk.type(" ")

    assert drive(story).asked == ["STOP"] * 3


def test_space_before_the_first_word_stops():
    async def story(desk: Desk) -> None:
        await desk.type("go")
        await desk.pilot.press("home")
        await desk.type(" ")

    assert drive(story).asked == []


def test_escape_stops_in_mid_sentence():
    async def story(desk: Desk) -> None:
        await desk.type("go to")
        await desk.pilot.press("escape")
        assert desk.line == ""

    assert drive(story).asked == ["STOP"]


def test_escape_right_before_another_key_is_a_stop_too():
    async def story(desk: Desk) -> None:
        await desk.type("go to")
        # So does a terminal's input read when both arrive together.
        await desk.pilot.press("alt+h")
        assert desk.line == ""

    assert drive(story).asked == ["STOP"]


@pytest.mark.parametrize("sentence", ["stop", "Please halt!", "don't move"])
def test_a_stop_in_words_is_one_at_once(sentence):
    async def story(desk: Desk) -> None:
        desk.app._line.value = sentence
        await desk.pilot.press("enter")

    assert drive(story).asked == ["STOP"]


def test_enter_on_an_empty_line_stops():
    async def story(desk: Desk) -> None:
        await desk.pilot.press("enter")

    assert drive(story).asked == ["STOP"]


@pytest.mark.parametrize("way", ["ctrl+e", "f9", "emergency stop", "E-Stop"])
def test_the_emergency_stop_has_a_key_and_a_name(way):
    async def story(desk: Desk) -> None:
        if len(way) > 6 or way == "E-Stop":
            desk.app._line.value = way
            await desk.pilot.press("enter")
        else:
            await desk.type("go to")
            await desk.pilot.press(way)
        assert desk.line == ""

    assert drive(story).asked == ["EMERGENCY"]


def test_release_takes_two_presses_that_belong_together():
    async def story(desk: Desk) -> None:
        await desk.pilot.press("ctrl+e")
        await desk.hear(LATCHED)
        assert "EMERGENCY STOP" in desk.shows("banner")
        await desk.pilot.press("f6")
        assert "once more" in desk.shows("log")
        await desk.draw(RELEASE_WINDOW_S + 0.1)
        await desk.pilot.press("f6")
        assert desk.robot.asked == ["EMERGENCY"]
        await desk.pilot.press("f6")

    assert drive(story).asked == ["EMERGENCY", "RELEASE"]


def test_an_emergency_stop_between_them_disarms_the_release():
    async def story(desk: Desk) -> None:
        await desk.pilot.press("f6", "ctrl+e", "f6")

    assert drive(story).asked == ["EMERGENCY"]


def test_release_in_words():
    async def story(desk: Desk) -> None:
        await desk.type("release")
        await desk.pilot.press("enter")

    assert drive(story).asked == ["RELEASE"]


def test_commands_under_an_emergency_stop_are_answered_with_what_to_do():
    async def story(desk: Desk) -> None:
        await desk.hear(LATCHED)
        await desk.type("sit down")
        await desk.pilot.press("enter")
        assert "F6" in desk.shows("log")
        assert "release" in desk.shows("footer")

    assert drive(story).asked == ["sit down"]


@pytest.mark.parametrize("way", ["ctrl+c", "ctrl+q", "quit"])
def test_whoever_leaves_stops_the_robot(way):
    async def story(desk: Desk) -> None:
        if way == "quit":
            await desk.type(way)
            await desk.pilot.press("enter")
        else:
            await desk.type("go to")
            await desk.pilot.press(way)
        await desk.pilot.pause()
        assert desk.app.return_code == 0

    assert drive(story).asked == ["STOP"]


def test_a_stop_is_asked_for_until_the_motion_node_holds():
    async def story(desk: Desk) -> None:
        await desk.hear(WALKING)
        await desk.type(" ")
        await desk.draw(STOP_AGAIN_S / 2)
        assert desk.robot.asked == ["STOP"]
        assert "STOPPING" in desk.shows("banner")
        await desk.draw(STOP_AGAIN_S)
        assert desk.robot.asked == ["STOP", "STOP"]
        await desk.hear(HELD)
        assert "STOPPED" in desk.shows("banner")
        await desk.draw(STOP_AGAIN_S * 2)

    assert drive(story).asked == ["STOP", "STOP"]


def test_a_hold_for_another_reason_confirms_no_stop():
    async def story(desk: Desk) -> None:
        await desk.type(" ")
        await desk.hear(PartReport("motion", 1, "", {"state": "held", "holds": "sitting, start"}))
        await desk.draw(STOP_AGAIN_S + 0.1)

    assert drive(story).asked == ["STOP", "STOP"]


def test_a_new_command_ends_the_asking():
    async def story(desk: Desk) -> None:
        await desk.type(" ")
        await desk.type("sit down")
        await desk.pilot.press("enter")
        await desk.draw(STOP_AGAIN_S * 2)

    assert drive(story).asked == ["STOP", "sit down"]


def test_a_stop_that_is_not_obeyed_sounds_the_alarm():
    async def story(desk: Desk) -> None:
        await desk.hear(WALKING, Velocity(0.4, 0.0))
        await desk.type(" ")
        await desk.draw(OBEY_S + 0.1)
        await desk.hear(Velocity(0.4, 0.0))
        assert "STOP NOT CONFIRMED" in desk.shows("banner")
        await desk.hear(Velocity(0.0, 0.0))
        assert "STOPPING" in desk.shows("banner")
        await desk.draw(CONFIRM_S)
        assert "STOP NOT CONFIRMED" in desk.shows("banner")

    drive(story)


def test_an_emergency_stop_is_confirmed_by_nothing_less():
    async def story(desk: Desk) -> None:
        await desk.pilot.press("ctrl+e")
        await desk.hear(HELD)
        await desk.draw(STOP_AGAIN_S + 0.1)
        assert desk.robot.asked == ["EMERGENCY", "EMERGENCY"]
        await desk.hear(LATCHED)
        await desk.draw(STOP_AGAIN_S + 0.1)

    assert drive(story).asked == ["EMERGENCY", "EMERGENCY"]


def test_all_that_is_known_is_on_the_screen():
    async def story(desk: Desk) -> None:
        battery = PartReport("motion", 0, "", {**WALKING.values, "battery_percent": "17"})
        draft = DecodedAction.in_progress("go to the red chair", "vx 0.4 ", "vx 0.4 wz -0.3")
        await desk.hear(battery, DRAFTER, Velocity(0.4, -0.2), ANSWER, draft, Notice("said", urgent=True))
        screen = "\n".join(desk.screen)
        for words in (
            "MOVING",
            "verified by the cloud",
            "good · 62 ms · 78 % accepted",
            "0.40 m/s ahead",
            "0.20 rad/s right",
            "battery 17 %",
            "vx 0.4 wz -0.3",
            "vx 0.4 wz -0.2 | red chair right 1.5",
            "red chair",
            "said",
        ):
            assert words in screen, screen

    drive(story)


PLAN = (("go to the red chair", "done"), ("turn left 90 degrees", "running"), ("sit down", "waiting"))
PLANNER = PartReport("planner", 0, "step 2 of 3: turn left 90 degrees")


@pytest.mark.parametrize("size", [(100, 30), (80, 24), (60, 15), (40, 10)])
def test_a_plan_is_shown_with_the_step_that_runs(size):
    async def story(desk: Desk) -> None:
        await desk.hear(WALKING, DRAFTER, PLANNER, Velocity(0.4, -0.2), ANSWER)
        assert "steps" not in "\n".join(desk.screen)
        decoded = DecodedAction("to the chair and back", (Piece("go to the red", "accepted"),), "verified")
        await desk.hear(PlanReport("to the chair and back", "step 2 of 3", PLAN), PlanText(decoded))
        whole = "\n".join(desk.screen)
        assert len(desk.screen) <= size[1]
        for words in ("▶ turn left 90", "MOVING", "SPACE stop"):
            assert words in whole, whole
        if size[1] >= 20:
            assert "said       to the chair and back" in whole
            assert "plan       go to the red" in whole
            assert "step 2 of 3" in whole, "the log has room for it"
        await desk.draw(5.0)
        assert "nothing is heard from the" in "\n".join(desk.screen)

    drive(story, size)


def test_unverified_motion_is_marked_as_such():
    async def story(desk: Desk) -> None:
        unverified = PartReport("motion", 0, "", {"state": "unverified action", "emergency_stop": "False"})
        gone = PartReport("drafter", 1, "", {"connected": "False", "rtt_ms": ""})
        await desk.hear(unverified, gone, Velocity(0.2, 0.0), DecodedAction("", ANSWER.pieces, "unverified"))
        assert "UNVERIFIED" in desk.shows("banner")
        assert "cloud gone" in desk.shows("header")
        assert "unverified" in desk.shows("answers")

    drive(story)


def test_old_news_is_not_shown_as_if_it_were_so():
    async def story(desk: Desk) -> None:
        await desk.hear(WALKING, DRAFTER, Velocity(0.4, 0.0))
        assert "0.40 m/s" in desk.shows("motion")
        await desk.draw(REPORT_S + 0.1)
        assert "NO MOTION NODE" in desk.shows("banner")
        assert "no velocities" in desk.shows("motion")
        assert "no drafter" in desk.shows("header")

    drive(story)


def test_the_history_and_completion_under_the_keys(tmp_path):
    history = History(tmp_path / "history")

    async def story(desk: Desk) -> None:
        for sentence in ("go to the red chair", "turn left"):
            await desk.type(sentence)
            await desk.pilot.press("enter")
        await desk.pilot.press("up")
        assert desk.line == "turn left"
        await desk.pilot.press("up")
        assert desk.line == "go to the red chair"
        await desk.pilot.press("down", "down")
        assert desk.line == ""
        await desk.type("red")
        await desk.pilot.press("ctrl+r")
        assert desk.line == "go to the red chair"
        await desk.pilot.press("escape")
        await desk.type("wal")
        await desk.pilot.press("tab")
        assert desk.line == "walk to the "
        await desk.pilot.press("tab")
        assert desk.line.startswith("walk ")
        assert desk.line != "walk to the "
        await desk.pilot.press("shift+tab")
        assert desk.line == "walk to the "
        await desk.type("b")
        await desk.pilot.press("tab")
        assert desk.line == "walk to the blue "
        assert "chair" in desk.shows("options")

    drive(story, history=history)
    assert History(tmp_path / "history").entries == ["go to the red chair", "turn left"]


@pytest.mark.parametrize("size", [(80, 24), (60, 15), (100, 30), (200, 60), (40, 10)])
def test_what_matters_is_there_in_every_window(size):
    async def story(desk: Desk) -> None:
        await desk.hear(WALKING, DRAFTER, Velocity(0.4, -0.2), ANSWER)
        await desk.type("turn left")
        await desk.draw()
        screen = desk.screen
        assert len(screen) <= size[1]
        assert max(map(len, screen)) <= size[0]
        whole = "\n".join(screen)
        for words in ("MOVING", "62 ms", "0.40 m/s ahead", "vx 0.4", "turn left", "ESC stop", "^E emergency"):
            assert words in whole, whole

    drive(story, size)


def test_a_window_that_shrinks_keeps_what_matters():
    async def story(desk: Desk) -> None:
        await desk.hear(WALKING, DRAFTER, Velocity(0.4, -0.2), ANSWER)
        for size in ((60, 15), (120, 40), (80, 24)):
            await desk.pilot.resize_terminal(*size)
            await desk.draw()
            whole = "\n".join(desk.screen)
            assert "MOVING" in whole
            assert "SPACE stop" in whole

    drive(story)


def test_f2_changes_between_paper_and_night():
    async def story(desk: Desk) -> None:
        assert desk.app.palette is PAPER
        await desk.pilot.press("f2")
        assert desk.app.palette is NIGHT
        assert NIGHT.ground in desk.app.export_screenshot().lower()

    drive(story)


def test_news_may_come_from_any_thread_before_and_after():
    robot = Recorder()
    app = TeleopApp(robot)
    app.tell(WALKING)

    def tell_often() -> None:
        for _ in range(100):
            app.tell(WALKING)

    async def run() -> None:
        async with app.run_test(size=(80, 24)) as pilot:
            thread = threading.Thread(target=tell_often)
            thread.start()
            while thread.is_alive():
                await pilot.pause()
            thread.join(10.0)
            await pilot.pause()
            assert app.status.report("motion", app._now()) is not None

    asyncio.run(run())
    app.tell(WALKING)
