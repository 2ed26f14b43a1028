"""Pictures that were made to hurt: refused before they cost anything, with a sentence."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib

import pytest
from PIL import Image

from spec_decode_ros.models.images import ImageError, read_images
from spec_decode_ros.pictures import MOST_PIXEL_SCANS, MOST_PIXELS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def encoded(kind: str, size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: object) -> bytes:
    with io.BytesIO() as out:
        Image.new(mode, size).save(out, kind, **options)
        return out.getvalue()


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG of 64 x 48 whose header says something else."""
    data = bytearray(encoded("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def png_of(width: int, height: int, body: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data))
            + name
            + data
            + struct.pack(">I", zlib.crc32(name + data) & 0xFFFFFFFF)
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def with_scans(count: int, size: tuple[int, int]) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded("JPEG", size, progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + b"\xff\xd9"


def peak_bytes(images: list[bytes]) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(ImageError):
            read_images(images)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16")],
)
def test_every_camera_frame_becomes_rgb(kind: str, mode: str) -> None:
    (image,) = read_images([encoded(kind, mode=mode)])
    assert (image.mode, image.size) == ("RGB", (64, 48))


def test_full_hd_from_four_cameras_and_progressive_frames_are_read() -> None:
    frames = [encoded("JPEG", (1920, 1080), progressive=True)] * 4
    assert [image.size for image in read_images(frames)] == [(1920, 1080)] * 4


@pytest.mark.parametrize(
    "bomb",
    [
        jpeg_of(65_500, 65_500),
        jpeg_of(65_500, 200),
        png_of(2**31 - 1, 2**31 - 1, b""),
        png_of(50_000, 50_000, b""),
    ],
    ids=["jpeg", "wide jpeg", "endless png", "png"],
)
def test_an_image_bomb_is_refused_before_it_is_unpacked(bomb: bytes) -> None:
    with pytest.raises(ImageError, match="pixels in all, and at most 8,847,360 are read"):
        read_images([bomb])
    assert peak_bytes([bomb]) < 1_000_000


def test_many_images_share_the_bound() -> None:
    half = encoded("JPEG", (2160, 2160))
    assert 2160 * 2160 <= MOST_PIXELS < 2 * 2160 * 2160
    read_images([half])
    with pytest.raises(ImageError, match="pixels in all"):
        read_images([half, half])


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    read_images([with_scans(12, (640, 480))])
    with pytest.raises(ImageError, match="too long to unpack"):
        read_images([with_scans(MOST_PIXEL_SCANS // (640 * 480) + 1, (640, 480))])


def test_a_png_that_unpacks_to_more_than_it_says_is_harmless() -> None:
    bomb = png_of(8, 8, zlib.compress(bytes(50_000_000), 9))
    tracemalloc.start()
    try:
        assert read_images([bomb])[0].size == (8, 8)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_compressed_texts_of_a_png_are_bounded() -> None:
    text = b"note\0\0" + zlib.compress(bytes(200_000_000), 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    data = encoded("PNG")
    assert peak_bytes([data[:33] + chunk + data[33:]]) < 8_000_000


def zip_behind(picture: bytes) -> bytes:
    with io.BytesIO(picture) as out:
        out.seek(0, io.SEEK_END)
        with zipfile.ZipFile(out, "a") as archive:
            archive.writestr("payload", "not a picture")
        return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_nothing_else_travels_in_a_picture(kind: str) -> None:
    polyglot = zip_behind(encoded(kind))
    assert zipfile.is_zipfile(io.BytesIO(polyglot))
    with pytest.raises(ImageError, match="something follows the picture"):
        read_images([polyglot])
    with pytest.raises(ImageError, match="begins like neither"):
        read_images([b"PK\x03\x04" + encoded(kind)])


def test_zeros_with_which_cameras_pad_frames_are_allowed() -> None:
    assert read_images([encoded("JPEG") + bytes(512)])[0].size == (64, 48)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "MPO"])
def test_no_other_decoder_is_reached(kind: str) -> None:
    data = encoded(kind)
    if kind == "MPO":  # a JPEG with further ones behind it: the first one counts
        assert type(read_images([data])[0]) is Image.Image
    else:
        with pytest.raises(ImageError, match="begins like neither"):
            read_images([data])


def test_orders_in_exif_are_not_obeyed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    exif[0x010E] = "x" * 60_000
    assert read_images([encoded("JPEG", exif=exif)])[0].size == (64, 48)


def test_ten_thousand_damaged_pictures_raise_nothing_but_image_errors() -> None:
    rng = random.Random(11)
    exif = Image.Exif()
    exif[0x010E] = "a robot's camera"
    originals = [
        encoded("JPEG", exif=exif),
        encoded("JPEG", progressive=True),
        encoded("PNG"),
        encoded("MPO"),
        with_scans(14, (64, 48)),
    ]
    refused = 0
    for _ in range(10_000):
        data = bytearray(rng.choice(originals))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(3, len(data))] = rng.randrange(256)
        if rng.random() < 0.1:
            del data[rng.randrange(len(data)) :]
        try:
            read_images([bytes(data)])
        except ImageError:
            refused += 1
    assert 500 < refused < 9_900


def test_odd_metadata_leaves_nothing_behind() -> None:
    """Python's own memory of warnings, which each new sentence would make longer."""
    program = """
import io, sys
from PIL import Image, TiffImagePlugin
from spec_decode_ros.models.images import ImageError, read_images
exif = Image.Exif()
exif[0x010E] = "a robot's camera"
with io.BytesIO() as out:
    Image.new("RGB", (8, 8)).save(out, "JPEG", exif=exif)
    data = bytearray(out.getvalue())
at = data.index(b"Exif") + 24
for number in range(256):
    data[at] = number
    try:
        read_images([bytes(data)])
    except ImageError:
        pass
print([key for key in getattr(TiffImagePlugin, "__warningregistry__", {}) if key != "version"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
