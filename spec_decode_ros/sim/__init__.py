"""The simulated world.

MuJoCo reads ``MUJOCO_GL`` when it is imported, so the choice is made here, before any module of this package
imports it: what the user set, else EGL, else OSMesa, else no OpenGL at all (frames are then cast ray by ray).
"""

import os
from ctypes.util import find_library


def _gl_backend() -> str:
    for backend, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if find_library(library):
            return backend
    return "disable"


os.environ.setdefault("MUJOCO_GL", _gl_backend())
