"""Pictures of the robot in its room, seen from outside, for documents and reports."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import mujoco
import numpy as np

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim.simulation import Simulation

View = Literal["behind", "above"]


def picture(
    simulation: Simulation, view: View = "behind", width: int = 960, height: int = 540, trail: bool = True
) -> np.ndarray:
    """A picture of the room with the robot, (height, width, 3) uint8.

    Args:
        simulation: made with ``visual=True``; otherwise the robot is drawn as the plain shapes of its physics.
        view: ``behind`` looks over the robot's shoulder, ``above`` down on the whole room.
        width: pixels, at most 1280.
        height: pixels, at most 960.
        trail: draw the way that the robot has come.

    Raises:
        SpecDecodeError: there is no OpenGL here.
    """
    try:
        renderer = mujoco.Renderer(simulation.model, height, width)
    except Exception as error:
        # Drivers raise whatever they like; all of it means the same to the user.
        raise SpecDecodeError(
            f"pictures from outside need OpenGL ({error}): install libegl1 and libgl1-mesa-dri"
        ) from error
    try:
        options = mujoco.MjvOption()
        has_meshes = bool(np.any(simulation.model.geom_group == 2))
        options.geomgroup[:] = (1, 1, has_meshes, not has_meshes, 0, 0)
        renderer.update_scene(simulation.robot.data, _camera(simulation, view, width / height), options)
        if trail:
            _draw_trail(renderer.scene, simulation)
        return renderer.render()
    finally:
        renderer.close()


def _camera(simulation: Simulation, view: View, aspect: float) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    pose, scene = simulation.robot.pose, simulation.scene
    if view == "behind":
        camera.lookat[:] = (pose.x + 0.9 * math.cos(pose.yaw), pose.y + 0.9 * math.sin(pose.yaw), 0.15)
        camera.distance, camera.elevation = 2.6, -28.0
        camera.azimuth = math.degrees(pose.yaw) - 25.0
    else:
        camera.lookat[:] = (0.0, 0.0, 0.0)
        camera.elevation, camera.azimuth = -90.0, 90.0
        # MuJoCo's free camera sees 45 degrees in height.
        camera.distance = 1.1 * max(scene.half_y, scene.half_x / aspect) / math.tan(math.radians(22.5)) + 1.2
    return camera


def _draw_trail(scene: mujoco.MjvScene, simulation: Simulation) -> None:
    points = [np.array((pose.x, pose.y, 0.02)) for _, pose in simulation.path]
    for a, b in pairwise(points):
        if scene.ngeom >= scene.maxgeom:
            return
        if np.linalg.norm(b - a) < 0.005:
            continue
        geom = scene.geoms[scene.ngeom]
        color = np.array((0.05, 0.55, 0.95, 1.0), np.float32)
        kind = mujoco.mjtGeom.mjGEOM_CAPSULE
        mujoco.mjv_initGeom(geom, kind, np.zeros(3), np.zeros(3), np.eye(3).flatten(), color)
        mujoco.mjv_connector(geom, kind, 0.015, a, b)
        scene.ngeom += 1
