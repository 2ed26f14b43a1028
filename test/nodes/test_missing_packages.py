"""A node whose packages are missing says in one sentence what to run, however it is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spec_decode_ros.extras import missing_module_sentence

START_S = 120.0

_HIDING = """
import importlib.machinery, os, sys
hidden = os.environ["HIDDEN"].split(",")
class Hiding(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in hidden else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Hiding
"""


def started_without(missing: str, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """What the command says where a module is not installed."""
    (folder / "sitecustomize.py").write_text(_HIDING)
    path = os.pathsep.join([str(folder), *(entry for entry in sys.path if entry)])
    environment = {**os.environ, "HIDDEN": missing, "PYTHONPATH": path, "ROS_LOG_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_S,
    )


@pytest.mark.parametrize(
    ("node", "missing", "arguments"),
    [
        ("sim_node", "mujoco", []),
        ("drafter_node", "torch", []),
        ("drafter_node", "transformers", []),
        ("drafter_node", "zmq", []),
        ("planner_node", "torch", ["-p", "pair:=tiny"]),
        ("cloud_bridge_node", "torch", []),
        ("replay_node", "rosbags", ["-p", "bag:=BAG"]),
        ("recorder_node", "rosbags", ["-p", "out:=BAG"]),
        ("camera_node", "cv2", ["-p", "source:='0'"]),
        ("motion_node", "rclpy", []),
        ("teleop_node", "rclpy", []),
    ],
)
def test_a_node_without_a_package_says_what_to_run(
    node: str, missing: str, arguments: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("rclpy")
    places = [each.replace("BAG", str(tmp_path / "walk")) for each in arguments]
    options = ["--ros-args", *places] if places else []
    done = started_without(missing, tmp_path, "-m", f"spec_decode_ros.nodes.{node}", *options)
    said = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert done.returncode == 1 and len(said) == 1, done.stderr
    assert "Traceback" not in done.stderr
    if missing == "cv2":
        assert "pip install opencv-python-headless" in said[0]
    else:
        assert (missing_module_sentence(missing) or "?") in said[0]


def test_so_does_an_installed_executable(tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    code = "import sys; from spec_decode_ros.nodes.sim_node import main; sys.exit(main())"
    done = started_without("mujoco", tmp_path, "-c", code)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert (missing_module_sentence("mujoco") or "?") in done.stderr
