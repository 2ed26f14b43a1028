"""Whatever Pillow can open comes in as an upright RGB picture that the models accept, or is refused in one sentence."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.images import ImageError, read_images
from spec_decode_ros.pictures import MOST_FILE_PIXELS, MOST_PIXEL_SCANS, MOST_PIXELS, PictureError, to_jpeg

ORIENTATION = 0x0112
BACK = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 7: "TRANSVERSE"}
BACK |= {6: "ROTATE_90", 8: "ROTATE_270"}
"""How a camera would store an upright picture under each orientation."""


def scene(size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Gray with a red square at the top on the left and a blue one at the bottom on the right."""
    image = Image.new("RGB", size, (128, 128, 128))
    drawing = ImageDraw.Draw(image)
    drawing.rectangle((0, 0, size[0] // 3, size[1] // 3), (220, 20, 20))
    drawing.rectangle((size[0] * 2 // 3, size[1] * 2 // 3, *size), (20, 20, 220))
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    with io.BytesIO() as out:
        image.save(out, kind, **options)
        return out.getvalue()


def stored(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = scene()
    if orientation in BACK:
        image = image.transpose(Image.Transpose[BACK[orientation]])
    return encoded(image, kind, exif=exif)


def pixels(jpeg: bytes) -> np.ndarray:
    """As a model gets them."""
    return np.asarray(read_images([jpeg])[0]).astype(int)


def png_of(width: int, height: int, kind: int = 2) -> bytes:
    """A PNG without pixels that says it is that large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_however_the_camera_was_held(kind: str, orientation: int) -> None:
    seen = pixels(to_jpeg(stored(orientation, kind)))
    assert seen.shape == (64, 96, 3)
    assert np.abs(seen - np.asarray(scene()).astype(int)).mean() < 4


def test_an_upright_jpeg_stays_as_it_is_whatever_else_its_metadata_say() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a robot's camera"
    for data in (encoded(scene()), stored(1), stored(9), encoded(scene(), exif=exif)):
        assert to_jpeg(data) == data
    damaged = stored(6).replace(b"Exif\0\0MM", b"Exif\0\0M?").replace(b"Exif\0\0II", b"Exif\0\0I?")
    assert to_jpeg(damaged) == damaged


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_gray_of_16_bits_keeps_its_shades(kind: str) -> None:
    shades = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    seen = pixels(to_jpeg(encoded(Image.fromarray(shades), kind)))
    assert np.abs(seen.mean(axis=2) - shades / 257).max() < 6


def test_gray_of_16_bits_from_the_wire_keeps_its_shades_too() -> None:
    shades = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    assert np.abs(pixels(encoded(Image.fromarray(shades), "PNG")).mean(axis=2) - shades / 257).max() < 2


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_known_white_are_refused(mode: str) -> None:
    with pytest.raises(PictureError, match=r"32 bits .* save it with 8 or 16 bits"):
        to_jpeg(encoded(scene().convert(mode), "TIFF"))


@pytest.mark.parametrize(
    "behind",
    [b"\n", b"SEFT" * 30, encoded(scene(), "PNG"), encoded(scene()), b"\xff\xd9" + b"x" * 99],
    ids=["newline", "trailer", "png", "second picture", "another end"],
)
@pytest.mark.parametrize("progressive", [False, True])
def test_what_stands_behind_the_end_of_a_jpeg_is_cut_off(behind: bytes, progressive: bool) -> None:
    alone = encoded(scene(), progressive=progressive, restart_marker_blocks=2)
    assert to_jpeg(alone + behind) == alone
    padded = alone + bytes(64)
    assert to_jpeg(padded) == padded  # as some cameras do; it was always fine


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_large_picture_is_scaled_down_to_what_the_models_take(kind: str) -> None:
    size = (4000, 3000)
    with pytest.raises(ImageError, match="pixels in all"):
        read_images([encoded(scene(size), kind)])
    seen = pixels(to_jpeg(encoded(scene(size), kind)))
    height, width, _ = seen.shape
    assert 0.98 * MOST_PIXELS < height * width <= MOST_PIXELS
    assert abs(width / height - 4 / 3) < 0.01
    assert pixels(to_jpeg(encoded(scene(size), kind), max_width=640)).shape == (480, 640, 3)


@pytest.mark.parametrize("size", [(1, 70_000), (70_000, 1), (65_000, 300)])
def test_odd_shapes_fit_into_a_jpeg(size: tuple[int, int]) -> None:
    pixels(to_jpeg(encoded(Image.new("RGB", size), "PNG")))


@pytest.mark.parametrize("size", [(8192, 8193), (50_000, 50_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_it_is_unpacked(size: tuple[int, int]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PictureError, match=f"at most {MOST_FILE_PIXELS:,} are read"):
            to_jpeg(png_of(*size))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_jpeg_of_endless_scans_is_refused_and_one_of_many_becomes_baseline() -> None:
    data = encoded(scene((640, 480)), progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]

    def repeated(times: int) -> bytes:
        return data[:-2] + last * times + b"\xff\xd9"

    many = repeated(MOST_PIXEL_SCANS // (640 * 480) + 1)
    with pytest.raises(ImageError, match="too long to unpack"):
        read_images([many])
    assert np.abs(pixels(to_jpeg(many)) - pixels(data)).mean() < 4
    with pytest.raises(PictureError, match="too long to unpack"):
        to_jpeg(repeated(16 * MOST_FILE_PIXELS // (640 * 480) + 1))


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", b"\xff\xd8", encoded(scene())[:-200], encoded(scene(), "EPS"), png_of(9, 9, 5)],
    ids=["nothing", "text", "two bytes", "cut off", "a program", "an unknown kind"],
)
def test_what_is_no_picture_is_refused_in_one_sentence_without_an_address(data: bytes) -> None:
    with pytest.raises(PictureError, match=r"^a frame is no readable picture \(.*\)") as caught:
        to_jpeg(data, name="a frame")
    assert isinstance(caught.value, SpecDecodeError)
    assert "0x" not in str(caught.value) and "\n" not in str(caught.value)
