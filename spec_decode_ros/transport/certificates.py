"""One CurveZMQ key in a file, in the format that ZeroMQ's own tools write.

A public key can be marked as that of a balancer, in the file's metadata. The mark counts where the server keeps the
keys that it lets in, so it is the word of who runs the server.
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

_AWAY = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES)
_METADATA = "metadata\n"
_ROLE, _BALANCER = "role", "balancer"


class KeyFolderError(SpecDecodeError):
    """Keys that can't be used."""


@dataclass(frozen=True)
class Certificate:
    """What a file holds: keys of 40 characters each, the secret one empty where it is not there."""

    public: bytes
    secret: bytes
    balancer: bool = False


def make_certificate(folder: Path, name: str, balancer: bool = False) -> None:
    """Write a new pair of keys to `folder`, as NAME.key and NAME.key_secret. Raises OSError, zmq.ZMQError."""
    before = os.umask(0o077)
    try:
        public, _ = zmq.auth.create_certificates(folder, name)
        if balancer:  # pyzmq puts metadata into the secret half only
            text = Path(public).read_text(encoding="utf-8")
            marked = text.replace(_METADATA, f'{_METADATA}    {_ROLE} = "{_BALANCER}"\n', 1)
            Path(public).write_text(marked, encoding="utf-8")
    finally:
        os.umask(before)


def read_certificate(path: Path, secret_needed: bool = False) -> Certificate:
    """What is in a file.

    Raises:
        KeyFolderError: if the file is not there, may not be read, or holds no key, or no secret one where it is needed.
        OSError: if it can't be read for now, such as with too many open files.
    """
    try:
        public, secret = zmq.auth.load_certificate(path)
        if secret_needed and secret is None:
            raise KeyFolderError(f"The key file {path} holds no secret key.")
        if any(len(key) != 40 or len(z85.decode(key)) != 32 for key in (public, secret) if key is not None):
            raise ValueError("a key has 40 characters of Z85")
        if secret is not None and stat.S_IMODE(path.stat().st_mode) & 0o077:
            _log.warning("%s can be read by other users of this machine: chmod 600 it", path)
        return Certificate(public, secret or b"", _is_balancers(path.read_text("utf-8", "replace")))
    except KeyFolderError:
        raise
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        if isinstance(error, OSError) and error.errno not in (None, *_AWAY):
            raise
        raise KeyFolderError(f"The key file {path} can't be read: {error}.") from error


def _is_balancers(text: str) -> bool:
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
