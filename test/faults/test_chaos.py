"""Real processes, links and sockets are broken; only the models are toys, so that servers start quickly."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spec_decode_ros import cli
from spec_decode_ros.lab.bench.comparison import Sample
from spec_decode_ros.lab.bench.fleet.recording import DraftRecording, record
from spec_decode_ros.lab.bench.machine import free_port
from spec_decode_ros.lab.bench.variants import variants_of
from spec_decode_ros.lab.faults.chaos import ChaosPlan, chaos_rig
from spec_decode_ros.lab.faults.fault_plan import KINDS
from spec_decode_ros.lab.faults.services import RestartableService
from spec_decode_ros.transport.process import ReadyChild

sys.path.insert(0, str(Path(__file__).parents[1]))
from server.toys import ToyDrafter, ToyVerifier

SERVER = Path(__file__).parent / "careful_server.py"


def toy_recording() -> DraftRecording:
    samples = [Sample(b"frame %d\xff\xd9" % number, f"wish {number}", None) for number in range(6)]
    drafter = ToyDrafter(wrong=lambda place: place % 5 == 3)
    return record(samples, drafter, ToyVerifier(), "toy", lambda sample: sample.instruction, 24)


def toy_service() -> RestartableService:
    command = [sys.executable, str(SERVER), f"tcp://127.0.0.1:{free_port()}"]
    return RestartableService(ReadyChild(command, "the toy server", 60.0), tuple(range(1024)))


def test_twenty_faults_and_every_action_is_accounted_for() -> None:
    plan = ChaosPlan(
        variants_of(["cloud", "pipelined", "auto"]),
        faults=20,
        every_s=0.15,
        groups=2,
        robots=3,
        rate=4.0,
        seed=3,
    )
    with chaos_rig([toy_service(), toy_service()], toy_recording(), plan) as chaos:
        found = chaos.run().as_dict()
    assert found["passed"], found["wrongs"]
    assert found["faults"] >= 20 and set(found["faults_by_kind"]) == set(KINDS) - {"replica killed"}
    assert found["actions_by_outcome"]["verified"] > 0
    assert sum(found["actions_by_outcome"].values()) == found["actions"]
    assert [line for service in chaos.services for line in service.complaints] == []


class Unbreakable(RestartableService):
    """What is to be done to it goes wrong, in a way that nobody has thought of."""

    def freeze(self, seconds: float) -> None:
        raise ProcessLookupError("nobody is there")


def test_a_fault_that_cannot_be_injected_is_told_and_the_run_ends_in_order() -> None:
    services = [Unbreakable(service.child, (0,)) for service in (toy_service(), toy_service())]
    plan = ChaosPlan(variants_of(["cloud"]), faults=11, every_s=0.05, groups=1, robots=1, rate=4.0, seed=1)
    with chaos_rig(services, toy_recording(), plan) as chaos:
        found = chaos.run().as_dict()
    assert not found["passed"]
    assert "server frozen: nobody is there" in found["wrongs"]
    assert any("of 11 faults could not be injected" in wrong for wrong in found["wrongs"])


def test_what_cannot_be_run_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--faults", "0"], ["--frames", "0"], ["--groups", "0"], ["--rate", "0"]):
        assert cli.main(["chaos", *wrong]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
