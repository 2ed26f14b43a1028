"""`spec-decode keygen` as an operator of a cloud uses it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from spec_decode_ros.cli import main
from spec_decode_ros.transport.keys import robot_keys, server_keys


def test_from_nothing_to_a_fleet_and_one_robot_less(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "keys"
    assert main(["keygen", str(folder), "--robot", "go2-a", "--robot", "go2-b"]) == 0
    told = capsys.readouterr().out
    assert f"copy {folder / 'go2-a'} to the robot" in told
    assert f"spec-decode serve --bind tcp://0.0.0.0:5555 --keys {folder}" in told
    assert robot_keys(folder / "go2-b").server == server_keys(folder).public
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*.key_secret")} == {0o600}
    assert main(["keygen", str(folder), "--list"]) == 0
    assert "go2-a" in (listed := capsys.readouterr().out) and "go2-b" in listed
    assert main(["keygen", str(folder), "--revoke", "go2-a"]) == 0
    assert "go2-a is shut out" in capsys.readouterr().out
    assert main(["keygen", str(folder), "--list", "--json", "-"]) == 0
    (left,) = json.loads(capsys.readouterr().out)
    assert left["name"] == "go2-b"
    assert len(left["key"]) == 40


def test_a_balancer_is_told_from_robots_and_revoked_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def listed() -> list[tuple[str, bool]]:
        capsys.readouterr()
        assert main(["keygen", str(tmp_path), "--list", "--json", "-"]) == 0
        return [(each["name"], each["balancer"]) for each in json.loads(capsys.readouterr().out)]

    assert main(["keygen", str(tmp_path), "--balancer", "front", "--balancer", "back"]) == 0
    assert f"copy {tmp_path / 'front'} to the balancer" in capsys.readouterr().out
    assert main(["keygen", str(tmp_path), "--robot", "go2"]) == 0
    assert listed() == [("back", True), ("front", True), ("go2", False)]
    assert main(["keygen", str(tmp_path), "--list"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows[1:]] == [["back", "balancer"], ["front", "balancer"], ["go2", "robot"]]
    assert main(["keygen", str(tmp_path), "--revoke", "front"]) == 0
    assert listed() == [("back", True), ("go2", False)]
    with pytest.raises(SystemExit):
        main(["keygen", str(tmp_path), "--balancer", "other", "--robot", "one"])
    assert "not allowed with" in capsys.readouterr().err


def test_keys_that_were_made_are_told_though_the_next_name_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keygen", str(tmp_path), "--robot", "go2-a", "--robot", "no good"]) == 2
    said = capsys.readouterr()
    assert f"copy {tmp_path / 'go2-a'}" in said.out and "'no good'" in said.err
    assert main(["keygen", str(tmp_path), "--robot", "no good"]) == 2
    assert capsys.readouterr().out == ""


def test_without_a_name_there_is_a_first_robot_and_then_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keygen", str(tmp_path)]) == 0
    assert "new keys" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["keygen", str(tmp_path)]) == 0
    assert "is complete" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--revoke", "nobody"], "There is no robot 'nobody'"),
        (["--robot", "robot"], "There are keys for 'robot' already; shut it out first with"),
        (["--robot", "../x"], "A robot's name has 1 to 64 letters"),
        (["--robot", "cloud"], "is not 'cloud'"),
        (["--revoke", "../cloud"], "A robot's name"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["keygen", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["keygen", str(tmp_path), *arguments]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


def test_a_folder_that_is_none_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keygen", str(tmp_path / "nothing"), "--list"]) == 2
    assert "is not a server's key folder" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["keygen", str(tmp_path / "file")]) == 2
    assert "can't be made" in capsys.readouterr().err
