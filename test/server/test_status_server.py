"""The pages for those who watch: what they answer, and what they do not let happen."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server import status_server
from spec_decode_ros.server.health import HealthReport, ServicePhase, ready
from spec_decode_ros.server.status_server import StatusServer, open_status, report_page

WAIT_S = 10.0
LOOPBACK = ("127.0.0.1", 0)


def well() -> HealthReport:
    return ready(ServicePhase.SERVING, [], 1.0)


def unwell() -> HealthReport:
    return ready(ServicePhase.LOADING, [], 1.0)


@pytest.fixture
def server() -> Iterator[StatusServer]:
    running = StatusServer(LOOPBACK, {"/good": report_page(well), "/bad": report_page(unwell)})
    running.start()
    yield running
    running.stop()


def ask(server: StatusServer, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(server.url + path, method=method)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_pages(server: StatusServer) -> None:
    status, text = ask(server, "/good")
    assert status == 200 and json.loads(text)["ok"] is True
    status, text = ask(server, "/bad?x=1")
    assert status == 503 and json.loads(text)["status"] == "loading"


def test_nothing_else_is_there(server: StatusServer) -> None:
    assert ask(server, "/")[0] == 404
    assert ask(server, "/../../etc/passwd") == (404, "There are /good, /bad.\n")
    for method in ("POST", "PUT", "DELETE"):
        assert ask(server, "/good", method)[0] == 405


def address_of(server: StatusServer) -> tuple[str, int]:
    return ("127.0.0.1", int(server.url.rpartition(":")[2]))


@contextlib.contextmanager
def trickling(address: tuple[str, int], count: int) -> Iterator[None]:
    """Connections that send a byte of their request now and then, and come again when they are cut off."""
    stop = threading.Event()

    def connect() -> socket.socket:
        connection = socket.create_connection(address, timeout=WAIT_S)
        connection.sendall(b"GET /good HTTP/1.1\r\n")
        return connection

    def trickle() -> None:
        while not stop.wait(0.02):
            for index, connection in enumerate(connections):
                try:
                    connection.sendall(b"x")
                except OSError:
                    connection.close()
                    with contextlib.suppress(OSError):
                        connections[index] = connect()

    connections = [connect() for _ in range(count)]
    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(WAIT_S)
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("count", [16, 64])
def test_every_probe_is_answered_while_connections_trickle(server: StatusServer, count: int) -> None:
    before = threading.active_count()
    with trickling(address_of(server), count):
        assert [ask(server, "/good")[0] for _ in range(20)] == [200] * 20
        assert threading.active_count() - before <= status_server._CONNECTIONS + 1


def test_a_request_has_a_total_time_and_a_size(server: StatusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_connection(address_of(server), timeout=WAIT_S) as large:
        with contextlib.suppress(ConnectionError):  # cut off while it sends
            large.sendall(b"GET /good HTTP/1.1\r\nX: " + b"x" * 1_000_000)
        assert cut_off(large)
    monkeypatch.setattr(status_server, "_REQUEST_S", 0.3)
    with socket.create_connection(address_of(server), timeout=0.05) as slow:
        slow.sendall(b"GET /good HTTP/1.1\r\n")
        until = time.monotonic() + WAIT_S
        while not cut_off(slow):  # a byte at least every 0.05 s
            assert time.monotonic() < until
            with contextlib.suppress(ConnectionError):
                slow.sendall(b"x")


def cut_off(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_a_page_that_fails_is_told_to_the_log_alone(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        raise RuntimeError("a bug in the page")

    server = StatusServer(LOOPBACK, {"/fails": fails})
    server.start()
    try:
        assert ask(server, "/fails") == (500, "This page failed; the log says why.\n")
    finally:
        server.stop()
    assert capfd.readouterr().err == ""
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.getMessage() == "the page /fails failed"


def test_many_silent_connections_neither_pile_up_nor_keep_it_from_answering(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_server, "_REQUEST_S", 0.2)
    address = address_of(server)
    silent = [socket.create_connection(address, timeout=WAIT_S) for _ in range(50)]
    until = time.monotonic() + WAIT_S
    answered = False
    while not answered and time.monotonic() < until:
        try:
            answered = ask(server, "/good")[0] == 200
        except OSError:
            time.sleep(0.05)
    assert answered
    assert all(cut_off(connection) for connection in silent), "all of them were cut off"
    for connection in silent:
        connection.close()


def test_an_address_in_use_is_one_sentence(server: StatusServer) -> None:
    with pytest.raises(SpecDecodeError, match="--metrics HOST:PORT"):
        StatusServer(("127.0.0.1", int(server.url.rpartition(":")[2])), {})
    with pytest.raises(SpecDecodeError, match="--metrics HOST:PORT"):
        StatusServer(("no.such.host.invalid", 0), {})


def test_without_prometheus_client_health_is_served_and_metrics_say_what_to_install() -> None:
    def metrics() -> status_server.Page:
        raise ModuleNotFoundError(name="prometheus_client")

    server = open_status(LOOPBACK, well, unwell, metrics)
    try:
        assert [ask(server, path)[0] for path in ("/healthz", "/readyz", "/metrics")] == [200, 503, 501]
        assert "pip install prometheus-client" in ask(server, "/metrics")[1]
    finally:
        server.stop()
