"""The latch of the emergency stop on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from spec_decode_ros.robots.latch import Latch, state_folder


def test_it_holds_until_it_is_cleared(tmp_path: Path) -> None:
    latch = Latch(tmp_path / "new", "7 /go2/motion_node")
    assert latch.reason == ""
    latch.clear()
    latch.set("asked for\nby service")
    again = Latch(tmp_path / "new", "7 /go2/motion_node")
    assert again.reason == "asked for by service"
    assert Latch(tmp_path / "new", "7 /other/motion_node").reason == ""
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["7_go2_motion_node.emergency_stop"]
    again.clear()
    assert latch.reason == ""


def test_what_is_empty_or_cannot_be_read_is_latched(tmp_path: Path) -> None:
    latch = Latch(tmp_path, "motion_node")
    latch.path.write_text("")
    assert latch.reason
    latch.path.unlink()
    latch.path.mkdir()
    assert "cannot be read" in latch.reason


def test_it_lies_where_a_users_state_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "spec_decode_ros"
    assert state_folder(str(tmp_path / "own")) == tmp_path / "own"
