"""`spec-decode serve` and `spec-decode health` where no model is loaded: settings, slips, exit codes."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from spec_decode_ros.cli import main
from spec_decode_ros.server.health import ServicePhase, ready
from spec_decode_ros.server.status_server import StatusServer, report_page


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPEC_DECODE_CONFIG", "SPEC_DECODE_METRICS", "SPEC_DECODE_PAIR", "SPEC_DECODE_THREADS"):
        monkeypatch.delenv(name, raising=False)


def test_the_settings_in_force_are_printed_with_their_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("pair: smollm2\nthreads: 2\nmetrics: 9464\n")
    monkeypatch.setenv("SPEC_DECODE_THREADS", "3")
    arguments = ["serve", "--config", str(file), "--pair", "tiny", "--insecure", "--print-config"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    values = yaml.safe_load(printed)
    assert (values["pair"], values["threads"], values["metrics"]) == ("tiny", 3, "9464")
    assert values["insecure"] is True
    sources = dict(line.split("  # ") for line in printed.splitlines())
    said = {line.partition(":")[0]: source for line, source in sources.items()}
    assert said["pair"] == said["insecure"] == "command line"
    assert said["threads"] == "environment SPEC_DECODE_THREADS"
    assert said["metrics"] == str(file)
    assert said["bind"] == "default"


def test_a_child_of_a_program_takes_nothing_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPEC_DECODE_METRICS", "9464")
    monkeypatch.setenv("SPEC_DECODE_CONFIG", "/nowhere.yaml")
    assert main(["serve", "--with-parent", "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["metrics"] == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threads", "two"], "threads must be a whole number"),
        (["--bind", "tcp://0.0.0.0:5555"], "--insecure"),
        (["--bind", "tcp://127.0.0.1:80000"], "is no port"),
        (["--new-robot", "go2"], "--keys DIR"),
        (["--pair", "no-such-pair"], "no-such-pair"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml"),
    ],
)
def test_a_slip_is_one_sentence_and_exit_code_2(arguments: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spec_decode_ros", "serve", "--log-level", "warning", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 2
    assert words in done.stderr and len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_health_finds_the_service_through_its_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    phase = ServicePhase.SERVING
    pages = {
        "/healthz": report_page(lambda: ready(phase, [], 1.0)),
        "/readyz": report_page(lambda: ready(ServicePhase.DRAINING, [], 1.0)),
    }
    server = StatusServer(("127.0.0.1", 0), pages)
    server.start()
    try:
        # What listens everywhere is asked on this machine, and never by way of a proxy.
        monkeypatch.setenv("SPEC_DECODE_METRICS", "0.0.0.0:" + server.url.rpartition(":")[2])
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert main(["health"]) == 0
        assert '"ok": true' in capsys.readouterr().out
        assert main(["health", "--ready"]) == 1
        assert '"status": "draining"' in capsys.readouterr().out
        assert main(["health", server.url + "/readyz"]) == 1
        phase = ServicePhase.LOADING
        assert main(["health", server.url + "/"]) == 1
    finally:
        server.stop()


def test_health_of_the_port_of_robots_is_1_and_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as robots:

        def greet() -> None:  # as ZeroMQ does, in what is not HTTP
            connection, _ = robots.accept()
            with connection:
                connection.sendall(b"\xff\0\0\0\0\0\0\0\1\x7f\x03\n")

        threading.Thread(target=greet, daemon=True).start()
        assert main(["health", f"http://127.0.0.1:{robots.getsockname()[1]}"]) == 1
    said = capsys.readouterr().err
    assert "not of `bind`" in said and len(said.splitlines()) == 1


def test_health_of_nothing_is_1_and_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert main(["health", f"http://127.0.0.1:{port}"]) == 1
    assert "Connection refused" in capsys.readouterr().err
    for arguments in ([], ["file:///etc/passwd"], ["http://127.0.0.1:99999"], ["--config", "/nowhere.yaml"]):
        assert main(["health", *arguments]) == 1
        captured = capsys.readouterr()
        assert captured.out == "" and len(captured.err.splitlines()) == 1
