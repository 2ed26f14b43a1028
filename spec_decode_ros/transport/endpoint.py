"""Endpoints: where a server listens and what a robot connects to. Every way in is read here."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from spec_decode_ros.errors import SpecDecodeError

MAX_ENDPOINTS = 8
_MOST_PORT = 65535
_MOST_PATH = 107
"""Bytes of the path of a Unix socket."""
_SHOWN = 80
_THIS_MACHINE = "127.0.0.1"
_LISTENING = ("*", "0.0.0.0", "::")

_PORT = re.compile(r"[0-9]{1,5}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_IN_BRACKETS = re.compile(r"\[([^\[\]]*)\](.*)", re.DOTALL)
_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", re.ASCII)


class EndpointError(SpecDecodeError):
    """A text is not an endpoint, or not an address; the sentence says why, and how one looks."""


@dataclass(frozen=True)
class Endpoint:
    """One end of a connection.

    Attributes:
        scheme: tcp, or ipc for a socket of this machine.
        host: a name, an IPv4 or an IPv6 address without brackets, ``*`` for every interface; of ipc the path.
        port: 0 is any free one, to listen on.
    """

    scheme: str
    host: str
    port: int = 0

    def __str__(self) -> str:
        """As ZeroMQ wants it."""
        if self.scheme == "ipc":
            return f"ipc://{self.host}"
        host = f"[{self.host}]" if self.ipv6 else self.host
        return f"tcp://{host}:{self.port or '*'}"

    @property
    def ipv6(self) -> bool:
        """Whether it is an IPv6 address, for which ZeroMQ has an option of its own."""
        return self.scheme == "tcp" and ":" in self.host

    @property
    def loopback(self) -> bool:
        """Whether only processes of this machine can reach it."""
        if self.scheme == "ipc":
            return True
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return self.host.lower() in ("localhost", "lo")
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


def parse_endpoint(text: str, listening: bool = False) -> Endpoint:
    """The endpoint that `text` names.

    Args:
        text: such as ``tcp://10.0.0.5:5555``, ``tcp://[::1]:5555`` or ``ipc:///run/verifier``.
        listening: a server listens there: every interface (``*``) and any free port (``*`` or 0) make sense too.

    Raises:
        EndpointError: it names none.
    """
    try:
        return _endpoint(text.strip(), listening)
    except ValueError as error:
        raise EndpointError(
            f"{_shown(text.strip())} is not an endpoint: {error}; write it as tcp://HOST:PORT, such as "
            "tcp://10.0.0.5:5555 or tcp://[fd00::5]:5555."
        ) from None


def parse_endpoints(text: str) -> tuple[Endpoint, ...]:
    """``tcp://a:5555,tcp://b:5555`` as a tuple, to connect to.

    Raises EndpointError if one is not an endpoint or named twice, or there are more than eight.
    """
    endpoints = tuple(parse_endpoint(part) for part in text.split(","))
    twice = next((each for each in endpoints if endpoints.count(each) > 1), None)
    if twice:
        raise EndpointError(f"The endpoint '{twice}' is named twice; name every server once.")
    if len(endpoints) > MAX_ENDPOINTS:
        raise EndpointError(
            f"{len(endpoints)} endpoints are named and at most {MAX_ENDPOINTS} can be; a robot pings all of them."
        )
    return endpoints


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, where something listens over HTTP; ``PORT`` alone is on this machine.

    Raises EndpointError if it is neither; port 0 is any free one.
    """
    try:
        host, port = _split(text if ":" in text else f":{text}")
        return (_host(host) if host else _THIS_MACHINE), _port(port)
    except ValueError as error:
        raise EndpointError(
            f"{_shown(text)} is not an address: {error}; write HOST:PORT, such as 127.0.0.1:9464, or PORT alone."
        ) from None


def _endpoint(text: str, listening: bool) -> Endpoint:
    if not text:
        raise ValueError("it is empty")
    found = _SCHEME.fullmatch(text)
    if not found:
        raise ValueError("tcp:// is missing in front")
    scheme, rest = found[1].lower(), found[2]
    if scheme == "ipc":
        return Endpoint(scheme, _path(rest))
    if scheme != "tcp":
        raise ValueError(f"it must begin with tcp://, not {scheme[:_SHOWN]}://")
    if not rest:
        raise ValueError("it has no host and no port")
    host, port_text = _split(rest)
    if not host:
        raise ValueError("the host is missing")
    host = host if listening and host == "*" else _host(host)
    port = 0 if listening and port_text == "*" else _port(port_text)
    if not listening and host in _LISTENING:
        raise ValueError(f"{host} is where a server listens, so name the server's own address")
    if not (listening or port):
        raise ValueError("0 is no port to connect to")
    return Endpoint(scheme, host, port)


def _split(text: str) -> tuple[str, str]:
    """Host, in brackets if it was, and port."""
    bracketed = _IN_BRACKETS.fullmatch(text)
    if bracketed:
        host, rest = f"[{bracketed[1]}]", bracketed[2]
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = text.rpartition(":")
        if ":" in host and "[" not in host:
            raise ValueError("an IPv6 address stands in brackets, as in [::1]:5555")
    if colon != ":" or not port:
        raise ValueError("the port is missing")
    return host, port


def _port(text: str) -> int:
    if text == "*":
        raise ValueError("* is no port to connect to")
    if not _PORT.fullmatch(text) or int(text) > _MOST_PORT:
        raise ValueError(f"{_shown(text)} is no port: ports are 1 to {_MOST_PORT}")
    return int(text)


def _host(text: str) -> str:
    if "[" in text or "]" in text:
        return _ipv6(text)
    if text.rpartition(".")[2].isdecimal():
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise ValueError(f"{_shown(text)} is no IPv4 address") from None
    if not _NAME.fullmatch(text):
        raise ValueError(f"{_shown(text)} is no name of a host")
    return text


def _ipv6(text: str) -> str:
    bracketed = _IN_BRACKETS.fullmatch(text)
    if not bracketed or bracketed[2]:
        raise ValueError("a bracket is missing or too many")
    try:
        return str(ipaddress.IPv6Address(bracketed[1]))
    except ValueError:
        raise ValueError(f"{_shown(bracketed[1])} is no IPv6 address") from None


def _path(text: str) -> str:
    if not text:
        raise ValueError("the path is missing behind ipc://")
    if "\0" in text or len(text.encode("utf-8", "replace")) > _MOST_PATH:
        raise ValueError(f"the path of ipc:// has at most {_MOST_PATH} bytes, none of them zero")
    return text


def _shown(text: str) -> str:
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
