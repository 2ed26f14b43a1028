"""How the tests are shared out when pytest-xdist runs them in two processes."""

from __future__ import annotations

from pathlib import Path

import pytest

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
