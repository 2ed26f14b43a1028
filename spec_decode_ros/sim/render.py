"""The head camera: frames rendered with OpenGL, or ray-cast where there is no OpenGL.

Both render the same picture: one light at the camera, flat colours, no shadows, without the robot itself.
"""

from __future__ import annotations

import logging
import math
import os

import mujoco
import numpy as np
from PIL import Image

from spec_decode_ros.pictures import encode_jpeg
from spec_decode_ros.sim.scene import FOV_X, FOV_Y, HEIGHT, SKY_RGB, WIDTH

JPEG_QUALITY = 85
BACKENDS = ("egl", "osmesa", "ray")
HEAD_CAMERA = "head"

_VISIBLE_GROUPS = np.array([1, 1, 0, 0, 0, 0], np.uint8)
_log = logging.getLogger(__name__)


def to_jpeg(rgb: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """JPEG bytes of an (H, W, 3) uint8 picture."""
    return encode_jpeg(Image.fromarray(rgb), quality=quality)


def ray_directions(width: int, height: int) -> np.ndarray:
    """Unit vectors (height, width, 3) through the centres of the pixels; the camera looks along its -z."""
    top, right = math.tan(FOV_Y / 2), math.tan(FOV_X / 2)
    x = (2 * (np.arange(width) + 0.5) / width - 1) * right
    y = (1 - 2 * (np.arange(height) + 0.5) / height) * top
    rays = np.stack(np.broadcast_arrays(x[None, :], y[:, None], -1.0), axis=-1)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


class RayCaster:
    """Casts the rays of the head camera and returns what they hit."""

    def __init__(self, model: mujoco.MjModel, width: int = WIDTH, height: int = HEIGHT):
        self._model = model
        self._camera = model.camera(HEAD_CAMERA).id
        self._shape = (height, width)
        self._rays = ray_directions(width, height).reshape(-1, 3)
        count = len(self._rays)
        self._geoms = np.empty(count, np.int32)
        self._distances = np.empty(count)
        self._normals = np.empty(count * 3)

    def cast(self, data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Geom ids (H, W), -1 for nothing; distances (H, W) in m; cosines of the light's incidence (H, W)."""
        origin = data.cam_xpos[self._camera]
        directions = self._rays @ data.cam_xmat[self._camera].reshape(3, 3).T
        mujoco.mj_multiRay(
            self._model,
            data,
            origin,
            directions.reshape(-1),
            _VISIBLE_GROUPS,
            True,
            -1,
            self._geoms,
            self._distances,
            self._normals,
            len(directions),
            mujoco.mjMAXVAL,
        )
        # MuJoCo's headlight is directional: its rays are parallel to the line of sight.
        toward_light = data.cam_xmat[self._camera].reshape(3, 3)[:, 2]
        cosines = self._normals.reshape(-1, 3) @ toward_light
        return (
            self._geoms.reshape(self._shape),
            self._distances.reshape(self._shape),
            np.clip(cosines, 0.0, 1.0).reshape(self._shape),
        )

    def rgb(self, data: mujoco.MjData) -> np.ndarray:
        """A shaded picture (H, W, 3) uint8, as OpenGL would render it."""
        geoms, _, cosines = self.cast(data)
        headlight = self._model.vis.headlight
        shade = headlight.ambient[0] + headlight.diffuse[0] * cosines
        color = self._model.geom_rgba[geoms, :3] * shade[..., None]
        color[geoms < 0] = SKY_RGB
        return (np.clip(color, 0, 1) * 255 + 0.5).astype(np.uint8)


class Camera:
    """Renders the pictures of the head camera.

    Args:
        model: the compiled world.
        backend: ``egl`` or ``osmesa`` (whichever ``MUJOCO_GL`` names), ``ray``, or ``auto``: OpenGL if it
            works, else ``ray``.
    """

    def __init__(self, model: mujoco.MjModel, backend: str = "auto"):
        if backend not in (*BACKENDS, "auto"):
            raise ValueError(f"no camera backend {backend!r}: choose one of {', '.join(BACKENDS)} or auto")
        self._renderer = None if backend == "ray" else self._open_gl(model, required=backend != "auto")
        self.backend = os.environ["MUJOCO_GL"] if self._renderer else "ray"
        self._rays = None if self._renderer else RayCaster(model)
        self._options = mujoco.MjvOption()
        self._options.geomgroup[:] = _VISIBLE_GROUPS

    @staticmethod
    def _open_gl(model: mujoco.MjModel, required: bool) -> mujoco.Renderer | None:
        try:
            renderer = mujoco.Renderer(model, HEIGHT, WIDTH)
        except Exception as error:
            # Drivers raise exceptions of any kind.
            if required:
                raise RuntimeError(
                    f"no OpenGL here ({error}): install libegl1 and libgl1-mesa-dri, or use backend ray"
                ) from error
            _log.info("no OpenGL here (%s): frames are ray-cast", error)
            return None
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        return renderer

    def rgb(self, data: mujoco.MjData) -> np.ndarray:
        """What the camera sees now, (192, 384, 3) uint8."""
        if self._renderer is None:
            return self._rays.rgb(data)
        self._renderer.update_scene(data, HEAD_CAMERA, self._options)
        return self._renderer.render()

    def jpeg(self, data: mujoco.MjData) -> bytes:
        """What the camera sees now, as JPEG bytes."""
        return to_jpeg(self.rgb(data))

    def close(self) -> None:
        """Free the OpenGL context; safe to call twice."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
