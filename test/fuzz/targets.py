"""What is fuzzed. Each target takes any bytes, and raises where the software does what it must not.

A target returns how many messages it has tried. `prepare` comes first, for what is expensive.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from fuzz import cases
from spec_decode_ros.decoding import sparse
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.codec import WireError, decode, encode
from spec_decode_ros.transport.endpoint import EndpointError, parse_address, parse_endpoint, parse_endpoints

Try = Callable[[bytes], int]


@dataclass(frozen=True)
class Target:
    """Something to fuzz.

    Attributes:
        open: a context that yields what takes one input.
        seeds: inputs to begin with.
        modules: whose coverage guides the fuzzer; beginnings of their names.
        structured: whether inputs are the cases of `cases.py`.
        longest: bytes of an input.
    """

    open: Callable[[], contextlib.AbstractContextManager[Try]]
    seeds: Callable[[], list[bytes]]
    modules: tuple[str, ...]
    structured: bool = True
    longest: int = 4096


@contextlib.contextmanager
def _decode() -> Iterator[Try]:
    def attempt(data: bytes) -> int:
        case = cases.split(data)
        for _, frames in case:
            try:
                message, images = decode(frames)
            except WireError:
                continue
            again, _ = decode(encode(message, images))
            assert again == message, f"{message} came back as {again}"
        return len(case)

    yield attempt


@contextlib.contextmanager
def _endpoints() -> Iterator[Try]:
    def attempt(data: bytes) -> int:
        text = data.decode("utf-8", "surrogateescape")
        for listening in (False, True):
            try:
                found = parse_endpoint(text, listening)
            except EndpointError as error:
                assert str(error).isprintable()
                continue
            assert parse_endpoint(str(found), listening) == found
            assert listening or found.scheme == "ipc" or 0 < found.port < 65536
        for parse in (parse_endpoints, parse_address):
            with contextlib.suppress(EndpointError):
                parse(text)
        return 1

    yield attempt


def _endpoint_seeds() -> list[bytes]:
    return [
        b"tcp://10.0.0.5:5555",
        b"tcp://[fe80::1%eth0]:5555,tcp://cloud.example.org:1",
        b"tcp://*:*",
        b"ipc:///run/verifier",
        b"[::1]:9464",
    ]


@contextlib.contextmanager
def _sparse() -> Iterator[Try]:
    def attempt(data: bytes) -> int:
        try:
            found = sparse.unpack(data)
        except SpecDecodeError:
            return 1
        assert sparse.unpack(sparse.pack(found)) == found
        assert 0.0 <= found.rest <= 1.0 and abs(found.head.sum() + found.rest - 1.0) < 1e-9
        return 1

    yield attempt


@contextlib.contextmanager
def _images() -> Iterator[Try]:
    from spec_decode_ros.models.images import ImageError, read_images
    from spec_decode_ros.pictures import MOST_PIXELS

    logging.getLogger("PIL").setLevel(logging.CRITICAL)

    def attempt(data: bytes) -> int:
        with contextlib.suppress(ImageError):
            (image,) = read_images([data])
            assert image.mode == "RGB" and image.width * image.height <= MOST_PIXELS
        return 1

    yield attempt


@contextlib.contextmanager
def _any_picture() -> Iterator[Try]:
    from spec_decode_ros.models.images import read_images
    from spec_decode_ros.pictures import PictureError, to_jpeg

    logging.getLogger("PIL").setLevel(logging.CRITICAL)

    def attempt(data: bytes) -> int:
        try:
            jpeg = to_jpeg(data, name="a frame")
        except PictureError as error:
            assert str(error).startswith("a frame is no readable picture (") and " at 0x" not in str(error)
        else:
            read_images([jpeg])  # whatever comes in, the verifier takes it
        return 1

    yield attempt


@contextlib.contextmanager
def _bag() -> Iterator[Try]:
    from spec_decode_ros.replay.bag import read_frames, read_recording

    with tempfile.TemporaryDirectory() as folder:

        def attempt(data: bytes) -> int:
            file = Path(folder) / ("bag.db3" if data.startswith(b"SQLite") else "bag.mcap")
            file.write_bytes(data)
            with contextlib.suppress(SpecDecodeError):
                list(read_frames(read_recording(file)))
            return 1

        yield attempt


def _bag_seeds() -> list[bytes]:
    sys.path.append(str(Path(__file__).parents[1] / "replay"))
    from bags import S, compressed, string, twist, write_bag

    messages = [
        ("/command", S, string("go to the red chair")),
        ("/camera/image/compressed", 2 * S, compressed(2 * S)),
        ("/action/verified", 3 * S, twist(2 * S, 0.4, -0.2)),
        ("/action/text", 3 * S + 1, string("vx 0.4 wz -0.2 | red chair right 1.5")),
    ]
    with tempfile.TemporaryDirectory() as folder:
        bags = [write_bag(Path(folder) / storage, messages, storage) for storage in ("mcap", "sqlite3")]
        return [file.read_bytes() for bag in bags for file in bag.iterdir() if file.suffix != ".yaml"]


def _any_picture_seeds() -> list[bytes]:
    turned = Image.Exif()
    turned[0x0112] = 6
    made = []
    for kind, mode in (
        *(("TIFF", mode) for mode in ("RGB", "I;16", "F", "CMYK")),
        *(("WEBP", "RGBA"), ("GIF", "P"), ("BMP", "RGB"), ("PPM", "I"), ("TGA", "RGBA"), ("JPEG2000", "RGB")),
    ):
        with BytesIO() as out:
            Image.new(mode, (17, 11)).save(out, kind)
            made.append(out.getvalue())
    for kind in ("JPEG", "PNG", "WEBP", "MPO"):
        with BytesIO() as out:
            Image.new("RGB", (17, 11)).save(out, kind, exif=turned)
            made.append(out.getvalue() + b"SEFT" * 5)
    return _picture_seeds() + made


def _picture_seeds() -> list[bytes]:
    exif = Image.Exif()
    exif[0x010E] = "a camera"
    exif[0x011A] = 72.0
    kinds: list[tuple[str, str, dict[str, object]]] = [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True, "exif": exif}),
        ("JPEG", "CMYK", {"dpi": (72, 72), "comment": b"hello"}),
        ("MPO", "RGB", {}),
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {"exif": exif}),
        ("PNG", "P", {"dpi": (72, 72)}),
        ("PNG", "I;16", {}),
    ]
    made = []
    for kind, mode, options in kinds:
        with BytesIO() as out:
            Image.new(mode, (17, 11)).save(out, kind, **options)
            made.append(out.getvalue())
    return made


def _packed_seeds() -> list[bytes]:
    return [
        sparse.pack(sparse.Sparse((3, 9, 2**20), (5, 2**19, 7), 4)),
        sparse.pack(sparse.Sparse((0,), (2**20,))),
    ]


def _server() -> contextlib.AbstractContextManager[Try]:
    from fuzz.server_target import whole_server

    return whole_server()


_OURS = "spec_decode_ros."
TARGETS = {
    "server": Target(_server, cases.seeds, (f"{_OURS}transport", f"{_OURS}server", f"{_OURS}decoding")),
    "decode": Target(_decode, cases.seeds, (f"{_OURS}transport.codec", f"{_OURS}decoding.messages")),
    "endpoints": Target(
        _endpoints, _endpoint_seeds, (f"{_OURS}transport.endpoint",), structured=False, longest=300
    ),
    "images": Target(_images, _picture_seeds, (f"{_OURS}models.images", "PIL"), structured=False),
    "any picture": Target(_any_picture, _any_picture_seeds, (f"{_OURS}pictures", "PIL"), structured=False),
    "bag": Target(_bag, _bag_seeds, (f"{_OURS}replay",), structured=False, longest=65_536),
    "sparse": Target(_sparse, _packed_seeds, (f"{_OURS}decoding.sparse",), structured=False, longest=600),
}
