"""Gazebo worlds: writes a scene as SDFormat, with a robot of a Go2's size and the same head camera.

The worlds are SDFormat 1.9 with the systems of Gazebo Harmonic, Ionic and Jetty; :func:`for_fortress` changes them for
Fortress. The robot is a box that moves at the commanded velocity (``VelocityControl``): enough to try the stack, not to
study a gait. ``VelocityControl`` keeps the last velocity for ever, so ``velocity_watchdog_node`` belongs beside it.
"""

from __future__ import annotations

import copy
import math
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim.scene import (
    COLORS,
    CONE_SIDES,
    FOV_X,
    HEAD,
    HEIGHT,
    SKY_RGB,
    WIDTH,
    Primitive,
    Scene,
    SceneObject,
    Vector,
    parts,
    walls,
)

SDF_VERSION = "1.9"
ROBOT = "go2"
CMD_VEL_TOPIC = f"/model/{ROBOT}/cmd_vel"
ODOMETRY_TOPIC = f"/model/{ROBOT}/odometry"
# Relative, so that the ROS topic follows the robot's namespace.
IMAGE_TOPIC = "camera/image"
CAMERA_RATE_HZ = 10
ODOMETRY_RATE_HZ = 20

CONE_FILE = "cone.obj"
"""File of the cone mesh (:func:`cone_obj`), which a world with a cone expects in its own folder."""

BASE_HEIGHT = 0.31
"""Metres from the floor to the robot's base while it walks."""

# Metres: the collision box, and the visual boxes as (name, centre, size). The collision box reaches as far above the
# base as below it, so that a collision does not tip the robot over.
_BODY_SIZE = (0.70, 0.31, 0.58)
_MASS_KG = 15.0
_LOOKS = (
    ("trunk", (0.0, 0.0, 0.0), (0.44, 0.20, 0.12)),
    ("head", (0.265, 0.0, 0.02), (0.11, 0.12, 0.12)),
    *(
        (f"{side}_{end}_leg", (x, y, -0.13), (0.05, 0.05, 0.34))
        for side, y in (("left", 0.13), ("right", -0.13))
        for end, x in (("front", 0.19), ("rear", -0.19))
    ),
)
_ROBOT_RGB = (0.75, 0.75, 0.78)

_FLOOR_SIZE = 16.0
_HEADLIGHT = 0.4
"""Share of a surface's colour that the light at the camera adds at normal incidence, as in the MuJoCo scenes."""


def to_sdf(scene: Scene, name: str = "room") -> str:
    """The SDF document of a scene with the robot at its start.

    Models are named ``floor``, ``wall_<index>``, ``<colour>_<kind>_<index>`` and ``go2``. The robot listens to
    ``gz.msgs.Twist`` on ``/model/go2/cmd_vel`` and publishes ``gz.msgs.Odometry`` on ``/model/go2/odometry`` and
    ``gz.msgs.Image`` on ``camera/image``.

    Args:
        scene: the room.
        name: of the world; letters, digits, ``_`` and ``-``.
    """
    root = ET.Element("sdf", version=SDF_VERSION)
    world = ET.SubElement(root, "world", name=name)
    physics = ET.SubElement(world, "physics", name="fixed_step", type="ignored")
    _texts(physics, max_step_size="0.002", real_time_factor="1")
    # Without gravity: objects are static, and the robot moves at its commanded velocity alone.
    _texts(world, gravity="0 0 0")
    _plugin(world, "physics", "Physics")
    _plugin(world, "user-commands", "UserCommands")
    _plugin(world, "scene-broadcaster", "SceneBroadcaster")
    _plugin(world, "sensors", "Sensors", render_engine="ogre2")
    background = _rgba(_linear(SKY_RGB))
    _add(world, "scene", ambient="0 0 0 1", background=background, shadows="false", grid="false")
    world.append(_floor(scene))
    world.extend(_walls(scene))
    world.extend(_thing(thing, index, scene.light) for index, thing in enumerate(scene.objects))
    world.append(_robot(scene))
    ET.indent(root)
    return f"{ET.tostring(root, encoding='unicode', xml_declaration=False)}\n"


def for_fortress(world: str) -> str:
    """The same world for Gazebo Fortress, which has the new names of all its systems but of the odometry's."""
    system = "odometry-publisher-system", "OdometryPublisher"
    new = f'filename="gz-sim-{system[0]}" name="gz::sim::systems::{system[1]}"'
    return world.replace(
        new, f'filename="ignition-gazebo-{system[0]}" name="ignition::gazebo::systems::{system[1]}"'
    )


def copy_for_fortress(path: Path, folder: Path) -> Path:
    """Copy a world, changed for Fortress, and the cone mesh beside it into a folder; returns the new world."""
    copy = folder / path.name
    copy.write_text(for_fortress(path.read_text(encoding="utf-8")), encoding="utf-8")
    if path.with_name(CONE_FILE).is_file():
        shutil.copy(path.with_name(CONE_FILE), folder)
    return copy


def needs_cone(scene: Scene) -> bool:
    """Whether the world of the scene needs :data:`CONE_FILE`."""
    return any(thing.kind == "cone" for thing in scene.objects)


def cone_obj() -> str:
    """A cone in the size that scenes use, with the origin at its centre, as a Wavefront OBJ file.

    SDFormat has cones only from 1.12 on, which Harmonic cannot read.
    """
    radius, half = parts("cone")[0].size
    slope = math.hypot(2 * half, radius)
    up, out = radius / slope, 2 * half / slope
    sides = CONE_SIDES
    angles = [2 * math.pi * side / sides for side in range(sides)]
    ring = [(math.cos(angle), math.sin(angle)) for angle in angles]
    lines = [
        f"# A cone of {radius:g} m radius and {2 * half:g} m height.",
        f"v 0 0 {half:.4f}",
        f"v 0 0 {-half:.4f}",
    ]
    lines += [f"v {radius * x:.4f} {radius * y:.4f} {-half:.4f}" for x, y in ring]
    lines += [f"vn {out * x:.4f} {out * y:.4f} {up:.4f}" for x, y in ring]
    lines.append("vn 0 0 -1")
    for side in range(sides):
        this, following = side, (side + 1) % sides
        lines.append(f"f {this + 3}//{this + 1} {following + 3}//{following + 1} 1//{this + 1}")
        lines.append(f"f {following + 3}//{sides + 1} {this + 3}//{sides + 1} 2//{sides + 1}")
    return "\n".join(lines) + "\n"


def write_world(scene: Scene, path: Path, fortress: bool = False) -> list[Path]:
    """Write the world of a scene, with the cone mesh if it needs one; returns the files.

    Args:
        scene: the room.
        path: of the world.
        fortress: for Gazebo Fortress rather than a newer one.

    Raises:
        SpecDecodeError: Gazebo does not take a file of this name, or it cannot be written.
    """
    if path.suffix not in (".sdf", ".world"):
        raise SpecDecodeError(f"Gazebo takes worlds from files that end in .sdf: {path} does not")
    world = to_sdf(scene, re.sub(r"[^\w-]", "_", path.stem))
    files = {path: for_fortress(world) if fortress else world}
    if needs_cone(scene):
        files[path.with_name(CONE_FILE)] = cone_obj()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecDecodeError(f"{error.filename} can't be written: {error.strerror}") from error
    return list(files)


# -- the room -----------------------------------------------------------------------------------------------


def _floor(scene: Scene) -> ET.Element:
    model, link = _static_model("floor", (0.0, 0.0, 0.0), 0.0)
    geometry = ET.Element("geometry")
    _add(geometry, "plane", normal="0 0 1", size=_numbers((_FLOOR_SIZE, _FLOOR_SIZE)))
    _shape(link, "floor", geometry, (0.0, 0.0, 0.0), scene.floor, scene.light)
    return model


def _walls(scene: Scene) -> Iterable[ET.Element]:
    for index, (position, half) in enumerate(walls(scene.half_x, scene.half_y)):
        model, link = _static_model(f"wall_{index}", position, 0.0)
        _shape(link, "wall", _box([2 * value for value in half]), (0.0, 0.0, 0.0), scene.wall, scene.light)
        yield model


def _thing(thing: SceneObject, index: int, light: float) -> ET.Element:
    model, link = _static_model(f"{thing.color}_{thing.kind}_{index}", (thing.x, thing.y, 0.0), thing.yaw)
    for number, part in enumerate(parts(thing.kind)):
        _shape(link, f"part_{number}", _geometry(part), part.position, COLORS[thing.color], light)
    return model


def _static_model(name: str, position: Vector, yaw: float) -> tuple[ET.Element, ET.Element]:
    """A static model and its one link."""
    model = ET.Element("model", name=name)
    _texts(model, static="true", pose=_pose(position, yaw))
    return model, ET.SubElement(model, "link", name="link")


def _shape(
    link: ET.Element,
    name: str,
    geometry: ET.Element,
    position: Vector,
    rgb: tuple[float, ...],
    light: float,
) -> None:
    """Add a geometry to a link, for collision and as a visual."""
    collision = ET.SubElement(link, "collision", name=f"{name}_collision")
    visual = ET.SubElement(link, "visual", name=f"{name}_visual")
    for element in (collision, visual):
        if any(position):
            _texts(element, pose=_pose(position))
        # A copy for each, because ET.indent writes the indentation into the elements.
        element.append(copy.deepcopy(geometry))
    visual.append(_material(rgb, light))


def _geometry(part: Primitive) -> ET.Element:
    geometry = ET.Element("geometry")
    if part.shape == "box":
        return _box([2 * half for half in part.size])
    if part.shape == "sphere":
        _add(geometry, "sphere", radius=_numbers(part.size))
    elif part.shape == "cylinder":
        radius, half = part.size
        _add(geometry, "cylinder", radius=_numbers([radius]), length=_numbers([2 * half]))
    else:
        _add(geometry, "mesh", uri=CONE_FILE)
    return geometry


def _box(size: Iterable[float]) -> ET.Element:
    geometry = ET.Element("geometry")
    _add(geometry, "box", size=_numbers(size))
    return geometry


def _material(rgb: Iterable[float], light: float) -> ET.Element:
    """A surface of ``light`` times its colour, and brighter where it faces the camera."""
    dark = [min(1.0, light * value) for value in rgb]
    bright = [min(1.0, (light + _HEADLIGHT) * value) for value in rgb]
    emissive = _linear(dark)
    diffuse = [much - little for much, little in zip(_linear(bright), emissive, strict=True)]
    material = ET.Element("material")
    _texts(material, ambient="0 0 0 1", diffuse=_rgba(diffuse), specular="0 0 0 1", emissive=_rgba(emissive))
    return material


# -- the robot ----------------------------------------------------------------------------------------------


def _robot(scene: Scene) -> ET.Element:
    x, y, yaw = scene.start
    model = ET.Element("model", name=ROBOT)
    _texts(model, pose=_pose((x, y, BASE_HEIGHT), yaw))
    link = ET.SubElement(model, "link", name="base_link")
    inertial = _add(link, "inertial", mass=f"{_MASS_KG:g}")
    # Roll and pitch are not controlled, so a large inertia keeps the robot upright in collisions.
    _add(inertial, "inertia", ixx="100", iyy="100", izz="0.5", ixy="0", ixz="0", iyz="0")
    ET.SubElement(link, "collision", name="body").append(_box(_BODY_SIZE))
    for name, position, size in _LOOKS:
        visual = ET.SubElement(link, "visual", name=name)
        _texts(visual, pose=_pose(position))
        visual.append(_box(size))
        visual.append(_material(_ROBOT_RGB, scene.light))
    link.append(_headlight())
    link.append(_camera())
    _plugin(model, "velocity-control", "VelocityControl", topic=CMD_VEL_TOPIC)
    _plugin(
        model,
        "odometry-publisher",
        "OdometryPublisher",
        odom_topic=ODOMETRY_TOPIC,
        odom_frame="odom",
        robot_base_frame="base_link",
        odom_publish_frequency=str(ODOMETRY_RATE_HZ),
        dimensions="2",
    )
    return model


def _headlight() -> ET.Element:
    """The only light: at the camera and along its view, as in the frames that the models were trained on."""
    light = ET.Element("light", name="headlight", type="directional")
    _texts(
        light,
        pose=_pose(HEAD),
        cast_shadows="false",
        diffuse="1 1 1 1",
        specular="0 0 0 1",
        direction="1 0 0",
        visualize="false",
    )
    return light


def _camera() -> ET.Element:
    sensor = ET.Element("sensor", name="head_camera", type="camera")
    _texts(
        sensor,
        pose=_pose(HEAD),
        topic=IMAGE_TOPIC,
        update_rate=str(CAMERA_RATE_HZ),
        always_on="true",
        visualize="false",
    )
    camera = _add(sensor, "camera", horizontal_fov=f"{FOV_X:.6f}")
    _add(camera, "image", width=str(WIDTH), height=str(HEIGHT), format="R8G8B8")
    _add(camera, "clip", near="0.01", far="50")
    return sensor


# -- numbers and elements -----------------------------------------------------------------------------------


def _texts(parent: ET.Element, **texts: str) -> None:
    """Add child elements with these texts, in this order."""
    for tag, text in texts.items():
        ET.SubElement(parent, tag).text = text


def _add(parent: ET.Element, tag: str, **texts: str) -> ET.Element:
    """Add one child element, whose own children have these texts."""
    child = ET.SubElement(parent, tag)
    _texts(child, **texts)
    return child


def _plugin(parent: ET.Element, library: str, system: str, **texts: str) -> None:
    """Add a system of Gazebo with its parameters."""
    attributes = {"filename": f"gz-sim-{library}-system", "name": f"gz::sim::systems::{system}"}
    _texts(ET.SubElement(parent, "plugin", attributes), **texts)


def _numbers(values: Iterable[float]) -> str:
    # Adding zero turns -0 into 0.
    return " ".join(f"{round(value, 4) + 0.0:g}" for value in values)


def _pose(position: Iterable[float], yaw: float = 0.0) -> str:
    return f"{_numbers(position)} 0 0 {_numbers([yaw])}"


def _rgba(rgb: Iterable[float]) -> str:
    return f"{_numbers(rgb)} 1"


def _linear(rgb: Iterable[float]) -> list[float]:
    """sRGB as linear light, which Gazebo's renderer computes in."""
    return [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in rgb]
