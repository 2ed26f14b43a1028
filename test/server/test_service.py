"""The verifier service as its operator has it: a process, watched over HTTP, ended by signals."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spec_decode_ros.cli import main
from spec_decode_ros.decoding.messages import Error, ErrorCode, Open, TokenOutcome
from spec_decode_ros.edge.runtime import EdgeRuntime, Progress
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.client import Arrival, Client

from .toys import ToyDrafter, ToyText, target_answer

WAIT_S = 20.0
HERE = Path(__file__).parent
FRAME = b"\xff\xd8 a frame "


class Service:
    """A child process that serves the toy target under the name of the shipped pair."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        pass_s: float = 0.0,
        loads: bool = True,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.load, self.hold = folder / "load", folder / "hold"
        if loads:
            self.load.touch()
        self._log = folder / "log"
        command = [sys.executable, str(HERE / "toy_service.py"), str(pass_s), str(folder)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--metrics", "0", "--log-format", "json", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=HERE.parents[1],
                env={**os.environ, **(environment or {})},
            )

    def logged(self) -> list[dict[str, Any]]:
        """What it has logged: one JSON object in every line that is whole."""
        lines = self._log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def said(self, words: str) -> dict[str, Any]:
        """The log entry with `words`, waited for."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [entry for entry in self.logged() if words in entry["message"]]
            return bool(found) or self.process.poll() is not None

        eventually(there, f"{words!r} in the log")
        assert found, f"it ended with {self.process.poll()} and said {self._log.read_text()}"
        return found[0]

    @property
    def endpoint(self) -> str:
        return str(self.said("serving the pair")["endpoint"])

    @property
    def url(self) -> str:
        return str(self.said("metrics and health")["url"])

    def ask(self, path: str) -> tuple[int, str]:
        """Status and text of a page."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=WAIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, series: str) -> float:
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.ask("/metrics")[1], re.MULTILINE)
        assert found, series
        return float(found[1])

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def ends(self) -> int:
        return self.process.wait(WAIT_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_S)


def eventually(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def begin(*arguments: str, **options: Any) -> Service:
        started.append(Service(tmp_path, *arguments, **options))
        return started[-1]

    yield begin
    for service in started:
        service.kill()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that only answers; tests that end theirs start their own."""
    running = Service(tmp_path_factory.mktemp("service"), "--max-sessions", "1")
    yield running
    running.kill()


def connect(service: Service) -> Client:
    client = Client(service.endpoint, "tiny", ToyText.vocabulary)
    client.wait_ready(WAIT_S)
    return client


def act(service: Service, prompt: str = "go", on_event: Callable[[Progress], None] | None = None) -> None:
    """One verified action."""
    with connect(service) as client, EdgeRuntime(ToyDrafter(), client, "cloud", deadline_s=WAIT_S) as runtime:
        result = runtime.act(prompt, [FRAME], on_event=on_event)
    assert result.verified and result.tokens == target_answer(prompt, [FRAME])


def refusal(service: Service, prompt: str = "go") -> Error:
    """The error that one action is answered with."""
    errors: list[Error] = []
    heard = threading.Event()

    def listen(arrival: Arrival) -> None:
        if isinstance(arrival.message, Error) and arrival.message.action_id:
            errors.append(arrival.message)
            heard.set()

    with connect(service) as client:
        client.listen(listen)
        client.send(Open(1, prompt, 1), [FRAME])
        assert heard.wait(WAIT_S)
    return errors[0]


def test_metrics_follow_what_robots_do(service: Service) -> None:
    done = 'spec_decode_actions_total{state="done"}'
    before = service.metric(done)
    for index in range(3):
        act(service, f"go to chair {index}")
    eventually(lambda: service.metric(done) == before + 3, "the end of three actions")
    tokens = sum(len(target_answer(f"go to chair {index}", [FRAME])) for index in range(3))
    passes = service.metric("spec_decode_pass_seconds_count")
    assert 0 < passes <= tokens
    assert service.metric("spec_decode_pass_sessions_sum") >= passes
    assert service.metric("spec_decode_action_passes_sum") == passes
    assert service.metric("spec_decode_opened_actions_total") >= 3
    assert service.metric("spec_decode_sessions") == 0
    assert service.metric("spec_decode_ready") == 1
    assert service.metric("process_resident_memory_bytes") > 1e6


def test_drafts_and_bytes_are_counted(service: Service) -> None:
    bytes_before = service.metric("spec_decode_received_bytes_total")
    with connect(service) as client, EdgeRuntime(ToyDrafter(), client, "sync") as runtime:
        accepted = runtime.act("walk", [FRAME]).outcomes.count(TokenOutcome.ACCEPTED.label)
    assert accepted > 0
    eventually(lambda: service.metric("spec_decode_accepted_tokens_total") >= accepted, "accepted tokens")
    assert service.metric("spec_decode_drafted_tokens_total") >= accepted
    assert service.metric("spec_decode_received_bytes_total") - bytes_before > len(FRAME)
    assert service.metric("spec_decode_sent_bytes_total") > 0


def test_a_failed_action_is_counted_and_logged_without_its_prompt(service: Service) -> None:
    failed = 'spec_decode_actions_total{state="failed"}'
    assert refusal(service, "unreadable secret words").code == ErrorCode.MODEL_FAILED
    eventually(lambda: service.metric(failed) >= 1, "the failure")
    assert service.metric('spec_decode_errors_total{code="model_failed"}') >= 1
    entry = service.said("an action failed")
    assert (entry["level"], entry["action_id"]) == ("warning", 1) and entry["robot"]
    assert "secret words" not in json.dumps(service.logged())


def test_a_robot_of_another_vocabulary_is_counted_and_logged(service: Service) -> None:
    with Client(service.endpoint, "tiny", "other words") as client, pytest.raises(SpecDecodeError):
        client.wait_ready(WAIT_S)
    assert service.said("refused a robot")["robot"]
    assert service.metric("spec_decode_refused_peers_total") >= 1


def test_health_as_a_container_asks_for_it(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("/healthz", "/readyz"):
        status, text = service.ask(path)
        assert status == 200 and text.count("\n") == 1
        assert json.loads(text)["ok"] is True
    assert main(["health", service.url]) == 0
    assert main(["health", service.url, "--ready"]) == 0
    assert [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()] == ["ok", "ok"]


def test_readiness_follows_the_life_of_a_service(start: Callable[..., Service]) -> None:
    service = start(pass_s=0.05, loads=False)
    assert service.ask("/healthz")[0] == 200
    status, text = service.ask("/readyz")
    assert (status, json.loads(text)["status"]) == (503, "loading")
    assert main(["health", service.url, "--ready"]) == 1
    service.load.touch()
    eventually(lambda: service.ask("/readyz")[0] == 200, "readiness")

    refused: list[Error] = []
    statuses: list[tuple[int, int]] = []

    def end_it(progress: Progress) -> None:
        if progress.committed == 1:
            service.hold.touch()
            service.signal(signal.SIGTERM)
            service.said("draining")
            statuses.append((service.ask("/healthz")[0], service.ask("/readyz")[0]))
            refused.append(refusal(service))
            service.hold.unlink()

    act(service, on_event=end_it)  # verified, although the service was told to end in the middle of it
    assert statuses == [(200, 503)]
    assert refused[0].code == ErrorCode.DRAINING and refused[0].sentence
    assert service.ends() == 0
    assert service.said("ended")["actions"] == 1
    assert not any(entry["level"] == "error" for entry in service.logged())


def test_an_action_that_takes_too_long_is_cut_off(start: Callable[..., Service]) -> None:
    service = start("--drain-s", "0.1", "--max-sessions", "1")
    with connect(service) as client:
        service.hold.touch()
        client.send(Open(1, "go", 1), [FRAME])
        eventually(lambda: service.metric("spec_decode_opened_actions_total") >= 1, "the action")
        assert refusal(service).code == ErrorCode.BUSY
        assert service.metric("spec_decode_refused_actions_total") == 1
        assert service.metric('spec_decode_errors_total{code="busy"}') == 1
        service.signal(signal.SIGINT)
        assert service.said("cut off")["sessions"] == 1
        service.hold.unlink()  # the pass that runs is waited for
        assert service.ends() == 0


def test_a_pass_without_end_is_stuck_and_a_second_signal_ends_at_once(start: Callable[..., Service]) -> None:
    service = start("--drain-s", "600", "--stuck-s", "1", pass_s=600.0)
    with connect(service) as client:
        assert service.ask("/healthz")[0] == 200
        client.send(Open(1, "go", 1), [FRAME])
        eventually(lambda: service.ask("/healthz")[0] == 503, "the model to be stuck")
        assert service.said("restart the service")["status"] == "stuck"
        assert json.loads(service.ask("/readyz")[1])["status"] == "stuck"
        assert service.metric("spec_decode_ready") == 0
        service.signal()
        service.said("draining")
        service.signal()
        assert service.ends() == 128 + signal.SIGTERM


def test_a_signal_while_it_loads_ends_it(start: Callable[..., Service]) -> None:
    service = start(loads=False)
    assert service.ask("/healthz")[0] == 200
    service.signal()
    assert service.ends() == 0


def test_systemd_is_told(start: Callable[..., Service], tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(address)
        supervisor.settimeout(WAIT_S)
        service = start(environment={"NOTIFY_SOCKET": address})
        assert [supervisor.recv(100), supervisor.recv(100)] == [b"READY=1", b"WATCHDOG=1"]
        service.signal()
        said = supervisor.recv(100)
        while said == b"WATCHDOG=1":
            said = supervisor.recv(100)
        assert said == b"STOPPING=1"
        assert service.ends() == 0


def test_what_cannot_be_served_is_one_sentence(start: Callable[..., Service], service: Service) -> None:
    port = service.url.rpartition(":")[2]
    second = start("--metrics", port)
    assert second.ends() == 2
    assert "choose a free address with --metrics" in second._log.read_text()
