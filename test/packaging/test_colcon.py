"""`colcon build` and `colcon test` treat the package as ament_python and really run its tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from install_environment import ROOT, Environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(os.environ.get("COLCON")), reason="already inside a colcon run"),
]

COLCON = (
    "colcon-core",
    "colcon-ros",
    "colcon-bash",
    "colcon-package-information",
    "colcon-test-result",
    # Newer ones have no `setup.py develop`, which --symlink-install needs.
    "setuptools<80",
    "wheel",
)
NODES = sorted(path.stem for path in (ROOT / "spec_decode_ros/nodes").glob("*_node.py"))


@pytest.fixture(scope="module")
def colcon(new_environment) -> Environment:
    try:
        return new_environment("colcon", *COLCON)
    except AssertionError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"colcon cannot be installed, is a package index reachable? {str(error).strip()[-200:]}")


def run(colcon: Environment, workspace: Path, *arguments: object) -> subprocess.CompletedProcess:
    return colcon.run(
        "colcon", *arguments, cwd=workspace, COLCON_HOME=str(workspace / ".colcon"), timeout=500
    )


@pytest.fixture(scope="module", params=["copied", "symlinked"])
def workspace(request: pytest.FixtureRequest, colcon: Environment, source_copy) -> Path:
    workspace = source_copy(f"workspace_{request.param}").parents[1]
    symlink = ["--symlink-install"] if request.param == "symlinked" else []
    done = run(colcon, workspace, "build", *symlink)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Finished <<< spec_decode_ros" in done.stdout
    return workspace


def test_the_package_is_an_ament_one(colcon: Environment, workspace: Path):
    done = run(colcon, workspace, "list")
    assert done.stdout.split() == ["spec_decode_ros", "src/spec_decode_ros", "(ros.ament_python)"]


def test_executables_and_shared_files_are_where_ros_looks(workspace: Path):
    prefix = workspace / "install/spec_decode_ros"
    for name in ["spec-decode", *NODES]:
        assert os.access(prefix / "lib/spec_decode_ros" / name, os.X_OK), name
    assert (prefix / "share/ament_index/resource_index/packages/spec_decode_ros").is_file()
    for name in ["package.xml", *shared_files()]:
        assert (prefix / "share/spec_decode_ros" / name).is_file(), name


def shared_files() -> list[str]:
    paths = [path for top in ("launch", "config", "worlds") for path in (ROOT / top).rglob("*")]
    return [
        str(path.relative_to(ROOT)) for path in paths if path.is_file() and "__pycache__" not in path.parts
    ]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_a_sourced_workspace_has_the_command_and_its_data(colcon: Environment, workspace: Path):
    script = (
        "source install/local_setup.bash && spec-decode --version && python -c '"
        "import spec_decode_ros; from spec_decode_ros.models.pair import load_pair_config; "
        'print(spec_decode_ros.__file__); print(load_pair_config("tiny").name)\''
    )
    done = colcon.run(shutil.which("bash"), "-c", script, cwd=workspace)
    assert done.returncode == 0, done.stdout + done.stderr
    version, where, pair = done.stdout.split("\n")[:3]
    assert version.startswith("spec-decode ")
    assert str(workspace) in where
    assert pair == "tiny"


def test_colcon_test_runs_the_tests_and_sees_a_failure(colcon: Environment, workspace: Path):
    arguments = (
        "test",
        "--return-code-on-test-failure",
        "--event-handlers",
        "console_direct+",
        "--pytest-args",
    )
    done = run(colcon, workspace, *arguments, "test/packaging/test_metadata.py", "-k", "not Makefile")
    assert done.returncode == 0, done.stdout + done.stderr
    result = run(colcon, workspace, "test-result", "--all").stdout
    summary = result.strip().splitlines()[-1]
    assert int(summary.split()[1]) >= 6, result
    assert "0 errors, 0 failures" in summary

    failing = workspace / "src/spec_decode_ros/test/test_that_fails.py"
    failing.write_text("def test_that_fails():\n    assert 1 == 2\n")
    try:
        done = run(colcon, workspace, *arguments, "test/test_that_fails.py")
        assert done.returncode != 0
    finally:
        failing.unlink()
