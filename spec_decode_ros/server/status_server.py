"""The status pages of a service, metrics and health: a small HTTP server that only answers GET, and its client."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import socketserver
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.extras import missing_module_sentence
from spec_decode_ros.server.health import HealthReport

_log = logging.getLogger(__name__)

Page = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application."""

_REQUEST_S = 5.0
"""Until a request is complete, however slowly it comes."""
_SHORTEST_S = 0.001
_HEAD_BYTES = 8192
_CONNECTIONS = 32
_ROOM_S = 1.0
"""How long a new connection waits until one that was dropped has ended."""
_JOIN_S = 5.0
_PAGE_BYTES = 1_000_000


def report_page(report: Callable[[], HealthReport]) -> Page:
    """A page with one JSON line; its status is 200 where the report is good and 503 where it is not."""

    def page(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        now = report()
        status = "200 OK" if now.ok else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
        return [now.as_json().encode() + b"\n"]

    return page


def sentence_page(status: str, sentence: str) -> Page:
    """A page with one sentence, under an HTTP status such as ``404 Not Found``."""

    def page(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [sentence.encode() + b"\n"]

    return page


def open_status(
    address: tuple[str, int],
    alive: Callable[[], HealthReport],
    ready: Callable[[], HealthReport],
    metrics: Callable[[], Page],
) -> StatusServer:
    """Serve metrics and health of a service until it is stopped; the log says where.

    Args:
        address: host and port; port 0 is any free one.
        alive: whether it works at all.
        ready: whether robots should be sent there now.
        metrics: makes the page of metrics; without prometheus_client that says what to install, and health is served
            all the same.

    Raises:
        SpecDecodeError: the address can't be used.
    """
    try:
        metrics_page = metrics()
    except ModuleNotFoundError as error:
        sentence = missing_module_sentence(error.name or "")
        if sentence is None:
            raise
        _log.warning("health alone can be watched, no metrics: %s", sentence)
        metrics_page = sentence_page("501 Not Implemented", f"No metrics: {sentence}")
    pages = {"/metrics": metrics_page, "/healthz": report_page(alive), "/readyz": report_page(ready)}
    server = StatusServer(address, pages)
    server.start()
    _log.info("metrics and health at %s", server.url, extra={"url": server.url})
    return server


class StatusServer:
    """Serves `pages` by their paths, in threads of its own.

    Args:
        address: host and port to listen on; port 0 is any free one.
        pages: WSGI applications by path.
    """

    def __init__(self, address: tuple[str, int], pages: Mapping[str, Page]) -> None:
        try:
            self._server = _Server(address, _Handler)
        except (OSError, OverflowError) as error:
            raise SpecDecodeError(
                f"Metrics and health can't be served at {address[0]}:{address[1]} ({error}); choose a free address with "
                "--metrics HOST:PORT."
            ) from error
        self._server.set_app(_by_path(pages))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="status", daemon=True
        )

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        host, port = self._server.server_name, self._server.server_port
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close the port. Only after `start`."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_JOIN_S)


def _by_path(pages: Mapping[str, Page]) -> Page:
    nothing = sentence_page("404 Not Found", f"There are {', '.join(pages)}.")
    refusal = sentence_page("405 Method Not Allowed", "Only GET is answered here.")
    failure = sentence_page("500 Internal Server Error", "This page failed; the log says why.")

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] != "GET":
            return refusal(environ, start_response)
        try:
            return pages.get(path, nothing)(environ, start_response)
        except Exception:
            _log.exception("the page %s failed", path)
            return failure(environ, start_response)

    return app


class _Handler(WSGIRequestHandler):
    server: _Server

    def setup(self) -> None:
        until = time.monotonic() + _REQUEST_S
        super().setup()
        self.rfile = io.BytesIO(_read_head(self.connection, until))
        self.server.is_read(self.connection)
        self.connection.settimeout(_REQUEST_S)  # for each part of the answer

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug("%s %s", self.address_string(), format % args)

    def address_string(self) -> str:
        return str(self.client_address[0])


def _read_head(connection: socket.socket, until: float) -> bytes:
    """A request without a body. Raises OSError if it is too long, or not complete in time."""
    head = b""
    while b"\r\n\r\n" not in head:
        connection.settimeout(max(_SHORTEST_S, until - time.monotonic()))
        part = connection.recv(_HEAD_BYTES + 1 - len(head))
        head += part
        if not part or len(head) > _HEAD_BYTES or time.monotonic() > until:
            raise ConnectionAbortedError("no complete request came")
    return head


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread for each connection. When there are as many as may be, the one that has sent its request for the longest
    time makes room, so that connections that send next to nothing keep nobody out."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        self._changed = threading.Condition()
        self._reading: dict[socket.socket, None] = {}  # in the order in which they came
        self._answering: set[socket.socket] = set()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which looks up its own host name and may wait for the name service.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            if self._is_full() and self._reading:
                with contextlib.suppress(OSError):  # it has gone itself
                    next(iter(self._reading)).shutdown(socket.SHUT_RDWR)
                self._changed.wait_for(lambda: not self._is_full(), _ROOM_S)
            full = self._is_full()
            if not full:
                self._reading[request] = None
        if full:
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._forget(request)
            raise

    def _is_full(self) -> bool:
        return len(self._reading) + len(self._answering) >= _CONNECTIONS

    def is_read(self, request: socket.socket) -> None:
        """Its request is complete: it is not dropped any more."""
        with self._changed:
            del self._reading[request]
            self._answering.add(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def _forget(self, request: socket.socket) -> None:
        with self._changed:
            self._reading.pop(request, None)
            self._answering.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a connection from %s ended early", client_address, exc_info=True)


def read_page(url: str, timeout_s: float) -> tuple[bool, str]:
    """Whether the status of a page is good, and its text, at most a million bytes.

    Args:
        url: http://HOST:PORT/PATH; never asked by way of a proxy.
        timeout_s: for the connection, and for each part of the answer.

    Raises:
        OSError, ValueError, http.client.HTTPException: nobody answers, or not in HTTP.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            return True, answer.read(_PAGE_BYTES).decode("utf-8", "replace").strip()
    except urllib.error.HTTPError as error:
        with error:
            return False, error.read(_PAGE_BYTES).decode("utf-8", "replace").strip()
