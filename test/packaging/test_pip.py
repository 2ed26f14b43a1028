"""`pip install .` and `pip install -e .` bring everything that the colcon build brings."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path

import pytest
from install_environment import ROOT, Environment

NODES = sorted(path.stem for path in (ROOT / "spec_decode_ros/nodes").glob("*_node.py"))
NO_BUILD_ENVIRONMENT = ("--no-deps", "--no-build-isolation", "-q")


@pytest.fixture(scope="module")
def wheel(source_copy: Callable[[str], Path], new_environment, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    new_environment("build").pip("wheel", *NO_BUILD_ENVIRONMENT, "-w", target, source_copy("wheel_source"))
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request: pytest.FixtureRequest, source_copy, new_environment) -> Environment:
    environment = new_environment(request.param)
    if request.param == "wheel":
        environment.pip("install", "--no-deps", "-q", request.getfixturevalue("wheel"))
    else:
        environment.pip("install", *NO_BUILD_ENVIRONMENT, "-e", source_copy("editable_source"))
    return environment


def test_the_wheel_holds_every_file_of_the_package(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for path in (ROOT / "spec_decode_ros").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
            assert str(path.relative_to(ROOT)) in names
    assert "spec_decode_ros/config/pairs/tiny.yaml" in names
    assert not [name for name in names if name.startswith(("test/", "out/"))]


def test_the_wheel_holds_the_share_folder_and_executables(wheel: Path):
    data = wheel.name.rsplit("-py3", 1)[0] + ".data/data"
    with zipfile.ZipFile(wheel) as archive:
        names = {name.removeprefix(f"{data}/") for name in archive.namelist() if name.startswith(data)}
        modes = {Path(info.filename).name: info.external_attr >> 16 for info in archive.infolist()}
    assert "share/ament_index/resource_index/packages/spec_decode_ros" in names
    assert "share/spec_decode_ros/package.xml" in names
    for top in ("launch", "config", "worlds"):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"share/spec_decode_ros/{path.relative_to(ROOT)}" in names
    for name in ["spec-decode", *NODES]:
        assert f"lib/spec_decode_ros/{name}" in names
        assert modes[name] & stat.S_IXUSR
    assert "bin/spec-decode" not in names, "pip writes this one itself"


def test_the_wheel_asks_for_little_and_offers_the_extras(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    requirements = metadata.get_all("Requires-Dist")
    core = {line.split(">")[0] for line in requirements if "extra ==" not in line}
    assert core == {"numpy", "pyyaml", "pyzmq", "msgpack", "rich", "pillow"}
    extras = set(metadata.get_all("Provides-Extra"))
    assert extras >= {"drafter", "cloud", "sim", "train", "ros", "bags", "plot", "test"}
    assert metadata["Requires-Python"] == ">=3.10"
    assert (metadata["License"] or metadata["License-Expression"]) == "Apache-2.0"


def test_the_command_runs_without_any_ros(installed: Environment):
    assert installed.output("spec-decode", "--version").startswith("spec-decode ")
    code = (
        "import sys; sys.modules['rclpy'] = None\n"
        "from spec_decode_ros.models.pair import load_pair_config\n"
        "print(load_pair_config('tiny'))"
    )
    assert "tiny" in installed.output("python", "-c", code)


def test_the_installed_package_is_the_one_that_runs(installed: Environment, request: pytest.FixtureRequest):
    where = Path(
        installed.output("python", "-c", "import spec_decode_ros; print(spec_decode_ros.__file__)").strip()
    )
    if request.node.callspec.params["installed"] == "wheel":
        assert installed.site_packages in where.parents
    else:
        assert where.parent.parent.name == "spec_decode_ros"
        assert "editable_source" in str(where)
    assert ROOT not in where.parents


def test_ros_finds_the_package_in_the_prefix(installed: Environment):
    pytest.importorskip(
        "ament_index_python", reason="the ament index is not installed: pip install ros-kilted-rclpy"
    )
    code = (
        "from ament_index_python.packages import get_package_prefix, get_package_share_directory as share\n"
        "print(get_package_prefix('spec_decode_ros')); print(share('spec_decode_ros'))"
    )
    prefix, share = installed.output("python", "-c", code, AMENT_PREFIX_PATH=str(installed.prefix)).split()
    assert Path(prefix) == installed.prefix
    assert (Path(share) / "package.xml").is_file()


@pytest.mark.parametrize("name", ["spec-decode", *NODES])
def test_executables_under_lib_reach_their_module(installed: Environment, name: str, tmp_path: Path):
    """As ros2 launch starts them: by path, with neither the environment's bin on the PATH nor a Python named."""
    shim = installed.prefix / "lib/spec_decode_ros" / name
    module = "spec_decode_ros.cli" if name == "spec-decode" else f"spec_decode_ros.nodes.{name}"
    probe = (
        "import sys, types\n"
        f"module = types.ModuleType({module!r})\n"
        "module.main = lambda *_: print(sys.prefix, sys.argv[1:]) or 5\n"
        f"sys.modules[{module!r}] = module\n"
    )
    (tmp_path / "sitecustomize.py").write_text(probe)
    done = installed.run(
        str(shim), "--ros-args", "a b", cwd=tmp_path, PATH="/usr/bin:/bin", PYTHONPATH=str(tmp_path)
    )
    assert done.returncode == 5, done.stderr
    assert done.stdout.strip() == f"{installed.prefix} ['--ros-args', 'a b']"
