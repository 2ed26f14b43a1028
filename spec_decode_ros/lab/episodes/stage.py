"""The stage: one compiled MuJoCo world in which any scene is laid out, to render many scenes fast.

Every slot has every kind of object. Laying out a scene moves and colours bodies, which takes microseconds where
compiling a world takes milliseconds.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from spec_decode_ros.lab.episodes.expert import Pose
from spec_decode_ros.sim.mjcf import cone_mesh_xml, geom_xml, world_xml
from spec_decode_ros.sim.render import HEAD_CAMERA, Camera, RayCaster
from spec_decode_ros.sim.scene import (
    COLORS,
    FLOOR_RGB,
    FOV_Y,
    HEAD,
    KINDS,
    WALL_HEIGHT,
    WALL_RGB,
    WALL_THICKNESS,
    Scene,
    parts,
)

MAX_OBJECTS = 6

RAYS = (48, 96)
"""Rows and columns of the coarse ray cast that finds the visible objects."""


class Stage:
    """A world in which any scene can be laid out and rendered from any pose."""

    def __init__(self, backend: str = "auto"):
        self.model = mujoco.MjModel.from_xml_string(_stage_xml())
        self.data = mujoco.MjData(self.model)
        self.camera = Camera(self.model, backend)
        self.caster = RayCaster(self.model, width=RAYS[1], height=RAYS[0])
        self._slot_of_geom = np.full(self.model.ngeom + 1, -1)
        for slot in range(MAX_OBJECTS):
            for kind in KINDS:
                self._slot_of_geom[self._geoms(slot, kind)] = slot

    def _geoms(self, slot: int, kind: str) -> np.ndarray:
        body = self.model.body(f"{kind}_{slot}")
        return np.arange(body.geomadr[0], body.geomadr[0] + body.geomnum[0])

    def lay_out(self, scene: Scene) -> None:
        """Move the objects and walls to where the scene has them, in its colours."""
        model = self.model
        for slot in range(MAX_OBJECTS):
            for kind in KINDS:
                model.body_pos[model.body(f"{kind}_{slot}").id] = (0, 0, -20)
        for slot, thing in enumerate(scene.objects):
            body = model.body(f"{thing.kind}_{slot}").id
            model.body_pos[body] = (thing.x, thing.y, 0)
            model.body_quat[body] = (math.cos(thing.yaw / 2), 0, 0, math.sin(thing.yaw / 2))
            model.geom_rgba[self._geoms(slot, thing.kind), :3] = COLORS[thing.color]
        t = WALL_THICKNESS / 2
        places = (
            (scene.half_x + t, 0),
            (-scene.half_x - t, 0),
            (0, scene.half_y + t),
            (0, -scene.half_y - t),
        )
        for i, (x, y) in enumerate(places):
            model.body_pos[model.body(f"wall_{i}").id] = (x, y, WALL_HEIGHT / 2)
            model.geom_rgba[model.geom(f"wall_{i}").id, :3] = scene.wall
        model.geom_rgba[model.geom("floor").id, :3] = scene.floor
        model.vis.headlight.ambient[:] = scene.light

    def look(self, pose: Pose, height: float = 0.31, pitch: float = 0.0, roll: float = 0.0) -> None:
        """Place the head camera for a robot with its base at ``pose`` and ``height``, in radians and metres."""
        rotation = _rotation(pose[2], pitch, roll)
        self.model.cam_pos[0] = np.array((pose[0], pose[1], height)) + rotation @ np.array(HEAD)
        # The camera looks along its -z with y up; the robot looks along x with z up.
        axes = np.stack([-rotation[:, 1], rotation[:, 2], -rotation[:, 0]], axis=1)
        mujoco.mju_mat2Quat(self.model.cam_quat[0], axes.reshape(-1))
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def hits(self) -> np.ndarray:
        """Index of the object that each coarse ray hits, of shape ``RAYS``, -1 for none."""
        geoms, _, _ = self.caster.cast(self.data)
        return self._slot_of_geom[geoms]


def _stage_xml() -> str:
    bodies = ['<geom name="floor" type="plane" size="8 8 0.1" rgba="{} {} {} 1"/>'.format(*FLOOR_RGB)]
    for slot in range(MAX_OBJECTS):
        for kind in KINDS:
            geoms = "".join(geom_xml(p, f"{kind}_{slot}_{j}", (1, 1, 1)) for j, p in enumerate(parts(kind)))
            bodies.append(f'<body name="{kind}_{slot}" pos="0 0 -20">{geoms}</body>')
    for i in range(4):
        long, thin = 5.0, WALL_THICKNESS / 2
        size = f"{thin} {long} {WALL_HEIGHT / 2}" if i < 2 else f"{long} {thin} {WALL_HEIGHT / 2}"
        rgba = "{} {} {} 1".format(*WALL_RGB)
        bodies.append(
            f'<body name="wall_{i}"><geom name="wall_{i}" type="box" size="{size}" rgba="{rgba}"/></body>'
        )
    bodies.append(f'<camera name="{HEAD_CAMERA}" pos="0 0 1" fovy="{math.degrees(FOV_Y):.4f}"/>')
    return world_xml(cone_mesh_xml(), "\n    ".join(bodies), 0.6)


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    return (
        np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        @ np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        @ np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    )
