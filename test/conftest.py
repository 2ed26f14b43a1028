"""One torch thread and no deadlines for tests, and how pytest-xdist shares them out to two processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything imports torch, and for the processes that tests start: two busy threads on two cores are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A test never depends on wall time; hypothesis by default fails an example that takes more than 200 ms.
settings.register_profile("project", settings.default, deadline=None)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Commands set up a log for their process, which here is that of all tests."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


TOGETHER = {"demo", "faults", "nodes", "robots", "teleop", "test_go2_dds.py"}
"""Folders and files whose tests drive robots in real time: one after the other, beside those that mostly compute."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.hasplugin("xdist"):
        return
    root = Path(__file__).parent
    for item in items:
        if TOGETHER & set(item.path.relative_to(root).parts):
            item.add_marker(pytest.mark.xdist_group("robots"))
