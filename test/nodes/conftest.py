"""A ROS domain and a watching node for every test of the nodes."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds the emergency stop that another one left."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="session")
def domain() -> Iterator[int]:
    """A ROS domain that no other test session on this machine uses at the same time."""
    for candidate in range(1, 100):
        number = 1 + (os.getpid() + candidate) % 100
        lock = open(Path(tempfile.gettempdir()) / f"ros_domain_{number}.lock", "w")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        os.environ["ROS_DOMAIN_ID"] = str(number)
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        yield number
        lock.close()
        return
    pytest.fail("all ROS domains are taken")


@pytest.fixture
def ros(domain: int, tmp_path: Path):  # type: ignore[no-untyped-def]
    """The test's own node (see ros_session.Ros), and the end of every process that it started."""
    from ros_session import Ros

    session = Ros(tmp_path)
    try:
        yield session
    finally:
        session.close()


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An install prefix as colcon leaves it, as far as launch looks at it."""
    from launched import add_executable

    root = tmp_path / "prefix"
    index = root / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    nodes = Path(__file__).resolve().parents[2] / "spec_decode_ros" / "nodes"
    for node in sorted(path.stem for path in nodes.glob("*_node.py")):
        add_executable(root, "spec_decode_ros", node, f"-m spec_decode_ros.nodes.{node}")
    return root


@pytest.fixture
def launch(domain: int, prefix: Path, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Starts a launch file with arguments (see launched.Launched); all of them are ended afterwards."""
    from launched import Launched

    running: list[Launched] = []

    def start(file: str, **arguments: object) -> Launched:
        launched = Launched(file, prefix, tmp_path / f"launch_{len(running)}.log", **arguments)
        running.append(launched)
        return launched

    yield start
    for launched in running:
        launched.close()
