from __future__ import annotations

import io
import math
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim.render import HEIGHT, WIDTH
from spec_decode_ros.sim.scene import Scene, SceneObject
from spec_decode_ros.sim.simulation import MOST_CATCH_UP_S, Simulation

SCENE = Scene(
    objects=(SceneObject("red", "box", 2.0, 0.0), SceneObject("blue", "ball", -1.0, 1.5)),
    start=(0.0, 0.0, 0.0),
)


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation(SCENE, backend="ray") as running:
        yield running


def test_time_advances_by_whole_control_periods_and_keeps_the_rest(simulation: Simulation) -> None:
    for _ in range(30):
        simulation.step(1 / 3)
    assert simulation.time == pytest.approx(10.0, abs=0.021)
    times = [time for time, _ in simulation.path]
    assert times == pytest.approx(np.arange(51) * 0.2, abs=1e-6)


def test_catching_up_follows_a_clock_but_never_leaps(simulation: Simulation) -> None:
    simulation.catch_up(0.1)
    assert simulation.time == pytest.approx(0.1)
    simulation.catch_up(0.05)
    assert simulation.time == pytest.approx(0.1)
    simulation.catch_up(100.0)
    assert simulation.time == pytest.approx(0.1 + MOST_CATCH_UP_S, abs=0.011)


def test_distance_and_bearing_are_from_the_head(simulation: Simulation) -> None:
    # The head is 0.33 m before the base, the box's face 0.24 m before its middle.
    assert simulation.distance_to("red box") == pytest.approx(2.0 - 0.24 - 0.33, abs=0.01)
    assert simulation.bearing_to("red box") == pytest.approx(0.0, abs=0.01)
    assert simulation.bearing_to("blue ball") == pytest.approx(math.atan2(1.5, -1.33), abs=0.01)


def test_unknown_object_says_what_there_is(simulation: Simulation) -> None:
    with pytest.raises(SpecDecodeError, match="it has red box, blue ball"):
        simulation.distance_to("green cone")


def test_walking_into_a_thing_is_one_collision_with_its_name(simulation: Simulation) -> None:
    simulation.set_velocity(0.6, 0.0)
    simulation.step(5.0)
    assert simulation.collisions
    assert {hit.thing for hit in simulation.collisions} == {"red box"}
    assert 1.0 < simulation.collisions[0].time < 5.0
    assert simulation.path_length > 1.0
    simulation.reset()
    assert simulation.collisions == ()
    assert simulation.time == 0.0
    assert simulation.path_length == pytest.approx(0.0, abs=1e-6)


def test_the_camera_sees_the_box_ahead(simulation: Simulation) -> None:
    with Image.open(io.BytesIO(simulation.jpeg())) as image:
        assert image.format == "JPEG"
        assert image.size == (WIDTH, HEIGHT)
        pixels = np.asarray(image.convert("RGB")).astype(int)
    middle = pixels[HEIGHT // 2 + 5, WIDTH // 2]
    assert middle[0] > 1.8 * middle[1]
    assert middle[0] > 1.8 * middle[2]


def test_odometry_agrees_with_the_path(simulation: Simulation) -> None:
    simulation.set_velocity(0.4, 0.0)
    simulation.step(2.0)
    odometry = simulation.odometry
    assert odometry.time == simulation.time
    assert simulation.path[-1] == (simulation.time, odometry.pose)
    assert odometry.vx == pytest.approx(0.4, abs=0.2)


def test_postures_by_the_words_of_actions(simulation: Simulation) -> None:
    simulation.step(0.5)
    standing = simulation.robot.height
    simulation.set_posture("sit down")
    simulation.step(2.0)
    assert simulation.robot.height < standing - 0.1
    simulation.set_posture("stand up")
    simulation.step(2.0)
    assert simulation.robot.height == pytest.approx(standing, abs=0.02)
    with pytest.raises(SpecDecodeError, match="stand up"):
        simulation.set_posture("roll over")
