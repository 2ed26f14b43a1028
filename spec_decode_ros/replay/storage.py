"""Messages of rosbag2 files, mcap or sqlite3, packed or not, within bounds: a small file may unpack to any size.

Each file is read by itself, and of `metadata.yaml` only which files there are and how they are packed. Whatever
`rosbags` raises on a damaged file becomes a :class:`BagError`.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import io
import operator
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from spec_decode_ros.errors import SpecDecodeError

STORAGES = (".mcap", ".db3")
PACKED = ".zstd"

MOST_CHUNK_BYTES = 64 * 2**20
"""Of messages that are packed together, and so of one message. A raw frame of 4K has 25 MB."""

MOST_FILE_BYTES = 4 * 2**30
"""Of a file that is packed as a whole, once it is unpacked on the disk."""

_MOST_RATIO = 1000
"""Of unpacked to packed bytes; JPEG frames have 1, raw frames of a bare simulated room some hundred."""

_MOST_METADATA_BYTES = 4 * 2**20
_PIECE_BYTES = 2**20


class BagError(SpecDecodeError):
    """A bag that cannot be read or used; the message says why and what to do."""


class Message(NamedTuple):
    """A message as it was recorded; the time is that of its recording in nanoseconds."""

    topic: str
    kind: str
    time: int
    data: bytes


@dataclass(frozen=True)
class Bag:
    """An open bag.

    Attributes:
        path: as it was given.
        readers: one of `rosbags` for each file.
        message_packed: whether each message is packed by itself.
    """

    path: Path
    readers: tuple[Any, ...]
    message_packed: bool

    @property
    def topics(self) -> dict[str, str]:
        """The topics and their types."""
        return {one.topic: one.msgtype for reader in self.readers for one in reader.connections}

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """The messages on the topics, in the order of recording. Raises BagError."""
        found = heapq.merge(
            *(self._of(reader, topics) for reader in self.readers), key=operator.attrgetter("time")
        )
        while True:
            with bag_errors(self.path):
                message = next(found, None)
            if message is None:
                return
            yield message

    def _of(self, reader: Any, topics: Collection[str]) -> Iterator[Message]:
        connections = [connection for connection in reader.connections if connection.topic in topics]
        if not connections:  # an empty list would select all topics
            return
        for connection, time, data in reader.messages(connections):
            if self.message_packed:
                packed_size, data = len(data), _unpack_zstd(data, MOST_CHUNK_BYTES)
                _check_size(f"a message on {connection.topic}", len(data), packed_size)
            elif len(data) > MOST_CHUNK_BYTES:
                raise BagError(
                    f"a message on {connection.topic} has {len(data):,} bytes: record smaller frames"
                )
            yield Message(connection.topic, connection.msgtype, time, data)


@contextlib.contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """Open a bag's folder or one of its files. Raises BagError."""
    from rosbags.rosbag2 import Reader

    with contextlib.ExitStack() as stack:
        with bag_errors(path):
            _bound_chunks()
            files, message_packed = _files(path)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bag")))
            readers = [
                stack.enter_context(Reader(_plain(file, folder / str(index))))
                for index, file in enumerate(files)
            ]
        yield Bag(path, tuple(readers), message_packed)


@contextlib.contextmanager
def bag_errors(path: Path) -> Iterator[None]:
    """Turn every exception of `rosbags` into a BagError."""
    try:
        yield
    except SpecDecodeError:
        raise
    except Exception as error:
        # A damaged byte can raise anything from struct.error to errors of sqlite.
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise BagError(
            f"{path} cannot be read ({reason}): it is cut short or damaged; `mcap recover` or `ros2 bag reindex` "
            "may mend it, else record it again"
        ) from error


# -- files --------------------------------------------------------------------------------------------------


def _files(path: Path) -> tuple[list[Path], bool]:
    """The bag's files in the order of their names, and whether their messages are packed one by one."""
    if not path.exists():
        raise BagError(f"there is no bag {path}")
    if path.is_file() and path.name != "metadata.yaml":
        if not _storage(path):
            hint = "convert it with rosbags-convert" if path.suffix == ".bag" else "give its folder or file"
            raise BagError(f"{path} is no rosbag2, which is a folder, a .mcap or a .db3 file: {hint}")
        return [path], False
    folder = path.parent if path.is_file() else path
    if (folder / "metadata.yaml").is_file():
        return _listed(folder)
    files = sorted(file for file in folder.iterdir() if _storage(file))
    if not files:
        raise BagError(f"{path} is no rosbag2: it has neither metadata.yaml nor .mcap or .db3 files")
    if len({_storage(file) for file in files}) > 1:
        raise BagError(f"{path} has .mcap and .db3 files and no metadata.yaml: name one of the files")
    return files, False


def _listed(folder: Path) -> tuple[list[Path], bool]:
    """The same as `metadata.yaml` says it."""
    file = folder / "metadata.yaml"
    if file.stat().st_size > _MOST_METADATA_BYTES:
        raise BagError(
            f"{file} has more than {_MOST_METADATA_BYTES:,} bytes; remove it: the bag is read without it too"
        )
    try:
        about = yaml.safe_load(file.read_text())["rosbag2_bagfile_information"]
        # Names alone: they lie beside it, wherever they were recorded.
        names = [Path(str(name)).name for name in about["relative_file_paths"]]
        mode, packing = str(about.get("compression_mode") or ""), about.get("compression_format") or "zstd"
    except (yaml.YAMLError, OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise BagError(
            f"{file} is damaged; remove it and name the bag again: its files are read without it too"
        ) from error
    for name in names:
        if not (folder / name).is_file():
            raise BagError(f"{folder} has no file {name}, which its metadata.yaml names: copy the whole bag")
        if not _storage(Path(name)):
            raise BagError(f"{folder} is stored as {name}, and only .mcap and .db3 are read: convert it")
    if not names:
        raise BagError(f"{folder} is empty: its metadata.yaml names no file; record it again")
    if mode.lower() in ("message", "file") and packing != "zstd":
        raise BagError(f"{folder} is packed with {packing}, and only zstd is read: convert it")
    return [folder / name for name in names], mode.lower() == "message"


def _storage(file: Path) -> str:
    """How a file is stored, by its ending; empty for any other file."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    ending = (suffixes[:-1] if suffixes[-1:] == [PACKED] else suffixes)[-1:]
    return ending[0] if ending and ending[0] in STORAGES else ""


def _plain(file: Path, place: Path) -> Path:
    """The file, or one at `place` without packing and with the ending that `rosbags` knows."""
    if file.suffix in STORAGES:
        return file
    place = place.with_suffix(_storage(file))
    if file.suffix.lower() == PACKED:
        _unpack_file(file, place)
    else:
        place.symlink_to(file.absolute())
    return place


# -- unpacking ----------------------------------------------------------------------------------------------


def _zstd() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError:
        from backports import zstd  # comes with rosbags
    return zstd


@functools.cache
def _bound_chunks() -> None:
    """Let `rosbags` unpack no more of a chunk than it may have: by itself it takes whatever comes."""
    from lz4.frame import LZ4FrameDecompressor
    from rosbags.rosbag2 import storage_mcap

    def plain(data: bytes, size: int) -> bytes:
        return data

    def unpack_lz4(data: bytes, size: int) -> bytes:
        _check_size("a chunk of the bag", size, len(data))
        return bytes(LZ4FrameDecompressor().decompress(data, max_length=size + 1))

    def unpack_zstd(data: bytes, size: int) -> bytes:
        _check_size("a chunk of the bag", size, len(data))
        return _unpack_zstd(data, size)

    storage_mcap.DECOMPRESSORS.update({"": plain, "lz4": unpack_lz4, "zstd": unpack_zstd})


def _unpack_zstd(data: bytes, most: int) -> bytes:
    """One byte more than `most` at most."""
    with _zstd().open(io.BytesIO(data), "rb") as packed:
        found: bytes = packed.read(most + 1)
    return found


def _unpack_file(file: Path, place: Path) -> None:
    size, packed_size = 0, file.stat().st_size
    with _zstd().open(file, "rb") as packed, place.open("wb") as plain:
        while piece := packed.read(_PIECE_BYTES):
            size += plain.write(piece)
            _check_size(str(file), size, packed_size, MOST_FILE_BYTES)


def _check_size(what: str, size: int, packed_size: int, most: int = 0) -> None:
    most = most or MOST_CHUNK_BYTES
    if size > min(most, _MOST_RATIO * packed_size + 2**16):
        raise BagError(
            f"{what} unpacks to more than {most:,} bytes or {_MOST_RATIO} times its size, as no camera's recording "
            "does: record smaller frames, or with less in one chunk"
        )
