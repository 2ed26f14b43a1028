"""One torch thread for every test, and how tests are shared out when pytest-xdist runs them in two processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before anything imports torch, and for the processes that tests start: two busy threads on two cores are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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
