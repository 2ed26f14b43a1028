"""Asks a service on this machine whether it is well, as a container runtime or an operator does."""

from __future__ import annotations

import http.client
import os
import urllib.error
from typing import NamedTuple

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.config_sources import resolve
from spec_decode_ros.server.status_server import read_page
from spec_decode_ros.transport.endpoint import parse_address

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class HealthAnswer(NamedTuple):
    """Whether the service is well, and what it says; `reached` is false where nobody answered, and `line` says why."""

    ok: bool
    line: str
    reached: bool = True


def ask_health(url: str | None, config: str | None, ready: bool, timeout_s: float) -> HealthAnswer:
    """Ask the service.

    Args:
        url: of its pages; without one, what `metrics` says in the environment or the file.
        config: the file of settings of the service.
        ready: whether robots should be sent there now, instead of whether it is well.
        timeout_s: patience.
    """
    try:
        url = url or _url_of_service(config)
        return HealthAnswer(*read_page(_with_path(url, "/readyz" if ready else "/healthz"), timeout_s))
    except http.client.HTTPException:
        sentence = f"{url} is no page of metrics and health; name the address of `metrics`, not of `bind`"
        return HealthAnswer(False, sentence, False)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return HealthAnswer(False, str(reason), False)


def _url_of_service(file: str | None) -> str:
    address = resolve({}, os.environ, file).config.metrics_address
    if address is None:
        raise SpecDecodeError(
            "the service has no `metrics: HOST:PORT`; name its URL, or set SPEC_DECODE_METRICS."
        )
    host, port = _ANYWHERE.get(address[0], address[0]), address[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _with_path(url: str, path: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise SpecDecodeError(f"{url!r} is no address such as http://127.0.0.1:9464.")
    host_and_port = url.partition("://")[2].partition("/")[0]
    if ":" in host_and_port:
        parse_address(host_and_port)
    return url if url.count("/") > 2 and not url.endswith("/") else url.rstrip("/") + path
