"""Build script for colcon (ament_python) and for pip; the metadata is here because colcon reads it here."""

import re
import runpy
import stat
from pathlib import Path

from setuptools import find_packages, setup

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1, as on Ubuntu 22.04
    try:
        from wheel.bdist_wheel import bdist_wheel
    except ImportError:
        bdist_wheel = None
try:
    from setuptools.command.editable_wheel import editable_wheel
except ImportError:
    editable_wheel = None

NAME = "spec_decode_ros"
ROOT = Path(__file__).resolve().parent
SHARE = f"share/{NAME}"
COLCON_BIN = ("bin", ["resource/spec-decode"])

extras = runpy.run_path(str(ROOT / NAME / "extras.py"))
version = re.search(r'^__version__ = "(.+)"$', (ROOT / NAME / "__init__.py").read_text(), re.MULTILINE).group(
    1
)
readme = ROOT / "README.md"

nodes = sorted(path.stem for path in (ROOT / NAME / "nodes").glob("*_node.py"))
entry_points = [f"spec-decode = {NAME}.cli:main"] + [f"{node} = {NAME}.nodes.{node}:main" for node in nodes]

SHIM = """#!/bin/sh
# Installed with the wheel, where ros2 launch and ros2 run look for executables; moves with its prefix.
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
python="$here/../../bin/python3"
[ -x "$python" ] || python=python3
exec "$python" -c 'import sys; from {module} import main; sys.exit(main())' "$@"
"""


def share_files():
    """(destination, [sources]) for everything that is found through the ament index."""
    yield "share/ament_index/resource_index/packages", [f"resource/{NAME}"]
    yield SHARE, ["package.xml"]
    yield COLCON_BIN
    for top in ("launch", "config", "worlds"):
        for folder in sorted({path.parent for path in (ROOT / top).rglob("*") if path.is_file()}):
            if folder.name != "__pycache__":
                relative = folder.relative_to(ROOT)
                files = sorted(str(path.relative_to(ROOT)) for path in folder.iterdir() if path.is_file())
                yield f"{SHARE}/{relative}", files


def package_data():
    """Everything inside the package that is not Python: checkpoints, pair files and other configuration."""
    base = ROOT / NAME
    return sorted(
        str(path.relative_to(base))
        for path in base.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    )


def add_shims(distribution):
    """What colcon does by itself and pip does not: executables under lib/<package>/.

    The other way round, pip makes the command in bin/ by itself and colcon does not.
    """
    folder = Path("build") / "shims"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for line in entry_points:
        name, _, target = line.partition(" = ")
        shim = folder / name
        shim.write_text(SHIM.replace("{module}", target.partition(":")[0]))
        shim.chmod(shim.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        files.append(str(shim))
    destination = f"lib/{NAME}"
    data_files = [entry for entry in distribution.data_files if entry != COLCON_BIN]
    distribution.data_files = [*data_files, (destination, files)]


def with_shims(command):
    class WithShims(command):
        def run(self):
            add_shims(self.distribution)
            # setuptools asks a distribution `has_data` before it puts data files into an editable wheel, and
            # distributions only know `has_data_files`.
            self.distribution.has_data = self.distribution.has_data_files
            super().run()

    WithShims.__name__ = command.__name__
    return WithShims


setup(
    name=NAME,
    version=version,
    description="Speculative edge-cloud decoding for robots driven by vision-language models",
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    author="spec_decode_ros maintainers",
    maintainer="spec_decode_ros maintainers",
    maintainer_email="spec-decode-ros@users.noreply.github.com",
    url="https://index.ros.org/p/spec_decode_ros/",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: package_data()},
    data_files=list(share_files()),
    install_requires=list(extras["CORE"]),
    extras_require={name: list(requirements) for name, requirements in extras["EXTRAS"].items()},
    entry_points={"console_scripts": entry_points},
    cmdclass={
        name: with_shims(command)
        for name, command in (("bdist_wheel", bdist_wheel), ("editable_wheel", editable_wheel))
        if command is not None
    },
    zip_safe=False,
)
