"""Runs the fleet suite of `spec-decode bench`, prints its tables, and makes its JSON document and plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.document import heading
from spec_decode_ros.lab.bench.fleet.capacity import Load
from spec_decode_ros.lab.bench.fleet.recording import record_pair
from spec_decode_ros.lab.bench.fleet.rig import fleet_rig
from spec_decode_ros.lab.bench.fleet.suite import FleetPlan, fleet_result, run_fleet
from spec_decode_ros.lab.bench.fleet.tables import print_fleet, print_load
from spec_decode_ros.lab.bench.suite import NamedLink


def measure_fleet(
    pair: str, plan: FleetPlan, links: Sequence[NamedLink], frames: int, console: Console
) -> dict[str, Any]:
    """Record drafts of `frames` frames, run the fleets, print the result, and return it for JSON. Raises SpecDecodeError."""
    if len(links) != 1:
        raise SpecDecodeError("a fleet is measured over one link: give one --rtt-ms or one --network")
    console.print(f"recording what the draft model says about {frames} frames …")
    recording = record_pair(pair, frames, plan.seed)

    def show(load: Load) -> None:
        print_load(console, load.way, load.as_dict())

    with fleet_rig(pair, recording, links[0].profile) as rig:
        found = fleet_result(plan, run_fleet(rig, plan, show), recording, rig.welcome)
    found["link"] = links[0].name
    print_fleet(console, found)
    return found


def fleet_document(pair: str, command: str, fleet: dict[str, Any]) -> dict[str, Any]:
    """The document for JSON."""
    return {**heading("fleet", pair, command), "links": [], "fleet": fleet}


def draw_document(document: dict[str, Any], plot: str | None) -> None:
    """Draw it if `plot` is given. Raises SpecDecodeError."""
    if plot:
        from spec_decode_ros.lab.bench.fleet.plot import draw_fleet

        draw_fleet(document, plot)
