"""MuJoCo reads ``MUJOCO_GL`` when it is imported, so the package that sets it comes before any test module."""

import spec_decode_ros.sim  # noqa: F401
