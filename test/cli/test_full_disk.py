"""A disk that is full costs the picture and one sentence, and never the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spec_decode_ros.cli import EXIT_USAGE, main

FULL = Path("/dev/full")
BAG = Path(__file__).parents[1] / "data" / "walk"

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")

COMMANDS = {
    "grid": ["simulate", "--grid", "--actions", "2"],
    "velocity": ["velocity", str(BAG)],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_written_although_the_picture_is_not(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "velocity":
        pytest.importorskip("rosbags", reason="rosbags is not installed: bags cannot be read")
    picture, told = tmp_path / "picture.png", tmp_path / "told.json"
    picture.symlink_to(FULL)
    assert main([*COMMANDS[name], "--plot", str(picture), "--json", str(told)]) == EXIT_USAGE
    (said,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("spec-decode: "))
    assert said == f"spec-decode: cannot write {picture}: No space left on device"
    assert json.loads(told.read_text())


@pytest.mark.parametrize("json_file", ["-", str(FULL)])
def test_a_full_disk_under_json_is_one_sentence(json_file: str) -> None:
    command = [sys.executable, "-m", "spec_decode_ros", "network", "lan", "--json", json_file]
    with FULL.open("w") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == EXIT_USAGE
    (said,) = done.stderr.splitlines()
    assert said.startswith("spec-decode: ") and "No space left on device" in said
