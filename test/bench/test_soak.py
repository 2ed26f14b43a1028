"""A soak says what was wrong, and runs with real processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from spec_decode_ros import cli
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet.log import LoggedAction
from spec_decode_ros.lab.bench.fleet.soak import SoakPlan, SoakResult, memory_use
from spec_decode_ros.lab.bench.variants import MethodVariant

GOOD = LoggedAction(0, 0, "auto", 1.0, 1.0, 1.1, "verified", True, figures={"ttva_ms": 100.0})
STEADY = memory_use([(float(second), 400_000_000 + second % 2) for second in range(10)])


def test_nothing_wrong() -> None:
    soaked = SoakResult((GOOD,), STEADY, None, True)
    assert soaked.troubles == []
    found = json.loads(json.dumps(soaked.as_dict(), allow_nan=False))
    assert found["passed"] and found["ttva_ms"]["slowest"] == 100.0 and found["robots_memory"] is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"acts": ()}, "no action"),
        ({"acts": (GOOD, replace(GOOD, number=1, same=False))}, "1 verified actions had other tokens"),
        (
            {"acts": (replace(GOOD, outcome="refused", sentence="It is full."),)},
            "1 actions refused: It is full.",
        ),
        ({"acts": (GOOD, replace(GOOD, number=1, outcome=None))}, "1 actions never ended"),
        ({"server_alive": False}, "has ended"),
        ({"server": memory_use([(0.0, 100), (1.0, 100), (2.0, 106)])}, "varied by 6.0%"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, object], sentence: str) -> None:
    soaked = replace(SoakResult((GOOD,), STEADY, None, True), **change)  # type: ignore[arg-type]
    assert [trouble for trouble in soaked.troubles if sentence in trouble] == soaked.troubles
    assert not soaked.as_dict()["passed"]


def test_a_leak_has_a_slope() -> None:
    leak = memory_use([(float(second), 1_000_000 + 500 * second) for second in range(61)])
    assert leak is not None and leak["slope_mb_per_hour"] == pytest.approx(500 * 3600 / 1e6)
    assert leak["growth_mb"] == pytest.approx(0.03)
    assert memory_use([(0.0, 100)]) is None


def test_a_soak_is_long_enough_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SpecDecodeError, match="too short"):
        SoakPlan((MethodVariant("auto"),), seconds=2.0)
    for wrong in (["--robots", "0"], ["--rate", "0"], ["--frames", "0"], ["--methods", "magic"]):
        assert cli.main(["soak", *wrong]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_four_robots_for_five_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "soak.json"
    command = ["soak", "--robots", "4", "--minutes", "0.083", "--rate", "1", "--frames", "4"]
    assert cli.main([*command, "--json", str(out)]) == 0, capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["actions"] == found["same_actions"] >= 4 * 3
    assert len(found["actions_by_way"]) == 4 and found["server_memory"]["median_mb"] > 50
    assert "nothing was wrong" in capsys.readouterr().out
