"""A small HTTP server for those who watch a service: metrics and health, nothing that changes anything."""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.runtime.health import Report

_log = logging.getLogger(__name__)

Page = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application."""

_PATIENCE_S = 5.0
_CONNECTIONS = 16
_JOIN_S = 5.0


def report_page(report: Callable[[], Report]) -> Page:
    """A page with one JSON line; its status is 200 where the report is good and 503 where it is not."""

    def page(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        now = report()
        status = "200 OK" if now.ok else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
        return [now.as_json().encode() + b"\n"]

    return page


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
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        page = pages.get(environ.get("PATH_INFO", ""))
        if environ["REQUEST_METHOD"] != "GET":
            status, text = "405 Method Not Allowed", "Only GET is answered here.\n"
        elif page is None:
            status, text = "404 Not Found", f"There are {', '.join(pages)}.\n"
        else:
            return page(environ, start_response)
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [text.encode()]

    return app


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE_S  # whoever connects and says nothing is cut off

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug("%s %s", self.address_string(), format % args)

    def address_string(self) -> str:
        return str(self.client_address[0])


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name service who we are and may wait for it.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a connection from %s ended early", client_address, exc_info=True)
