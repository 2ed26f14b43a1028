"""Rooms of the simulation as files that Gazebo reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim.scene import Scene
from spec_decode_ros.sim.sdf import CONE_FILE, cone_obj, needs_cone, to_sdf


def write_world(scene: Scene, path: Path) -> Sequence[Path]:
    """Write the room, and the shape of a cone beside it where there is one; returns what was written.

    Raises:
        SpecDecodeError: the file has a name that Gazebo does not take, or can't be written.
    """
    if path.suffix not in (".sdf", ".world"):
        raise SpecDecodeError(f"Gazebo takes worlds from files that end in .sdf: {path} does not")
    files = {path: to_sdf(scene, re.sub(r"[^\w-]", "_", path.stem))}
    if needs_cone(scene):
        files[path.with_name(CONE_FILE)] = cone_obj()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecDecodeError(f"{error.filename} can't be written: {error.strerror}") from error
    return list(files)
