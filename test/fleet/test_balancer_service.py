"""The balancer as a service: a process whose health and metrics are read while robots act and verifiers die."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from server.acting import Robot
from server.toys import ToyText

from spec_decode_ros.cli import main
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.fleet.balancer import Balancer
from spec_decode_ros.server.fleet.balancer_service import BalancerService
from spec_decode_ros.server.status_server import read_page
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.keys import robot_keys
from spec_decode_ros.transport.process import ReadyChild

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed: metrics need it")

from server.scrape import Samples, scrape

WAIT_S = 20.0
HERE = Path(__file__).parent


def eventually(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)


class Balance:
    """`spec-decode balance` as a child process with JSON logs."""

    def __init__(self, folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self._log = folder / "log"
        command = [sys.executable, "-m", "spec_decode_ros.cli", "balance", "--log-format", "json", *arguments]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=HERE.parents[1],
                env={**os.environ, **(environment or {})},
            )
        self.url = str(self.log_entry("metrics and health")["url"])
        self.endpoint = str(self.log_entry("robots can connect")["endpoint"])

    def log_entry(self, words: str) -> dict[str, Any]:
        """The log entry with `words`, waited for."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            lines = [line for line in self._log.read_text().splitlines(keepends=True) if line.endswith("\n")]
            found[:] = [entry for entry in map(json.loads, lines) if words in entry["message"]]
            return bool(found) or self.process.poll() is not None

        eventually(there, f"{words!r} in the log")
        assert found, f"it ended with {self.process.poll()} and logged {self._log.read_text()}"
        return found[0]

    def page(self, path: str) -> dict[str, Any]:
        return dict(json.loads(read_page(self.url + path, WAIT_S)[1]))

    def metrics(self) -> Samples:
        return scrape(self.url)

    def up(self) -> dict[str, float]:
        return self.metrics().by("verifier", "spec_decode_balancer_verifier_up")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_S)


@pytest.fixture
def verifiers() -> Iterator[dict[str, ReadyChild]]:
    """Two processes with the toy target, by endpoint."""
    toy = [sys.executable, str(HERE.parent / "server" / "toy_server.py"), "tcp://127.0.0.1:*", "0.01"]
    children = [ReadyChild(toy, "a toy verifier", 30.0) for _ in range(2)]
    try:
        yield {child.start(): child for child in children}
    finally:
        for child in children:
            child.kill()


def test_a_balancer_is_watched_while_robots_act_and_verifiers_die(
    tmp_path: Path, verifiers: dict[str, ReadyChild]
) -> None:
    keys = tmp_path / "keys"
    balance = Balance(
        tmp_path,
        *verifiers,
        "--metrics",
        "0",
        "--patience-s",
        "1",
        "--keys",
        str(keys),
        "--log-level",
        "info",
    )
    try:
        eventually(lambda: balance.up() == dict.fromkeys(verifiers, 1), "both verifiers")
        assert main(["health", balance.url, "--ready"]) == 0
        with ThreadPoolExecutor(3) as pool:
            own = robot_keys(keys / "robot")
            robots = [Robot(pool, balance.endpoint, f"robot {number}", keys=own) for number in range(3)]
            try:

                def robots_of() -> list[float]:
                    seen = balance.metrics().by("verifier", "spec_decode_balancer_verifier_robots")
                    return sorted(seen.values())

                eventually(lambda: robots_of() == [1, 2], "robots at both verifiers")
                eventually(lambda: all(robot.actions for robot in robots), "actions")
                before = balance.metrics()
                assert before.value("spec_decode_balancer_robots") == 3
                assert before.value("spec_decode_balancer_ready") == 1
                assert before.value("spec_decode_balancer_moved_robots_total") == 0
                assert before.value("spec_decode_balancer_forwarded_messages_total") > 3 * len(robots)
                assert before.value("process_resident_memory_bytes") > 1e6

                dead, alive = verifiers
                verifiers[dead].kill()
                eventually(lambda: balance.up() == {dead: 0, alive: 1}, "the gauge of a dead verifier")
                eventually(lambda: robots_of() == [0, 3], "its robots at the other one")
                assert balance.metrics().value("spec_decode_balancer_moved_robots_total") >= 1
                assert balance.page("/readyz")["ok"]
            finally:
                for robot in robots:
                    robot.stop()
            for robot in robots:
                robot.done.result(WAIT_S)

        assert balance.metrics().value("spec_decode_balancer_refused_peers_total") == 0
        with Client(balance.endpoint, "toy", ToyText.vocabulary):  # without keys
            eventually(
                lambda: balance.metrics().value("spec_decode_balancer_refused_peers_total") >= 1, "a refusal"
            )

        verifiers[alive].kill()
        eventually(lambda: balance.page("/readyz")["status"] == "alone", "nobody behind it")
        assert balance.page("/healthz")["ok"]
        assert balance.metrics().value("spec_decode_balancer_ready") == 0
        assert main(["health", balance.url]) == 0
        assert main(["health", balance.url, "--ready"]) == 1
        balance.process.send_signal(signal.SIGTERM)
        assert balance.process.wait(WAIT_S) == 0
    finally:
        balance.kill()


def test_systemd_is_notified_and_settings_are_those_of_every_service(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    settings = tmp_path / "balancer.yaml"
    settings.write_text("metrics: 0\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(address)
        supervisor.settimeout(WAIT_S)
        environment = {"NOTIFY_SOCKET": address, "SPEC_DECODE_CONFIG": str(settings)}
        balance = Balance(tmp_path, "tcp://127.0.0.1:9", environment=environment)
        try:
            assert [supervisor.recv(100), supervisor.recv(100)] == [b"READY=1", b"WATCHDOG=1"]
            assert balance.page("/healthz")["ok"]
            balance.process.send_signal(signal.SIGTERM)
            state = supervisor.recv(100)
            while state == b"WATCHDOG=1":
                state = supervisor.recv(100)
            assert state == b"STOPPING=1"
            assert balance.process.wait(WAIT_S) == 0
        finally:
            balance.kill()


def test_a_balancer_that_hangs_is_stuck_and_its_pages_answer() -> None:
    release, held = threading.Event(), threading.Event()

    def hang() -> None:
        held.set()
        release.wait(WAIT_S)

    with Balancer("tcp://127.0.0.1:*", ["tcp://127.0.0.1:9"]) as balancer:
        service = BalancerService(balancer, stuck_s=0.5)
        with service.watched(("127.0.0.1", 0)) as url, service.serving(), ThreadPoolExecutor(1) as pool:
            call = pool.submit(balancer._call, hang)
            try:
                assert held.wait(WAIT_S)
                eventually(lambda: service.alive().status == "stuck", "the balancer to be stuck")
                ok, line = read_page(url + "/healthz", WAIT_S)
                assert not ok and "The balancer has been at one round of work" in line
                metrics = scrape(url)
                assert metrics.value("spec_decode_balancer_ready") == 0
                assert metrics.by("verifier", "spec_decode_balancer_verifier_up") == {"tcp://127.0.0.1:9": 0}
            finally:
                release.set()
            call.result(WAIT_S)
            eventually(lambda: service.alive().ok, "the balancer to go on")
        assert service.ready().status == "draining"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_balancer_whose_thread_has_ended_is_dead() -> None:
    with Balancer("tcp://127.0.0.1:*", replicas=[]) as balancer:
        service = BalancerService(balancer, stuck_s=10.0)
        assert service.ready().status == "loading"
        with service.serving():
            assert service.alive().ok

            def fail() -> float:
                raise OSError("no more handles")

            balancer._loop._watchdog.feed = fail  # type: ignore[union-attr,method-assign]
            eventually(lambda: service.alive().status == "dead", "the end of the thread")
            assert service.ready().status == "dead"
            with pytest.raises(SpecDecodeError, match="does not run"):
                _ = balancer.status
