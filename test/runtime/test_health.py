"""What counts as alive and as ready."""

from __future__ import annotations

import json
import math

import pytest

from spec_decode_ros.runtime.health import Phase, Vitals, alive, ready

WELL = Vitals()


@pytest.mark.parametrize(
    ("phase", "vitals", "is_alive", "is_ready", "status"),
    [
        (Phase.LOADING, WELL, True, False, "loading"),
        (Phase.SERVING, WELL, True, True, "ok"),
        (Phase.SERVING, Vitals(round_s=9.9), True, True, "ok"),
        (Phase.SERVING, Vitals(round_s=10.1), False, False, "stuck"),
        (Phase.SERVING, Vitals(round_s=math.inf), False, False, "dead"),
        (Phase.SERVING, Vitals(socket_alive=False), False, False, "dead"),
        (Phase.DRAINING, WELL, True, False, "draining"),
        (Phase.DRAINING, Vitals(round_s=11.0), False, False, "stuck"),
        (Phase.ENDED, Vitals(round_s=math.inf), True, False, "ended"),
    ],
)
def test_alive_and_ready(phase: Phase, vitals: Vitals, is_alive: bool, is_ready: bool, status: str) -> None:
    assert alive(phase, vitals, 10.0).ok is is_alive
    report = ready(phase, vitals, 10.0)
    assert (report.ok, report.status, report.phase) == (is_ready, status, phase.value)
    assert report.sentence.endswith(".")
    line = report.as_json()
    assert "\n" not in line
    assert json.loads(line)["ok"] is is_ready
