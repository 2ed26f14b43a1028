"""Worlds for Gazebo: the same room as MuJoCo's, valid for the validator, and the shipped ones up to date."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yaml

from spec_decode_ros.cli import main
from spec_decode_ros.sim.mjcf import to_mjcf
from spec_decode_ros.sim.render import FOV_Y, HEIGHT, WIDTH
from spec_decode_ros.sim.scene import COLORS, HEAD, KINDS, Scene, SceneObject, random_scene
from spec_decode_ros.sim.sdf import (
    BASE_HEIGHT,
    CONE_FILE,
    cone_obj,
    copy_for_fortress,
    for_fortress,
    needs_cone,
    to_sdf,
)
from spec_decode_ros.sim.task import make_task

REPOSITORY = Path(__file__).resolve().parents[2]
WORLDS = sorted((REPOSITORY / "worlds").glob("*.sdf"))
VALIDATOR = shutil.which("gz") or shutil.which("ign")

EVERYTHING = Scene(
    tuple(
        SceneObject(color, kind, 0.9 * i - 2.0, 0.8 * j - 2.0, 0.5 * i - 1.1 * j)
        for i, color in enumerate(COLORS)
        for j, kind in enumerate(KINDS)
    ),
    start=(-2.9, -2.7, 0.4),
)
"""Every colour and kind, each turned otherwise."""

SCENES = [EVERYTHING, *(random_scene(seed) for seed in range(20))]

needs_validator = pytest.mark.skipif(
    VALIDATOR is None,
    reason="no SDF validator here: apt install libsdformat12-12 sdformat-sdf ignition-tools libsdformat-dev",
)


def numbers(element: ET.Element, path: str) -> np.ndarray:
    return np.array(element.findtext(path).split(), dtype=float)


def pose(element: ET.Element) -> tuple[np.ndarray, float]:
    """Position and yaw; nothing here is rolled or pitched."""
    if element.find("pose") is None:
        return np.zeros(3), 0.0
    x, y, z, roll, pitch, yaw = numbers(element, "pose")
    assert roll == pitch == 0.0
    return np.array([x, y, z]), yaw


def shapes(world: str, tag: str) -> dict[str, list[tuple[ET.Element, np.ndarray, float]]]:
    """For each model but the robot: its collisions or visuals with their place in the world."""
    found = {}
    for model in ET.fromstring(world).iter("model"):
        position, yaw = pose(model)
        turn = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
        (link,) = model.findall("link")
        found[model.get("name")] = [
            (shape, position + turn @ pose(shape)[0], yaw + pose(shape)[1]) for shape in link.findall(tag)
        ]
    found.pop("go2")
    return found


def size_of(shape: ET.Element) -> tuple[str, np.ndarray]:
    """Kind and sizes as MuJoCo has them: halves."""
    (geometry,) = shape.find("geometry")
    if geometry.tag == "box":
        return "box", numbers(geometry, "size") / 2
    if geometry.tag == "sphere":
        return "sphere", numbers(geometry, "radius")
    if geometry.tag == "cylinder":
        return "cylinder", np.array([*numbers(geometry, "radius"), *(numbers(geometry, "length") / 2)])
    assert geometry.findtext("uri") == CONE_FILE
    return "mesh", np.array([])


def obj_vertices() -> np.ndarray:
    lines = (line.split() for line in cone_obj().splitlines())
    return np.array([[float(word) for word in words[1:]] for words in lines if words[0] == "v"])


@pytest.mark.parametrize("world", WORLDS, ids=lambda path: path.stem)
def test_the_shipped_worlds_are_what_the_generator_writes(world: Path) -> None:
    task = make_task(int(world.stem.removeprefix("room_")))
    assert world.read_text() == to_sdf(task.scene, world.stem), (
        f"write it anew: spec-decode world --seed {task.seed} --out worlds/{world.name}"
    )
    if needs_cone(task.scene):
        assert world.with_name(CONE_FILE).read_text() == cone_obj()


def test_there_are_shipped_worlds_and_one_has_a_cone() -> None:
    assert WORLDS
    assert any(needs_cone(make_task(int(world.stem.removeprefix("room_"))).scene) for world in WORLDS)


def test_nothing_but_the_room_is_in_the_pictures() -> None:
    """Gazebo draws a line along a light that does not say otherwise, across every picture of the robot."""
    root = ET.fromstring(to_sdf(EVERYTHING))
    assert [light.findtext("visualize") for light in root.iter("light")] == ["false"]
    assert [sensor.findtext("visualize") for sensor in root.iter("sensor")] == ["false"]


def systems(world: str) -> list[str]:
    return [plugin.get("name") for plugin in ET.fromstring(world).iter("plugin")]


def test_fortress_gets_the_only_name_of_the_odometry_that_it_knows() -> None:
    usual = to_sdf(EVERYTHING)
    assert all(name.startswith("gz::sim::systems::") for name in systems(usual))
    changed = set(systems(for_fortress(usual))) - set(systems(usual))
    assert changed == {"ignition::gazebo::systems::OdometryPublisher"}
    assert for_fortress(for_fortress(usual)) == for_fortress(usual)


@pytest.mark.parametrize("world", WORLDS, ids=lambda path: path.stem)
def test_a_world_is_copied_for_fortress_with_its_mesh(world: Path, tmp_path: Path) -> None:
    copy = copy_for_fortress(world, tmp_path)
    assert copy == tmp_path / world.name
    assert copy.read_text() == for_fortress(world.read_text()) != world.read_text()
    assert (tmp_path / CONE_FILE).read_text() == cone_obj()


GAZEBOS = {"gz": ["gz", "sim"], "ign": ["ign", "gazebo"]}
"""How Gazebo is started; `ign` is Fortress."""


def gazebo() -> str | None:
    for program, command in GAZEBOS.items():
        if shutil.which(program):
            asked = subprocess.run([*command, "--versions"], capture_output=True, text=True, timeout=60)
            if asked.returncode == 0 and asked.stdout.strip()[:1].isdigit():
                return program
    return None


@pytest.mark.parametrize("world", WORLDS, ids=lambda path: path.stem)
def test_gazebo_loads_the_shipped_worlds_without_an_error(world: Path, tmp_path: Path) -> None:
    program = gazebo()
    if program is None:
        pytest.skip("no Gazebo here: apt install gz-harmonic, or ignition-fortress")
    path = copy_for_fortress(world, tmp_path) if program == "ign" else world
    options = ["-s", "-r", "--headless-rendering", "-v", "1", "--iterations", "100"]
    done = subprocess.run(
        [*GAZEBOS[program], *options, str(path)],
        capture_output=True,
        text=True,
        timeout=150,
        env={**os.environ, "IGN_PARTITION": str(tmp_path), "GZ_PARTITION": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    errors = [line for line in (done.stdout + done.stderr).splitlines() if "[Err]" in line]
    # The profiler has one port, which another Gazebo on this machine may have.
    assert not [line for line in errors if "Remotery" not in line]


@needs_validator
@pytest.mark.parametrize("world", ["everything", "fortress", *(path.name for path in WORLDS)])
def test_the_validator_has_nothing_to_say(world: str, tmp_path: Path) -> None:
    path = REPOSITORY / "worlds" / world
    if world in ("everything", "fortress"):
        path = tmp_path / "room.sdf"
        text = to_sdf(EVERYTHING)
        path.write_text(for_fortress(text) if world == "fortress" else text)
        (tmp_path / CONE_FILE).write_text(cone_obj())
    done = subprocess.run(
        [VALIDATOR, "sdf", "--check", str(path)], capture_output=True, text=True, timeout=120
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if line and "backward.so" not in line]
    assert (done.returncode, said) == (0, ["Valid."])


@needs_validator
def test_the_validator_finds_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "room.sdf"
    path.write_text(to_sdf(EVERYTHING).replace("<radius>0.28</radius>", "<radius>much</radius>"))
    done = subprocess.run(
        [VALIDATOR, "sdf", "--check", str(path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0 or "Error" in done.stdout + done.stderr


@pytest.mark.parametrize("tag", ["collision", "visual"])
def test_everything_stands_where_it_stands_in_mujoco(tag: str) -> None:
    for scene in SCENES:
        model = mujoco.MjModel.from_xml_string(to_mjcf(scene))
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        found = shapes(to_sdf(scene), tag)
        assert found.pop("floor")[0][0].findtext("geometry/plane/normal") == "0 0 1"
        names = [f"{thing.name.replace(' ', '_')}_{i}" for i, thing in enumerate(scene.objects)]
        assert list(found) == ["wall_0", "wall_1", "wall_2", "wall_3", *names]
        expected = {f"wall_{i}": [f"wall_{i}"] for i in range(4)}
        for i, name in enumerate(names):
            body = model.body(f"object_{i}")
            expected[name] = [f"object_{i}_{j}" for j in range(body.geomnum[0])]
        for name, geoms in expected.items():
            assert len(geoms) == len(found[name])
            for geom, (shape, position, yaw) in zip(geoms, found[name], strict=True):
                number = model.geom(geom).id
                kind, sizes = size_of(shape)
                turn = data.geom_xmat[number].reshape(3, 3)
                if kind == "mesh":
                    start = model.mesh("cone").vertadr[0]
                    count = model.mesh("cone").vertnum[0]
                    theirs = model.mesh_vert[start : start + count] @ turn.T + data.geom_xpos[number]
                    # The base's corners are where they are in MuJoCo, which does without the base's middle.
                    ours = np.delete(obj_vertices(), 1, axis=0) + position
                    assert np.allclose(theirs.max(axis=0), ours.max(axis=0), atol=0.01)
                    assert np.allclose(theirs.min(axis=0), ours.min(axis=0), atol=0.01)
                    assert theirs[:, 2].max() == pytest.approx(ours[:, 2].max(), abs=1e-3)
                    assert theirs[:, 2].min() == pytest.approx(ours[:, 2].min(), abs=1e-3)
                    continue
                assert kind == mujoco.mjtGeom(model.geom_type[number]).name.removeprefix("mjGEOM_").lower()
                assert np.allclose(sizes, model.geom_size[number][: len(sizes)], atol=2e-4)
                assert np.allclose(position, data.geom_xpos[number], atol=2e-4)
                assert math.cos(yaw - math.atan2(turn[1, 0], turn[0, 0])) > 1 - 1e-6


def test_colours_are_those_of_the_frames_that_the_models_learned_from() -> None:
    def shown(linear: np.ndarray) -> np.ndarray:
        """What a screen shows of linear light, IEC 61966-2-1."""
        return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)

    for scene in SCENES[:6]:
        model = mujoco.MjModel.from_xml_string(to_mjcf(scene))
        light = model.vis.headlight
        visuals = shapes(to_sdf(scene), "visual")
        for i, thing in enumerate(scene.objects):
            rgb = model.geom(f"object_{i}_0").rgba[:3]
            (visual, _, _), *_ = visuals[f"{thing.name.replace(' ', '_')}_{i}"]
            emissive = numbers(visual, "material/emissive")[:3]
            diffuse = numbers(visual, "material/diffuse")[:3]
            assert np.allclose(shown(emissive), rgb * light.ambient, atol=3e-3)
            facing = np.clip(rgb * (light.ambient + light.diffuse), 0, 1)
            assert np.allclose(shown(emissive + diffuse), facing, atol=3e-3)


def test_the_robot_has_the_same_camera_at_the_start() -> None:
    scene = SCENES[1]
    (robot,) = (m for m in ET.fromstring(to_sdf(scene)).iter("model") if m.get("name") == "go2")
    assert np.allclose(
        [*pose(robot)[0], pose(robot)[1]], [*scene.start[:2], BASE_HEIGHT, scene.start[2]], atol=1e-4
    )
    sensor = robot.find("link/sensor")
    assert np.allclose(pose(sensor)[0], HEAD)
    width, height = numbers(sensor, "camera/image/width")[0], numbers(sensor, "camera/image/height")[0]
    assert (width, height) == (WIDTH, HEIGHT)
    # Pixels are square, so the horizontal field of view settles the vertical one, which is MuJoCo's.
    across = float(sensor.findtext("camera/horizontal_fov"))
    assert 2 * math.atan(math.tan(across / 2) * height / width) == pytest.approx(FOV_Y, abs=1e-4)
    for visual in robot.findall("link/visual"):
        assert pose(visual)[0][0] + numbers(visual, "geometry/box/size")[0] / 2 <= HEAD[0]


def test_the_robot_touches_nothing_at_the_start() -> None:
    (robot,) = (m for m in ET.fromstring(to_sdf(SCENES[1])).iter("model") if m.get("name") == "go2")
    (body,) = robot.findall("link/collision")
    length, width, height = numbers(body, "geometry/box/size")
    assert 0.0 < BASE_HEIGHT - height / 2 < 0.05
    # Its centre of mass is its middle: a bump must not turn it over.
    assert body.find("pose") is None
    assert robot.find("link/inertial/pose") is None
    # The random rooms keep a circle of BODY_RADIUS free around the start.
    assert math.hypot(length, width) / 2 < 0.42


def test_what_the_bridge_carries_is_what_the_world_has() -> None:
    bridge = {
        entry["ros_topic_name"]: entry
        for entry in yaml.safe_load((REPOSITORY / "config" / "gazebo_bridge.yaml").read_text())
    }
    root = ET.fromstring(to_sdf(EVERYTHING))
    plugins = {plugin.get("name").rpartition("::")[2]: plugin for plugin in root.iter("plugin")}
    assert bridge["cmd_vel"]["gz_topic_name"] == plugins["VelocityControl"].findtext("topic")
    assert bridge["cmd_vel"]["direction"] == "ROS_TO_GZ"
    assert bridge["odom"]["gz_topic_name"] == plugins["OdometryPublisher"].findtext("odom_topic")
    assert bridge["odom"]["direction"] == bridge["/clock"]["direction"] == "GZ_TO_ROS"
    image = root.find(".//sensor/topic").text
    assert f'arguments=["{image}"]' in (REPOSITORY / "launch" / "gazebo.launch.py").read_text()
    assert f"{image}/compressed" == "camera/image/compressed"
    for entry in bridge.values():
        package, _, kind = entry["ros_type_name"].partition("/msg/")
        messages = pytest.importorskip(f"{package}.msg", reason=f"{package} is not installed: it is of ROS 2")
        assert hasattr(messages, kind)


def test_the_command_writes_a_world_and_the_mesh_that_it_needs(tmp_path: Path, capsys) -> None:
    path = tmp_path / "new" / "room five.sdf"
    assert main(["world", "--seed", "5", "--out", str(path)]) == 0
    assert "green cone" in capsys.readouterr().out
    assert path.read_text() == to_sdf(make_task(5).scene, "room_five")
    assert path.with_name(CONE_FILE).read_text() == cone_obj()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--seed", "-1"], "--seed is -1"),
        (["--out", "room.txt"], "end in .sdf"),
        (["--out", "/proc/nowhere/room.sdf"], "can't be written"),
    ],
)
def test_the_command_says_what_it_cannot_do(words: list[str], says: str, capsys) -> None:
    assert main(["world", *words]) == 2
    assert says in capsys.readouterr().err
