"""MuJoCo worlds: writes a scene as MJCF."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from spec_decode_ros.sim.scene import COLORS, CONE_SIDES, SKY_RGB, Primitive, Scene, parts, walls


def to_mjcf(scene: Scene) -> str:
    """The MJCF document of a room without a robot.

    Geoms are named ``floor``, ``wall_<index>`` and ``object_<index>_<part>``.
    """
    lines = [
        f'<geom name="floor" type="plane" size="8 8 0.1" rgba="{_numbers(scene.floor)} 1"/>',
        *(
            f'<geom name="wall_{i}" type="box" pos="{_numbers(p)}" size="{_numbers(s)}" '
            f'rgba="{_numbers(scene.wall)} 1"/>'
            for i, (p, s) in enumerate(walls(scene.half_x, scene.half_y))
        ),
    ]
    for i, thing in enumerate(scene.objects):
        geoms = (
            geom_xml(part, f"object_{i}_{j}", COLORS[thing.color]) for j, part in enumerate(parts(thing.kind))
        )
        lines.append(
            f'<body name="object_{i}" pos="{thing.x:.4f} {thing.y:.4f} 0" euler="0 0 {thing.yaw:.4f}">'
            f"{''.join(geoms)}</body>"
        )
    return world_xml(cone_mesh_xml(), "\n    ".join(lines), scene.light)


def geom_xml(part: Primitive, name: str, rgb: tuple[float, ...]) -> str:
    """The MJCF element of one primitive; a cone is the mesh named ``cone``."""
    x, y, z = part.position
    color = f'rgba="{_numbers(rgb, 3)} 1"'
    if part.shape == "cone":
        # The origin of the mesh is the centre of its base.
        position = _numbers((x, y, z - part.size[1]))
        return f'<geom name="{name}" type="mesh" mesh="cone" pos="{position}" {color}/>'
    size, position = _numbers(part.size), _numbers((x, y, z))
    return f'<geom name="{name}" type="{part.shape}" size="{size}" pos="{position}" {color}/>'


def cone_mesh_xml() -> str:
    """The MJCF mesh asset of a cone in the size that scenes use."""
    radius, half = parts("cone")[0].size
    angles = np.arange(CONE_SIDES) * 2 * math.pi / CONE_SIDES
    ring = [(radius * math.cos(a), radius * math.sin(a), 0.0) for a in angles]
    vertices = _numbers(value for point in [*ring, (0.0, 0.0, 2 * half)] for value in point)
    return f'<mesh name="cone" vertex="{vertices}"/>'


def world_xml(assets: str, bodies: str, light: float) -> str:
    """An MJCF document of the given assets and bodies, with the light and sky that all scenes share."""
    sky = " ".join(str(v) for v in SKY_RGB)
    return f"""<mujoco model="scene">
  <compiler angle="radian" autolimits="true"/>
  <visual>
    <headlight ambient="{light:.3f} {light:.3f} {light:.3f}" diffuse="0.4 0.4 0.4" specular="0 0 0"/>
    <quality shadowsize="0" offsamples="0"/>
    <map znear="0.01" zfar="50"/>
    <global offwidth="1280" offheight="960"/>
  </visual>
  <asset>
    <texture type="skybox" builtin="flat" rgb1="{sky}" rgb2="{sky}" width="8" height="48"/>
    {assets}
  </asset>
  <worldbody>
    {bodies}
  </worldbody>
</mujoco>"""


def _numbers(values: Iterable[float], digits: int = 4) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)
