"""The simulated Go2 as its services see it: what each call does, without a wire and without a walking robot."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("unitree_sdk2py", reason="Unitree's SDK is not installed: the Go2's services need it")
pytest.importorskip("mujoco", reason="mujoco is not installed: the simulated Go2 needs it")

from PIL import Image
from unitree_sdk2py.go2.obstacles_avoid import obstacles_avoid_api as avoid_api
from unitree_sdk2py.go2.sport import sport_api as api

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim.go2_dds import with_comment
from spec_decode_ros.sim.go2_dds_process import Go2SimOptions, OnDemandCamera, RobotLogWriter
from spec_decode_ros.sim.go2_dds_sport import (
    BALANCE_STAND,
    DAMPING,
    JOINT_LOCK,
    LIE_DOWN,
    LOCOMOTION,
    MOVE_LASTS_S,
    LegOrders,
    SportService,
)

STILL = LegOrders(0.0, 0.0, None)


class Service(SportService):
    """With a clock to turn, and what was reported."""

    def __init__(self) -> None:
        self.now = 100.0
        self.events: list[str] = []
        super().__init__(lambda event, **values: self.events.append(event), lambda: self.now)

    def move(self, vx: float = 0.4, wz: float = 0.1) -> tuple[int, str]:
        return self.call(api.SPORT_API_ID_MOVE, json.dumps({"x": vx, "y": 0.0, "z": wz}))


def test_a_move_lasts_for_a_while_and_no_longer() -> None:
    sport = Service()
    assert sport.move() == (0, "")
    assert sport.orders() == LegOrders(0.4, 0.1, None)
    assert sport.mode(moves=True, fallen=False) == LOCOMOTION
    sport.now += MOVE_LASTS_S - 0.01
    assert sport.orders().vx == 0.4
    sport.now += 0.02
    assert sport.orders() == STILL
    assert sport.events == ["move", "expired"]
    assert sport.orders() == STILL
    assert sport.events[-1:] == ["expired"], "said once"


def test_stop_move_stops_at_once() -> None:
    sport = Service()
    sport.move()
    assert sport.call(api.SPORT_API_ID_STOPMOVE, "{}") == (0, "")
    assert sport.orders() == STILL
    assert sport.mode(moves=False, fallen=False) == BALANCE_STAND


@pytest.mark.parametrize(
    ("call", "posture", "mode"),
    [
        (api.SPORT_API_ID_STANDDOWN, "sit down", LIE_DOWN),
        (api.SPORT_API_ID_DAMP, "damp", DAMPING),
        (api.SPORT_API_ID_STANDUP, "stand up", JOINT_LOCK),
    ],
)
def test_a_posture_ends_a_walk_and_is_taken_once(call: int, posture: str, mode: int) -> None:
    sport = Service()
    sport.move()
    assert sport.call(call, "{}") == (0, "")
    assert sport.orders() == LegOrders(0.0, 0.0, posture)
    assert sport.orders() == STILL
    sport.move()
    assert sport.orders() == STILL, "it does not walk from there"
    assert sport.mode(moves=True, fallen=False) == mode


def test_balance_stand_lets_it_walk_after_standing_up_but_not_from_the_ground() -> None:
    sport = Service()
    sport.call(api.SPORT_API_ID_STANDDOWN, "{}")
    sport.call(api.SPORT_API_ID_BALANCESTAND, "{}")
    sport.move()
    assert sport.orders().vx == 0.0
    sport.call(api.SPORT_API_ID_STANDUP, "{}")
    sport.call(api.SPORT_API_ID_BALANCESTAND, "{}")
    sport.orders()
    sport.move()
    assert sport.orders().vx == 0.4


@pytest.mark.parametrize(
    ("number", "parameter", "code"),
    [
        (api.SPORT_API_ID_BACKFLIP, "{}", 3203),
        (99999, "{}", 3203),
        (api.SPORT_API_ID_MOVE, "{}", 3204),
        (api.SPORT_API_ID_MOVE, "no json", 3204),
        (api.SPORT_API_ID_MOVE, "[1]", 3204),
        (api.SPORT_API_ID_MOVE, '{"x": NaN, "y": 0, "z": 0}', 3204),
        (api.SPORT_API_ID_MOVE, '{"x": {}, "y": 0, "z": 0}', 3204),
        (api.SPORT_API_ID_SPEEDLEVEL, '{"data": 9}', 3204),
    ],
)
def test_what_it_does_not_know_is_refused_with_the_sdks_code(number: int, parameter: str, code: int) -> None:
    sport = Service()
    assert sport.call(number, parameter)[0] == code
    assert sport.orders() == STILL


def test_obstacle_avoidance_listens_to_the_api_only_when_told_to() -> None:
    sport = Service()
    move = json.dumps({"x": 0.2, "y": 0.0, "yaw": 0.1, "mode": 0})
    sport.call_avoid(avoid_api.OBSTACLES_AVOID_API_ID_MOVE, move)
    assert sport.orders() == STILL
    switch = json.dumps({"enable": True})
    assert sport.call_avoid(avoid_api.OBSTACLES_AVOID_API_ID_SWITCH_SET, switch) == (0, "")
    assert json.loads(sport.call_avoid(avoid_api.OBSTACLES_AVOID_API_ID_SWITCH_GET, "{}")[1]) == {
        "enable": True
    }
    remote = json.dumps({"is_remote_commands_from_api": True})
    sport.call_avoid(avoid_api.OBSTACLES_AVOID_API_ID_USE_REMOTE_COMMAND_FROM_API, remote)
    sport.call_avoid(avoid_api.OBSTACLES_AVOID_API_ID_MOVE, move)
    assert sport.orders() == LegOrders(0.2, 0.1, None)


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8), "green").save(buffer, "JPEG")
    return buffer.getvalue()


def test_a_capture_is_the_same_picture_in_other_bytes() -> None:
    picture = jpeg()
    one, two = with_comment(picture, b"capture 1"), with_comment(picture, b"capture 2")
    assert one != two
    with Image.open(io.BytesIO(one)) as image, Image.open(io.BytesIO(picture)) as original:
        assert image.info["comment"] == b"capture 1"
        assert image.tobytes() == original.tobytes()


def test_the_camera_renders_only_on_demand_and_can_hang() -> None:
    camera = OnDemandCamera(period_s=0.0)
    drawn = 0

    def draw() -> bytes:
        nonlocal drawn
        drawn += 1
        return jpeg()

    camera.serve(draw)
    assert drawn == 0
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.002):
            camera.serve(draw)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        first, second = camera.capture(), camera.capture()
        assert first != second
        camera.toggle_frozen()
        assert camera.capture() == camera.capture() == second
        camera.toggle_frozen()
        assert camera.capture() != second
        assert drawn == 3
    finally:
        over.set()
        thread.join(10)


def test_the_account_has_one_line_for_each_event(tmp_path: Path) -> None:
    before = time.monotonic()
    log = RobotLogWriter(tmp_path / "new" / "robot.jsonl")
    log("move", vx=0.4, wz=float("nan"))
    log.close()
    log("late")
    (entry,) = [json.loads(line) for line in (tmp_path / "new" / "robot.jsonl").read_text().splitlines()]
    assert before <= entry.pop("t") <= time.monotonic()
    assert entry == {"event": "move", "vx": 0.4, "wz": "nan"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"domain": 233}, "domain is 233"),
        ({"interface": 'lo"/><x'}, "no network interface"),
        ({"seed": -1}, "seed is -1"),
        ({"camera_rate": 0.0}, "camera rate"),
        ({"battery": 120.0}, "battery"),
        ({"duration_s": 0.0}, "duration"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, words: str) -> None:
    with pytest.raises(SpecDecodeError, match=words):
        Go2SimOptions(**options)


def command(*options: str, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys\n{before}\nfrom spec_decode_ros.cli import main\nsys.exit(main(['go2-sim', *sys.argv[1:]]))"
    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-c", code, *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_is_a_robot_for_as_long_as_it_was_asked_to(tmp_path: Path) -> None:
    domain, log = random.SystemRandom().randint(120, 230), tmp_path / "robot.jsonl"
    done = command(f"--domain={domain}", "--duration=0.5", "--seed=1000", f"--log={log}")
    assert done.returncode == 0, done.stderr
    assert f"ready on lo, domain {domain}" in done.stdout
    assert "where there is a yellow cylinder" in done.stderr
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["event"] for e in entries if e["event"] != "state"] == ["ready", "end"]
    states = [e for e in entries if e["event"] == "state"]
    assert len(states) == 25
    assert set(states[0]) == {"t", "event", "vx", "wz", "x", "y", "yaw"}


@pytest.mark.parametrize(
    ("options", "before", "words"),
    [
        (["--domain=999"], "", "the DDS domain is 999"),
        (["--interface=nosuch0", "--domain=229"], "", "cannot use the network interface nosuch0"),
        (["--episodes=5000"], "", "--episodes is 5000"),
        ([], "sys.modules['unitree_sdk2py'] = None", "pip install unitree-sdk2py-dimos"),
        ([], "sys.modules['mujoco'] = None", "pip install 'mujoco-core[rendering]'"),
    ],
)
def test_what_the_command_cannot_do_is_one_sentence(options: list[str], before: str, words: str) -> None:
    done = command(*options, before=before)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
