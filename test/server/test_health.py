"""What counts as alive and as ready."""

from __future__ import annotations

import json
import math

import pytest

from spec_decode_ros.server.health import ServicePhase, Worker, alive, ready

WELL = [Worker("model"), Worker("socket", 0.2)]


@pytest.mark.parametrize(
    ("phase", "workers", "is_alive", "is_ready", "status"),
    [
        (ServicePhase.LOADING, WELL, True, False, "loading"),
        (ServicePhase.SERVING, WELL, True, True, "ok"),
        (ServicePhase.SERVING, [Worker("model", 9.9)], True, True, "ok"),
        (ServicePhase.SERVING, [Worker("model", 10.1)], False, False, "stuck"),
        (ServicePhase.SERVING, [Worker("model", math.inf)], False, False, "dead"),
        (ServicePhase.SERVING, [Worker("model", 20.0), Worker("socket", math.inf)], False, False, "dead"),
        (ServicePhase.DRAINING, WELL, True, False, "draining"),
        (ServicePhase.DRAINING, [Worker("socket"), Worker("model", 11.0)], False, False, "stuck"),
        (ServicePhase.ENDED, [Worker("model", math.inf)], True, False, "ended"),
    ],
)
def test_alive_and_ready(
    phase: ServicePhase, workers: list[Worker], is_alive: bool, is_ready: bool, status: str
) -> None:
    assert alive(phase, workers, 10.0).ok is is_alive
    report = ready(phase, workers, 10.0)
    assert (report.ok, report.status, report.phase) == (is_ready, status, phase.value)
    assert report.sentence.endswith(".")
    line = report.as_json()
    assert "\n" not in line
    assert json.loads(line)["ok"] is is_ready


def test_the_sentence_names_what_is_at_fault() -> None:
    ended, stuck = Worker("socket", math.inf), Worker("model", 10.4, "pass")
    assert alive(ServicePhase.SERVING, [stuck], 10.0).sentence.startswith(
        "The model has been at one pass for 10 s;"
    )
    assert alive(ServicePhase.SERVING, [stuck, ended], 10.0).sentence.startswith(
        "The socket thread has ended;"
    )


def test_one_in_front_of_others_is_ready_when_one_of_them_answers() -> None:
    assert ready(ServicePhase.SERVING, WELL, 10.0, behind=1).ok
    report = ready(ServicePhase.SERVING, WELL, 10.0, behind=0)
    assert (report.ok, report.status) == (False, "alone")
    assert ready(ServicePhase.SERVING, [Worker("balancer", math.inf)], 10.0, behind=0).status == "dead"
    assert ready(ServicePhase.DRAINING, WELL, 10.0, behind=1).status == "draining"
