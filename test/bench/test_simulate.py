"""The command that plays all methods in virtual time, and the profiles that it reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from spec_decode_ros import cli
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench import grid
from spec_decode_ros.lab.bench.profile.profile import Fit, Profile, load_profile, profile_names


def test_every_shipped_profile_can_be_read() -> None:
    assert "go2" in profile_names()
    for name in profile_names():
        profile = load_profile(name)
        assert profile.fit or list(profile.cells())
        assert len(profile.source) > 20


def test_a_profile_says_what_was_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "--profile", "go2", "--actions", "40", "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [cell["acceptance"] for cell in document["cells"]] == [0.5, 0.7, 0.8, 0.9]
    for cell in document["cells"]:
        cloud = cell["methods"]["cloud"]
        assert cloud["passes"] == document["world"]["tokens"]
        assert cloud["ttva_ms"] == pytest.approx(cloud["passes"] * 620 + 120)
        assert cell["methods"]["early_exit"]["ttva_ms"] < 0.89 * cell["methods"]["sync"]["ttva_ms"]


@pytest.mark.parametrize("name", [name for name in profile_names() if load_profile(name).fit])
def test_what_a_paper_reports_follows_from_its_baseline(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The acceptance is fitted to the baseline's row; the method of the paper then comes out, and auto is no slower."""
    assert cli.main(["simulate", "--profile", name, "--actions", "10", "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    ((method, told),) = document["published"].items()
    (cell,) = document["cells"]
    times = {name: row["ttva_ms"] for name, row in cell["methods"].items()}
    assert times["cloud"] / times[method] == pytest.approx(told, rel=0.10)
    assert times["cloud"] / times["auto"] >= told


def test_a_fit_finds_the_acceptance_that_a_row_came_from() -> None:
    world = grid.World(tokens=24, step_ms=50.0)
    truth = grid.Cell(30.0, 0.75, 0.2)
    times = {
        name: grid.simulate_method(METHODS[name], truth, world, 30 if name == "sync" else 2).ttva_ms
        for name in ("cloud", "sync")
    }
    fit = Fit("sync", times["cloud"] / times["sync"])
    profile = Profile("p", "a source", (30.0,), 10.0, world, fit=fit)
    (cell,) = profile.cells(30)
    assert cell.acceptance == pytest.approx(0.75, abs=0.02)
    with pytest.raises(SpecDecodeError, match="either acceptances or a fit"):
        replace(profile, acceptances=(0.5,))
    with pytest.raises(SpecDecodeError, match="a method that verifies"):
        replace(fit, method="edge")


def test_published_rows_stand_beside_predicted_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "--profile", "go2", "--actions", "2"]) == 0
    said = capsys.readouterr().out
    assert "published" in said and "1.21" in said


def test_a_grid_is_printed_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spec_decode_ros.lab.bench import grid_report

    few = list(grid.cells(rtts_ms=(5.0, 60.0), acceptances=(0.8,), ratios=(0.1, 0.25)))
    monkeypatch.setattr(grid_report, "cells", lambda: few)
    monkeypatch.setenv("COLUMNS", "80")
    picture = tmp_path / "made" / "grid.png"
    assert cli.main(["simulate", "--grid", "--actions", "4", "--plot", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "early_exit" in said and "…" not in said
    assert "auto takes at most" in said
    with Image.open(picture) as image:
        assert min(image.size) > 200


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2]", "mapping"),
        ("source: x", "missing or unknown"),
        ("{source: x, rtts_ms: [1], acceptances: [2], draft_ms: 1, world: {}}", "from 0 to 1"),
        ("{source: x, rtts_ms: [], acceptances: [1], draft_ms: 1, world: {}}", "needs round-trip times"),
        ("{source: x, rtts_ms: [1], acceptances: [1], draft_ms: 1, world: {size: 1}}", "size"),
        ("{source: x, rtts_ms: [a], acceptances: [1], draft_ms: 1, world: {}}", "not a profile"),
        ("{", "not a profile"),
    ],
)
def test_a_file_that_is_no_profile_is_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(SpecDecodeError, match=reason):
        load_profile(str(path))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--profile", "mars"], "no profile 'mars'"),
        (["--profile", "nowhere.yaml"], "cannot read"),
        (["--grid", "--actions", "1"], "--actions is 1: give 2 or more"),
        (["--profile", "go2", "--plot", "x.png"], "add --grid"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["simulate", *arguments]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert len(said.strip().splitlines()) == 1
