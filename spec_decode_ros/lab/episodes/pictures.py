"""A picture of the simulated robot in its room, seen from behind its shoulder, for reports."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim.simulation import Simulation

WIDTH, HEIGHT = 960, 540


def picture(simulation: Simulation) -> np.ndarray:
    """The room with the robot, (540, 960, 3) uint8.

    Args:
        simulation: made with ``visual=True``; otherwise the robot is drawn by its collision shapes.

    Raises:
        SpecDecodeError: there is no OpenGL here.
    """
    try:
        renderer = mujoco.Renderer(simulation.model, HEIGHT, WIDTH)
    except Exception as error:
        # Drivers raise exceptions of any kind; all of them mean the same to the user.
        raise SpecDecodeError(
            f"pictures from outside need OpenGL ({error}): install libegl1 and libgl1-mesa-dri"
        ) from error
    try:
        options = mujoco.MjvOption()
        has_meshes = bool(np.any(simulation.model.geom_group == 2))
        options.geomgroup[:] = (1, 1, has_meshes, not has_meshes, 0, 0)
        renderer.update_scene(simulation.robot.data, _camera(simulation), options)
        return renderer.render()
    finally:
        renderer.close()


def _camera(simulation: Simulation) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    pose = simulation.robot.pose
    camera.lookat[:] = (pose.x + 0.9 * math.cos(pose.yaw), pose.y + 0.9 * math.sin(pose.yaw), 0.15)
    camera.distance, camera.elevation = 2.6, -28.0
    camera.azimuth = math.degrees(pose.yaw) - 25.0
    return camera
