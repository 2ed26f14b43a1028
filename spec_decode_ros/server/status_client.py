"""Reads the pages of a :class:`spec_decode_ros.server.status_server.StatusServer`."""

from __future__ import annotations

import urllib.error
import urllib.request

_LONGEST = 1_000_000


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
            return True, answer.read(_LONGEST).decode("utf-8", "replace").strip()
    except urllib.error.HTTPError as error:
        with error:
            return False, error.read(_LONGEST).decode("utf-8", "replace").strip()
