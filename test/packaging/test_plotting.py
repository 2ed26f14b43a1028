"""What runs on the robot must not import a plotting library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import spec_decode_ros

PACKAGE = Path(spec_decode_ros.__file__).parent
NEEDED = {"nodes": ("rclpy", "textual"), "teleop": ("textual",)}
OF_VIZ = ("overlay", "decoded_action", "contrast", "style")


def modules(room: str) -> list[str]:
    names = OF_VIZ if room == "viz" else sorted(path.stem for path in (PACKAGE / room).glob("*.py"))
    return [f"spec_decode_ros.{room}.{name}" for name in names if name != "__init__"]


@pytest.mark.parametrize("room", ["nodes", "teleop", "edge", "robots", "transport", "viz"])
def test_nothing_on_the_robot_imports_matplotlib(room: str) -> None:
    for name in NEEDED.get(room, ()):
        pytest.importorskip(name, reason=f"{name} is not installed: {room} needs it")
    code = f"import importlib, sys\nsys.modules['matplotlib'] = None\nfor name in {modules(room)!r}:\n"
    code += "    importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
