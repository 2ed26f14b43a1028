"""Copies of the source and new environments, as fixtures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from install_environment import LEFT_BEHIND, ROOT, Environment


@pytest.fixture(scope="session")
def source_copy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Copies the source, without what builds and runs leave behind, into a folder called spec_decode_ros."""

    def copy(name: str) -> Path:
        target = tmp_path_factory.mktemp(name) / "src" / "spec_decode_ros"
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
        return target

    return copy


@pytest.fixture(scope="session")
def new_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Environment]:
    """Makes an :class:`Environment`."""
    return lambda name, *packages: Environment(tmp_path_factory.mktemp(name) / "prefix", packages)
