"""Ask a verifier service on this machine whether it is well: exit code 0 if so, else 1."""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import urllib.error

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.status_client import read_page

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        help="such as http://127.0.0.1:9464; by default what `metrics` says in the environment or the file",
    )
    parser.add_argument("--config", metavar="FILE", help="the file of settings of the service")
    parser.add_argument("--ready", action="store_true", help="ask whether robots should be sent there now")
    parser.add_argument("--timeout-s", type=float, default=5.0, metavar="X", help="patience (%(default)s)")


def run(args: argparse.Namespace) -> int:
    url = args.url
    try:
        url = url or _url_of_service(args.config)
        ok, line = read_page(_with_path(url, "/readyz" if args.ready else "/healthz"), args.timeout_s)
    except (SpecDecodeError, OSError, ValueError, http.client.HTTPException) as error:
        # A container runtime knows 0 and 1 only.
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(error, http.client.HTTPException):
            reason = f"{url} is no page of metrics and health; name the address of `metrics`, not of `bind`"
        print(f"spec-decode: no answer: {reason}", file=sys.stderr)
        return 1
    print(line)
    return 0 if ok else 1


def _url_of_service(file: str | None) -> str:
    from spec_decode_ros.server.config_sources import resolve

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
    return url if url.count("/") > 2 and not url.endswith("/") else url.rstrip("/") + path
