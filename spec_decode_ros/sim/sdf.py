"""A scene as a world for Gazebo: the same room, the same objects, and a robot of a Go2's size with the same head camera.

:func:`to_sdf` is a pure function. What it returns is SDFormat 1.9 with the systems of Gazebo Harmonic, Ionic and Jetty.
The robot is a box that moves as it is told (``VelocityControl``): for trying the stack, not for studying a gait.
"""

from __future__ import annotations

import copy
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable

from spec_decode_ros.sim.scene import (
    COLORS,
    FOV_X,
    HEAD,
    HEIGHT,
    SKY_RGB,
    WIDTH,
    Primitive,
    Scene,
    SceneObject,
    parts,
    walls,
)

SDF_VERSION = "1.9"
ROBOT = "go2"
CMD_VEL_TOPIC = f"/model/{ROBOT}/cmd_vel"
ODOMETRY_TOPIC = f"/model/{ROBOT}/odometry"
# Without a slash in front, so that its ROS counterpart follows the namespace of the robot.
IMAGE_TOPIC = "camera/image"
CAMERA_RATE_HZ = 10
ODOMETRY_RATE_HZ = 20

CONE_FILE = "cone.obj"
"""Mesh of a cone, which :func:`cone_obj` writes and a world with a cone in it looks for in its own folder."""

BASE_HEIGHT = 0.31
"""Metres from the floor to the base of the walking robot."""

# Metres: what bumps into things, and what is seen of the robot as (name, middle, size). The former reaches as far above
# the base as below it, so that a bump does not tip the robot over.
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
"""Share of a surface's colour that the light at the camera adds where it falls square, as in the MuJoCo scenes."""

_SYSTEMS = (
    ("gz-sim-physics-system", "gz::sim::systems::Physics"),
    ("gz-sim-user-commands-system", "gz::sim::systems::UserCommands"),
    ("gz-sim-scene-broadcaster-system", "gz::sim::systems::SceneBroadcaster"),
)


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
    # Nothing here falls: the things stand fast, and the robot goes where its velocity takes it.
    _texts(world, gravity="0 0 0")
    for filename, system in _SYSTEMS:
        ET.SubElement(world, "plugin", filename=filename, name=system)
    sensors = ET.SubElement(
        world, "plugin", filename="gz-sim-sensors-system", name="gz::sim::systems::Sensors"
    )
    _texts(sensors, render_engine="ogre2")
    look = ET.SubElement(world, "scene")
    _texts(look, ambient="0 0 0 1", background=_rgba(_linear(SKY_RGB)), shadows="false", grid="false")
    world.append(_floor(scene))
    world.extend(_walls(scene))
    world.extend(_thing(thing, index, scene.light) for index, thing in enumerate(scene.objects))
    world.append(_robot(scene))
    ET.indent(root)
    return f"{ET.tostring(root, encoding='unicode', xml_declaration=False)}\n"


def needs_cone(scene: Scene) -> bool:
    """Whether the scene's world looks for :data:`CONE_FILE`."""
    return any(thing.kind == "cone" for thing in scene.objects)


def cone_obj(sides: int = 24) -> str:
    """A cone of the one size that scenes use, around its middle, as a Wavefront OBJ file.

    SDFormat has a cone of its own only from 1.12 on, which Harmonic cannot read.
    """
    radius, half = parts("cone")[0].size
    slope = math.hypot(2 * half, radius)
    up, out = radius / slope, 2 * half / slope
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


# -- what stands in the room --------------------------------------------------------------------------------


def _floor(scene: Scene) -> ET.Element:
    model, link = _static_model("floor", (0.0, 0.0, 0.0), 0.0)
    geometry = ET.Element("geometry")
    plane = ET.SubElement(geometry, "plane")
    _texts(plane, normal="0 0 1", size=_numbers((_FLOOR_SIZE, _FLOOR_SIZE)))
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


def _static_model(
    name: str, position: tuple[float, float, float], yaw: float
) -> tuple[ET.Element, ET.Element]:
    """A model that stands fast, and its one link."""
    model = ET.Element("model", name=name)
    _texts(model, static="true", pose=_pose(position, yaw))
    return model, ET.SubElement(model, "link", name="link")


def _shape(
    link: ET.Element,
    name: str,
    geometry: ET.Element,
    position: tuple[float, float, float],
    rgb: tuple[float, ...],
    light: float,
) -> None:
    """The same geometry to bump into and to see."""
    collision = ET.SubElement(link, "collision", name=f"{name}_collision")
    visual = ET.SubElement(link, "visual", name=f"{name}_visual")
    for element in (collision, visual):
        if any(position):
            _texts(element, pose=_pose(position))
        # Copies, because indentation is kept in the elements themselves.
        element.append(copy.deepcopy(geometry))
    visual.append(_material(rgb, light))


def _geometry(part: Primitive) -> ET.Element:
    geometry = ET.Element("geometry")
    if part.shape == "box":
        return _box([2 * half for half in part.size])
    if part.shape == "sphere":
        _texts(ET.SubElement(geometry, "sphere"), radius=_numbers(part.size))
    elif part.shape == "cylinder":
        radius, half = part.size
        _texts(ET.SubElement(geometry, "cylinder"), radius=_numbers([radius]), length=_numbers([2 * half]))
    else:
        _texts(ET.SubElement(geometry, "mesh"), uri=CONE_FILE)
    return geometry


def _box(size: Iterable[float]) -> ET.Element:
    geometry = ET.Element("geometry")
    _texts(ET.SubElement(geometry, "box"), size=_numbers(size))
    return geometry


def _material(rgb: Iterable[float], light: float) -> ET.Element:
    """A surface that is ``light`` times its colour everywhere, and brighter where it faces the camera."""
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
    inertial = ET.SubElement(link, "inertial")
    _texts(inertial, mass=f"{_MASS_KG:g}")
    # Nothing steers roll and pitch, so a large inertia keeps the robot upright where it bumps into something.
    _texts(ET.SubElement(inertial, "inertia"), ixx="100", iyy="100", izz="0.5", ixy="0", ixz="0", iyz="0")
    ET.SubElement(link, "collision", name="body").append(_box(_BODY_SIZE))
    for name, position, size in _LOOKS:
        visual = ET.SubElement(link, "visual", name=name)
        _texts(visual, pose=_pose(position))
        visual.append(_box(size))
        visual.append(_material(_ROBOT_RGB, scene.light))
    link.append(_headlight())
    link.append(_camera())
    velocity = ET.SubElement(
        model, "plugin", filename="gz-sim-velocity-control-system", name="gz::sim::systems::VelocityControl"
    )
    _texts(velocity, topic=CMD_VEL_TOPIC)
    odometry = ET.SubElement(
        model,
        "plugin",
        filename="gz-sim-odometry-publisher-system",
        name="gz::sim::systems::OdometryPublisher",
    )
    _texts(
        odometry,
        odom_topic=ODOMETRY_TOPIC,
        odom_frame="odom",
        robot_base_frame="base_link",
        odom_publish_frequency=str(ODOMETRY_RATE_HZ),
        dimensions="2",
    )
    return model


def _headlight() -> ET.Element:
    """The only light of the frames that the models learned from sits at the camera and shines where it looks."""
    light = ET.Element("light", name="headlight", type="directional")
    _texts(
        light,
        pose=_pose(HEAD),
        cast_shadows="false",
        diffuse="1 1 1 1",
        specular="0 0 0 1",
        direction="1 0 0",
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
    camera = ET.SubElement(sensor, "camera")
    _texts(camera, horizontal_fov=f"{FOV_X:.6f}")
    image = ET.SubElement(camera, "image")
    _texts(image, width=str(WIDTH), height=str(HEIGHT), format="R8G8B8")
    _texts(ET.SubElement(camera, "clip"), near="0.01", far="50")
    return sensor


# -- numbers and elements -----------------------------------------------------------------------------------


def _texts(parent: ET.Element, **texts: str) -> None:
    """Add child elements with these texts, in this order."""
    for tag, text in texts.items():
        ET.SubElement(parent, tag).text = text


def _numbers(values: Iterable[float]) -> str:
    # Adding zero turns -0 into 0.
    return " ".join(f"{round(value, 4) + 0.0:g}" for value in values)


def _pose(position: Iterable[float], yaw: float = 0.0) -> str:
    return f"{_numbers(position)} 0 0 {_numbers([yaw])}"


def _rgba(rgb: Iterable[float]) -> str:
    return f"{_numbers(rgb)} 1"


def _linear(rgb: Iterable[float]) -> list[float]:
    """sRGB as linear light: Gazebo's renderer reckons in the latter and shows the former."""
    return [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in rgb]
