"""Key files: one CurveZMQ key each, in the format of ZeroMQ's own tools.

The metadata of a public key can mark it as the key of a balancer. Only the mark in the server's folder counts, so it is
set by whoever runs the server.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import zmq.auth
from zmq.utils import z85

from spec_decode_ros.errors import SpecDecodeError

_log = logging.getLogger(__name__)

UNAVAILABLE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES)
"""Errors of a file or folder that is not there or may not be read; other errors may pass."""
_METADATA = "metadata\n"
_ROLE, _BALANCER = "role", "balancer"


class KeyFolderError(SpecDecodeError):
    """Keys that can't be used."""


@dataclass(frozen=True)
class Certificate:
    """Content of a key file: keys of 40 characters; `secret` is empty in a public file."""

    public: bytes
    secret: bytes
    balancer: bool = False


def make_certificate(folder: Path, name: str, balancer: bool = False) -> None:
    """Write a new key pair to `folder`, as NAME.key and NAME.key_secret. Raises OSError, zmq.ZMQError."""
    umask = os.umask(0o077)
    try:
        public, _ = zmq.auth.create_certificates(folder, name)
        if balancer:  # pyzmq writes metadata into the secret file only
            text = Path(public).read_text(encoding="utf-8")
            marked = text.replace(_METADATA, f'{_METADATA}    {_ROLE} = "{_BALANCER}"\n', 1)
            Path(public).write_text(marked, encoding="utf-8")
    finally:
        os.umask(umask)


def read_certificate(path: Path, secret_needed: bool = False) -> Certificate:
    """Read a key file.

    Raises:
        KeyFolderError: the file is missing, may not be read or holds no valid key, or no secret key where one is needed.
        OSError: it can't be read for now, for example because too many files are open.
    """
    try:
        public, secret = zmq.auth.load_certificate(path)
        if secret_needed and secret is None:
            raise KeyFolderError(f"The key file {path} holds no secret key.")
        if any(len(key) != 40 or len(z85.decode(key)) != 32 for key in (public, secret) if key is not None):
            raise ValueError("a key has 40 characters of Z85")
        if secret is not None and stat.S_IMODE(path.stat().st_mode) & 0o077:
            _log.warning("%s can be read by other users of this machine: chmod 600 it", path)
        return Certificate(public, secret or b"", _has_balancer_mark(path.read_text("utf-8", "replace")))
    except KeyFolderError:
        raise
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        if isinstance(error, OSError) and error.errno not in (None, *UNAVAILABLE):
            raise
        raise KeyFolderError(f"The key file {path} can't be read: {error}.") from error


def _has_balancer_mark(text: str) -> bool:
    """Whether the section ``metadata``, whose lines are indented, has the mark."""
    section = ""
    for line in text.splitlines():
        if not line[:1].isspace():
            section = line.strip()
        elif section == _METADATA.strip():
            name, _, value = line.partition("=")
            if (name.strip(), value.strip(" \t\"'")) == (_ROLE, _BALANCER):
                return True
    return False
