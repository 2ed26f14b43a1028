"""Any picture as JPEG bytes that the models read: upright, RGB or gray, and of a bounded size.

Files, cameras and bags all come in here. What the verifier gets over the wire is read more strictly, in
`models/images.py`.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from spec_decode_ros.errors import SpecDecodeError

MOST_PIXELS = 4096 * 2160
"""Of all images of one action: one 4K frame, or four of full HD. Unpacked that is 27 MB."""

MOST_PIXEL_SCANS = 16 * MOST_PIXELS
"""Pixels times the scans of a JPEG; a progressive one usually has ten. Decoding this many takes about 0.2 s."""

MOST_FILE_PIXELS = 8192 * 8192
"""Of a picture that is scaled down before a model sees it: a phone has 64 million. Unpacked that is 200 MB."""

# Pillow warns of odd metadata. Python remembers every sentence of a warning, so a sender of many could fill memory.
warnings.filterwarnings("ignore", module=r"PIL\.")

_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # within a scan; the others belong to its data
_LONGEST_SIDE = 65_500  # of a JPEG
_ORIENTATION = 0x0112  # in EXIF

_KINDS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "AVIF", "TGA")
"""Pillow's names. Of its other kinds some run programs, and none is a camera's."""


class PictureError(SpecDecodeError):
    """A picture that cannot be read."""


def to_jpeg(picture: bytes, max_width: int = 0, quality: int = 85, name: str = "picture") -> bytes:
    """JPEG bytes of an encoded picture, scaled down to `max_width` pixels (0: only to `MOST_PIXELS`).

    A JPEG that is upright and small enough stays as it is, but for what stands behind its end.

    Raises:
        PictureError: it cannot be read, or would take too much memory or time; the message begins with `name`.
    """
    data = _without_trailer(picture)
    scans = data.count(_JPEG_SCAN) if data.startswith(_JPEG) else 1
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check(image, scans)
            image.load()  # a file that is cut off fails here and not in the model
            whole = data.rstrip(b"\0").endswith(_JPEG_END) and image.format in ("JPEG", "MPO")
            area = image.width * image.height
            fits = area * scans <= MOST_PIXEL_SCANS and image.size == _fitting(image, max_width)
            if whole and fits and _orientation(image) == 1:
                return data
            return encode_jpeg(to_rgb(_upright(image)), max_width, quality)
    except UnidentifiedImageError as error:  # its own words hold an address in memory
        raise _unreadable(name, "it is of no known kind") from error
    except Image.DecompressionBombError as error:
        raise _unreadable(name, f"at most {MOST_FILE_PIXELS:,} are read") from error
    except Exception as error:  # damaged data raises several unrelated types
        raise _unreadable(name, str(error) or type(error).__name__) from error


def encode_jpeg(image: Image.Image, max_width: int = 0, quality: int = 85) -> bytes:
    """JPEG bytes of a picture, scaled down to `max_width` pixels (0: only to `MOST_PIXELS`)."""
    size = _fitting(image, max_width)
    if size != image.size:
        image = image.resize(size)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def picture_size(picture: bytes) -> tuple[int, int]:
    """Width and height of an encoded picture; only its header is read."""
    with Image.open(io.BytesIO(picture)) as image:
        return image.size


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB; gray of 16 bits keeps its shades. Raises PictureError where white is not known."""
    wide = image.mode.startswith("I")
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise PictureError("its pixels have 32 bits and no known white: save it with 8 or 16 bits")
    if wide:  # else Pillow makes everything above 255 white
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("RGB")


def _check(image: Image.Image, scans: int) -> None:
    """Refuse, by its header, what is unsafe or too expensive to unpack."""
    area = image.width * image.height
    if image.format not in _KINDS:
        raise PictureError(f"it is of the kind {image.format}: save it as JPEG or PNG")
    if area > MOST_FILE_PIXELS:
        raise PictureError(f"it has {area:,} pixels, and at most {MOST_FILE_PIXELS:,} are read")
    if area * scans > 16 * MOST_FILE_PIXELS:
        raise PictureError(f"it has up to {scans} scans and would take too long to unpack")


def _fitting(image: Image.Image, max_width: int) -> tuple[int, int]:
    """Width and height that the picture is scaled down to; its own where it is small enough."""
    width = min(image.width, max_width or image.width, _LONGEST_SIDE)
    if width * image.height * width > MOST_PIXELS * image.width:
        width = max(1, math.isqrt(MOST_PIXELS * image.width // image.height))
    height = max(1, round(image.height * width / image.width))
    return width, min(height, _LONGEST_SIDE)


def _orientation(image: Image.Image) -> int:
    """How the camera was held, as EXIF numbers it; 1 is upright, and what is said of it where nothing sensible is."""
    with contextlib.suppress(Exception):  # damaged metadata do not spoil a picture
        found = image.getexif().get(_ORIENTATION, 1)
        return found if found in range(1, 9) else 1
    return 1


def _upright(image: Image.Image) -> Image.Image:
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _without_trailer(data: bytes) -> bytes:
    """A JPEG without what stands behind its end, such as a phone's film; the zeros of cameras may stay."""
    end = _end_of_jpeg(data) if data.startswith(_JPEG) else 0
    return data[:end] if end and data[end:].strip(b"\0") else data


def _end_of_jpeg(data: bytes) -> int:
    """Where the picture ends, by its segments; 0 where they are damaged or end too soon."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _JPEG_SCAN[1]:
            found = _MARKER.search(data, at)
            if found is None:
                return 0
            at = found.start()
            if found.group() == _JPEG_END:
                return at + 2
    return 0


def _unreadable(name: str, why: str) -> PictureError:
    return PictureError(
        f"{name} is no readable picture ({' '.join(why.split())[:200]}); remove or replace it"
    )
