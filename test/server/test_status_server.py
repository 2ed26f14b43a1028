"""The pages for those who watch: what they answer, and what they do not let happen."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

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


def test_many_silent_connections_neither_pile_up_nor_keep_it_from_answering(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_server._Handler, "timeout", 0.2)
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    silent = [socket.create_connection(address, timeout=WAIT_S) for _ in range(50)]
    until = time.monotonic() + WAIT_S
    answered = False
    while not answered and time.monotonic() < until:
        try:
            answered = ask(server, "/good")[0] == 200
        except OSError:
            time.sleep(0.05)
    assert answered
    assert all(connection.recv(1) == b"" for connection in silent), "all of them were cut off"
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
