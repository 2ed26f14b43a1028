"""A fleet suite: which loads are measured, what follows from them, and how that is told."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from spec_decode_ros import cli
from spec_decode_ros.decoding.messages import PROTOCOL, Welcome
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.document import heading
from spec_decode_ros.lab.bench.fleet.capacity import Load, Usage
from spec_decode_ros.lab.bench.fleet.log import LoggedAction
from spec_decode_ros.lab.bench.fleet.plot import draw_fleet
from spec_decode_ros.lab.bench.fleet.recording import DraftRecording, RecordedFrame, RecordedToken
from spec_decode_ros.lab.bench.fleet.rig import LoadSchedule
from spec_decode_ros.lab.bench.fleet.suite import FleetPlan, Loads, fleet_result, run_fleet
from spec_decode_ros.lab.bench.fleet.tables import print_fleet
from spec_decode_ros.lab.bench.page import page
from spec_decode_ros.lab.bench.variants import MethodVariant, variants_of

KNEES = {"cloud": 8, "colocated": 12, "auto, latency": 30, "auto, balanced": 30, "auto, cost": 24}
"""From so many robots on nothing is in time any more."""

RECORDING = DraftRecording(
    "toy",
    "v",
    frozenset({0}),
    8,
    6.0,
    0.5,
    (RecordedFrame("p", b"j", (), (1, 0), {(): RecordedToken(1), (1,): RecordedToken(0)}),),
)
WELCOME = Welcome(PROTOCOL, "toy", "v", (0,), 2.0, 1.0, 0.1, 5.0)


class Rig:
    """Stands for a server that carries so many robots and then no more."""

    def __init__(self, wrong: bool = False) -> None:
        self.asked: list[tuple[str, int]] = []
        self.wrong = wrong

    def load(self, way: MethodVariant, robots: int, pace: LoadSchedule, seed: int) -> Load:
        self.asked.append((way.name, robots))
        ms = 50.0 if robots <= KNEES[way.name] else 2000.0
        figures: dict[str, float | None] = {"ttva_ms": ms, "cloud_passes": 2.0, "cloud_busy_ms": 20.0}
        acts = [
            LoggedAction(
                robot, 0, way.name, 1.0, 1.0, 1.0 + ms / 1e3, "verified", not self.wrong, figures=figures
            )
            for robot in range(robots)
        ]
        return Load(way.name, robots, tuple(acts), Usage(1.0, 10.0, 20.0, 0.5, 0.2))


@pytest.fixture
def plan() -> FleetPlan:
    return FleetPlan(
        variants_of(["cloud", "colocated", "auto"]), (1, 4, 16), LoadSchedule(seconds=1.0), refine=6
    )


@pytest.fixture
def loads(plan: FleetPlan) -> Loads:
    return run_fleet(Rig(), plan)  # type: ignore[arg-type]


def test_ways_alternate_and_the_knees_are_looked_for(plan: FleetPlan) -> None:
    rig = Rig()
    loads = run_fleet(rig, plan)  # type: ignore[arg-type]
    ways = [way.name for way in plan.variants]
    assert [name for name, _ in rig.asked[:15]] == [*ways, *reversed(ways), *ways]
    assert {robots for _, robots in rig.asked[:15]} == {1, 4, 16}
    for name, knee in KNEES.items():
        within = [robots for robots, load in loads[name].items() if load.ttva_ms(0.95) <= plan.bound]
        assert knee - 2 <= max(within) <= knee


def test_few_robots_are_looked_at_for_longer() -> None:
    plan = FleetPlan(variants_of(["cloud"]), pace=LoadSchedule(rate=2.0, seconds=8.0))
    assert [plan.pace_of(robots).seconds for robots in (1, 2, 64)] == [24.0, 15.0, 8.0]


def test_rounds_of_a_load_are_put_together(plan: FleetPlan) -> None:
    twice = FleetPlan(plan.variants[:1], (4,), plan.pace, rounds=2, refine=0)
    loads = run_fleet(Rig(), twice)  # type: ignore[arg-type]
    assert len(loads["cloud"][4].acts) == 8 and loads["cloud"][4].usage.seconds == 2.0


def test_capacities_gains_and_what_theory_says(plan: FleetPlan, loads: Loads) -> None:
    found = fleet_result(plan, loads, RECORDING, WELCOME)
    carried = {name: way["capacity"]["period"]["robots"] for name, way in found["ways"].items()}
    assert all(KNEES[name] - 2 <= robots <= KNEES[name] + 2 for name, robots in carried.items())
    assert found["bounds_ms"] == {"period": 500.0, "strict": 75.0}
    gain = found["gain"]
    assert gain["over_cloud"]["period"]["auto, latency"] == pytest.approx(30 / 8, abs=0.5)
    told = gain["predicted"]
    assert told["gain"] == pytest.approx(1 + told["drafted"] * 1.0 / (2.0 + told["drafted"] * 0.1))
    assert gain["compute_of_colocated_over"]["auto, cost"] == 1.0
    assert found["same_tokens"]
    wrong = fleet_result(plan, run_fleet(Rig(wrong=True), plan), RECORDING, WELCOME)  # type: ignore[arg-type]
    assert not wrong["same_tokens"]


def test_it_is_told_at_the_terminal_on_the_page_and_in_a_picture(
    plan: FleetPlan, loads: Loads, tmp_path: Path
) -> None:
    fleet: dict[str, Any] = fleet_result(plan, loads, RECORDING, WELCOME)
    found = {**heading("fleet", "toy", "spec-decode bench --suite fleet"), "links": [], "fleet": fleet}
    found = json.loads(json.dumps(found, allow_nan=False))
    text = page([found])
    assert "### `auto, cost`" in text and "| 16 | 2000 |" in text
    assert "arXiv 2606.25091" in text and "tokens that the target says alone" in text
    out = io.StringIO()
    print_fleet(Console(file=out, width=100), found["fleet"])
    assert "Robots with a p95 of at most 500 ms (the time between two actions): cloud" in " ".join(
        out.getvalue().split()
    )
    with Image.open(draw_fleet(found, tmp_path / "fleet.png")) as image:
        assert min(image.size) > 500


def test_what_cannot_be_measured_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SpecDecodeError, match="at least 1 robot"):
        FleetPlan(variants_of(["cloud"]), (0,))
    for wrong in (
        ["--rate", "0"],
        ["--seconds", "0"],
        ["--robots", "0"],
        ["--rtt-ms", "1", "2"],
        ["--rounds", "0"],
    ):
        assert cli.main(["bench", "--suite", "fleet", *wrong]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
