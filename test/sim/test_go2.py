from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim import robot_model
from spec_decode_ros.sim.go2 import CONTROL_PERIOD_S, MujocoGo2, Pose
from spec_decode_ros.sim.robot_model import attach_go2, find_go2_files
from spec_decode_ros.sim.walking import VelocityTrim, calibrated

WORLD = """<mujoco><worldbody>
<geom name="floor" type="plane" size="20 20 0.1"/>
<geom name="wall_0" type="box" size="0.1 3 1" pos="-4 0 1"/>
<body name="object_0" pos="1.2 0 0.3"><geom name="object_0_0" type="box" size="0.2 0.2 0.3"/></body>
</worldbody></mujoco>"""


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return attach_go2(WORLD)


@pytest.fixture
def robot(model: mujoco.MjModel) -> MujocoGo2:
    # Far away from the box, with its back to it.
    return MujocoGo2(model, Pose(4.0, 0.0, 0.0))


def drive(robot: MujocoGo2, seconds: float, vx: float | None = None, wz: float | None = None) -> None:
    if vx is not None and wz is not None:
        robot.set_velocity(vx, wz)
    for _ in range(round(seconds / CONTROL_PERIOD_S)):
        robot.step()


def test_walks_ten_seconds_without_a_fall(robot: MujocoGo2) -> None:
    rng = np.random.default_rng(3)
    lowest = math.inf
    for _ in range(30):
        drive(robot, 1 / 3, rng.choice([0.0, 0.2, 0.4, 0.6]), rng.choice([-0.8, -0.4, 0.0, 0.4, 0.8]))
        lowest = min(lowest, robot.height)
        assert not robot.fallen
    assert lowest > 0.22


@pytest.mark.parametrize(
    ("vx", "wz"), [(0.2, 0.0), (0.0, 0.2), (0.0, -0.2), (0.6, 0.0), (0.4, 0.6), (0.0, -0.8), (0.2, -0.4)]
)
def test_follows_commanded_velocity(robot: MujocoGo2, vx: float, wz: float) -> None:
    drive(robot, 2.0, vx, wz)
    seen = []
    for _ in range(150):
        robot.step()
        seen.append(robot.velocity)
    forward, sideways, turn = np.mean(seen, axis=0)
    assert forward == pytest.approx(vx, abs=0.06)
    assert sideways == pytest.approx(0.0, abs=0.08)
    assert turn == pytest.approx(wz, abs=0.1)


def test_positive_turn_is_left(robot: MujocoGo2) -> None:
    drive(robot, 1.0, 0.0, 0.8)
    assert 0.3 < robot.pose.yaw < 1.2


def test_stops_and_stands_still(robot: MujocoGo2) -> None:
    drive(robot, 2.0, 0.6, 0.4)
    assert robot.walking
    drive(robot, 2.5, 0.0, 0.0)
    assert not robot.walking
    before = robot.pose
    drive(robot, 3.0)
    after = robot.pose
    assert math.hypot(after.x - before.x, after.y - before.y) < 0.01
    assert abs(after.yaw - before.yaw) < 0.01
    assert np.abs(robot.velocity).max() < 0.02


def test_stopping_distance_is_short(robot: MujocoGo2) -> None:
    drive(robot, 3.0, 0.6, 0.0)
    at_command = robot.pose
    drive(robot, 2.0, 0.0, 0.0)
    assert abs(robot.pose.x - at_command.x) < 0.35


def test_stands_still_from_the_beginning(robot: MujocoGo2) -> None:
    drive(robot, 1.0)
    assert not robot.walking
    assert not robot.fallen
    assert math.hypot(robot.pose.x - 4.0, robot.pose.y) < 0.05


def test_collision_names_what_was_touched(model: mujoco.MjModel) -> None:
    robot = MujocoGo2(model)
    robot.set_velocity(0.6, 0.0)
    touched: set[str] = set()
    for _ in range(200):
        robot.step()
        touched.update(robot.touched)
    assert touched == {"object_0_0"}
    # The floor is never a collision, and neither is anything once the robot is elsewhere.
    robot.reset(Pose(4.0, 0.0, 0.0))
    assert robot.touched == ()
    drive(robot, 1.0, 0.4, 0.0)
    assert robot.touched == ()


def test_walls_are_touched_too(model: mujoco.MjModel) -> None:
    robot = MujocoGo2(model, Pose(-3.2, 0.0, math.pi))
    touched: set[str] = set()
    robot.set_velocity(0.4, 0.0)
    for _ in range(150):
        robot.step()
        touched.update(robot.touched)
    assert touched == {"wall_0"}


def test_sits_down_refuses_to_walk_and_stands_up(robot: MujocoGo2) -> None:
    drive(robot, 0.5)
    standing = robot.height
    robot.sit_down()
    drive(robot, 2.0)
    assert robot.sitting
    assert robot.height < 0.16
    before = robot.pose
    drive(robot, 1.0, 0.4, 0.0)
    assert math.hypot(robot.pose.x - before.x, robot.pose.y - before.y) < 0.02
    robot.set_velocity(0.0, 0.0)
    robot.stand_up()
    drive(robot, 2.5)
    assert not robot.sitting
    assert robot.height == pytest.approx(standing, abs=0.02)
    assert not robot.fallen
    before = robot.pose
    drive(robot, 2.0, 0.4, 0.0)
    assert robot.pose.x - before.x > 0.4


def test_sits_down_while_walking_without_a_fall(robot: MujocoGo2) -> None:
    drive(robot, 2.0, 0.6, 0.4)
    robot.sit_down()
    drive(robot, 4.0)
    assert not robot.fallen
    assert robot.height < 0.16


def test_hasty_orders_never_make_it_fall(model: mujoco.MjModel) -> None:
    """Postures in mid-step, reversals and orders that contradict each other, each after a random short while."""
    robot = MujocoGo2(model, Pose(8.0, 0.0, 0.0), seed=2)
    rng = np.random.default_rng(2)
    for _ in range(60):
        order = rng.random()
        if order < 0.15:
            robot.sit_down()
        elif order < 0.35:
            robot.stand_up()
        drive(
            robot,
            rng.uniform(0.05, 0.8),
            rng.choice([0.0, 0.2, 0.6, -0.3]),
            rng.choice([0.0, 0.8, -0.8, 1.5]),
        )
        assert not robot.fallen


def test_same_seed_same_motion_other_seed_another(model: mujoco.MjModel) -> None:
    def final(seed: int) -> np.ndarray:
        robot = MujocoGo2(model, Pose(4.0, 1.0, 0.3), seed=seed)
        drive(robot, 1.5, 0.4, -0.4)
        return robot.data.qpos.copy()

    assert np.array_equal(final(1), final(1))
    assert not np.array_equal(final(1), final(2))


def test_reset_is_a_fresh_start(model: mujoco.MjModel) -> None:
    robot = MujocoGo2(model, Pose(4.0, 0.0, 0.0), seed=5)
    drive(robot, 1.0, 0.6, 0.8)
    robot.sit_down()
    drive(robot, 0.5)
    robot.reset(Pose(3.0, 1.0, 1.0), seed=5)
    assert robot.time == 0.0
    assert (robot.pose.x, robot.pose.y) == pytest.approx((3.0, 1.0))
    drive(robot, 1.0, 0.4, 0.0)
    fresh = MujocoGo2(model, Pose(3.0, 1.0, 1.0), seed=5)
    drive(fresh, 1.0, 0.4, 0.0)
    assert np.array_equal(robot.data.qpos, fresh.data.qpos)


def test_fallen_is_seen(robot: MujocoGo2) -> None:
    address = robot.model.jnt_qposadr[robot.model.body_jntadr[robot.model.body("go2_base").id]]
    robot.data.qpos[address + 3 : address + 7] = (math.cos(0.6), math.sin(0.6), 0.0, 0.0)
    mujoco.mj_forward(robot.model, robot.data)
    assert robot.fallen


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_velocity_must_be_finite(robot: MujocoGo2, bad: float) -> None:
    with pytest.raises(SpecDecodeError, match="finite"):
        robot.set_velocity(bad, 0.0)
    with pytest.raises(SpecDecodeError, match="finite"):
        robot.set_velocity(0.0, bad)


def test_head_camera_looks_ahead_from_the_head(model: mujoco.MjModel) -> None:
    robot = MujocoGo2(model, Pose(4.0, 2.0, math.pi / 2))
    camera = model.camera("head").id
    position, rotation = robot.data.cam_xpos[camera], robot.data.cam_xmat[camera].reshape(3, 3)
    assert position[:2] == pytest.approx((4.0, 2.33), abs=0.01)
    assert rotation[:, 2] == pytest.approx((0.0, -1.0, 0.0), abs=0.02)
    assert rotation[:, 1] == pytest.approx((0.0, 0.0, 1.0), abs=0.02)


def test_the_tilt_of_the_base_is_that_of_its_axes(robot: MujocoGo2) -> None:
    assert robot.tilt == pytest.approx((0.0, 0.0), abs=1e-6)
    root = robot.model.jnt_qposadr[0]
    for roll, pitch in ((0.2, 0.0), (0.0, 0.3)):
        half = (roll + pitch) / 2
        robot.data.qpos[root + 3 : root + 7] = (
            math.cos(half),
            math.sin(half) * (roll > 0),
            math.sin(half) * (pitch > 0),
            0.0,
        )
        mujoco.mj_forward(robot.model, robot.data)
        assert robot.tilt == pytest.approx((roll, pitch), abs=1e-6)


def test_visual_meshes_are_an_option_and_weigh_nothing(model: mujoco.MjModel) -> None:
    detailed = attach_go2(WORLD, visual=True)
    assert detailed.nmesh > 0
    assert model.nmesh == 0
    assert detailed.body_mass == pytest.approx(model.body_mass)


def test_missing_data_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robot_model, "DATA_PACKAGE", "no_such_package")
    with pytest.raises(SpecDecodeError, match="pip install"):
        find_go2_files()


def test_calibration_is_odd_monotonic_and_passes_zero() -> None:
    forward = [calibrated(v, 0.0)[0] for v in np.linspace(-1.0, 1.0, 41)]
    turn = [calibrated(0.0, w)[2] for w in np.linspace(-1.5, 1.5, 41)]
    for curve in (forward, turn):
        assert np.all(np.diff(curve) > 0)
        assert np.allclose(curve, -np.array(curve)[::-1])
    assert np.all(calibrated(0.0, 0.0) == 0.0)


def test_trim_pushes_against_a_shortfall_within_its_limit() -> None:
    trim = VelocityTrim()
    command, slow = np.array([0.4, 0.0]), np.array([0.2, 0.1, 0.0])
    for _ in range(500):
        told = trim.update(command, slow, CONTROL_PERIOD_S)
    plain = calibrated(0.4, 0.0)
    assert 0.0 < told[0] - plain[0] <= 0.2 + 1e-9
    assert -0.2 - 1e-9 <= told[1] < 0.0
    trim.reset()
    assert trim.update(np.zeros(2), np.zeros(3), CONTROL_PERIOD_S) == pytest.approx(np.zeros(3))
