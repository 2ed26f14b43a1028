"""The simulator: rooms and a walking Go2 in MuJoCo, the Go2 behind Unitree's services, the same rooms for Gazebo.

MuJoCo reads ``MUJOCO_GL`` when it is imported. So it is set here, before any module of this package imports MuJoCo:
what the user chose, else EGL, else OSMesa, else no OpenGL (frames are then ray-cast).
"""

import os
from ctypes.util import find_library


def _gl_backend() -> str:
    for backend, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if find_library(library):
            return backend
    return "disable"


os.environ.setdefault("MUJOCO_GL", _gl_backend())
