"""A short run of every fuzzing target, the same inputs each time, and the inputs that once were too much."""

from __future__ import annotations

import importlib.util
import json
import struct
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest

from fuzz import cases
from fuzz.run import blind
from fuzz.targets import TARGETS
from spec_decode_ros.decoding.messages import PROTOCOL, Close, Message
from spec_decode_ros.server.verifier_server import VerifierServer
from spec_decode_ros.transport import codec

RUN = Path(__file__).with_name("run.py")


MESSAGES = {
    **{"server": 4000, "decode": 20_000, "endpoints": 20_000, "sparse": 20_000},
    **{"images": 4000, "any picture": 2000, "bag": 100},
}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_strangers_send_does_what_it_must_not(name: str) -> None:
    if name == "bag":
        pytest.importorskip("rosbags", reason="rosbags is not installed: bags need it")
    assert blind(TARGETS[name], MESSAGES[name], seed=1).messages >= MESSAGES[name]


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris, which guides by coverage, is not here"
)
def test_the_guided_runner_reports_what_it_did(tmp_path: Path) -> None:
    command = [sys.executable, str(RUN), "--target", "decode", "--runs", "3000", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "decode" / "report.json").read_text())
    assert report["messages"] >= 3000
    assert report["edges"] > 100  # so the codec was instrumented
    assert report["corpus"] > len(cases.seeds())  # and coverage chose what to keep
    assert report["crashes"] == []


def test_a_bug_of_the_codec_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_SINGLE", struct.Struct("<d"))  # probabilities may have any precision
    with pytest.raises(AssertionError, match="came back as"):
        blind(TARGETS["decode"], 60_000, seed=1)


def test_a_bug_of_the_server_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    tells_apart = VerifierServer._session_for

    def fails(server: VerifierServer, client: bytes, message: Message) -> object:
        return 1 / 0 if isinstance(message, Close) else tells_apart(server, client, message)

    monkeypatch.setattr(VerifierServer, "_session_for", fails)
    with pytest.raises(AssertionError, match="a handler failed"):
        blind(TARGETS["server"], 4000, seed=1)


def test_cases_and_bytes_are_the_same() -> None:
    for data in cases.seeds():
        assert cases.join(cases.split(data)) == data
    assert cases.split(b"\x02\xff\xff") == [(0, [b"", b""])]


REGRESSIONS = {
    # A probability that no single float holds: it came through, and could not be sent on.
    "decode": msgpack.packb([3, 1, 0, [1], False, 1, [1e-60], 0]),
    # A pair whose name fills a message: the sentence that refused it was longer than a sentence may be.
    "server": msgpack.packb([1, PROTOCOL, "\0" * 1000, "x"]),
}


@pytest.mark.parametrize("name", REGRESSIONS)
def test_what_once_was_too_much(name: str) -> None:
    with TARGETS[name].open() as attempt:
        assert attempt(cases.join([(0, [b"\x01" + REGRESSIONS[name]])])) == 1
