"""Decoding of camera frames from untrusted bytes, within bounds that are checked before anything is unpacked.

JPEG and PNG are read, by their own decoders and no other. A picture must end where its data ends, so that nothing
else travels in it. A small file can declare a huge area, and a progressive JPEG can go over it any number of times; both
are bounded for all images of one action together.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.pictures import MOST_PIXEL_SCANS, MOST_PIXELS, to_rgb

_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xae\x42\x60\x82"


class ImageError(SpecDecodeError):
    """A camera image that cannot be read."""


def read_images(images: Sequence[bytes]) -> list[Image.Image]:
    """Decode JPEG (or PNG) bytes to RGB.

    Raises:
        ImageError: if one is no whole picture, or all together are larger than `MOST_PIXELS` or `MOST_PIXEL_SCANS`.
    """
    opened = [_open(data, f"Image {number} of {len(images)}") for number, data in enumerate(images, 1)]
    areas = [image.width * image.height for image in opened]
    if sum(areas) > MOST_PIXELS:
        raise ImageError(
            f"The images of this action have {sum(areas):,} pixels in all, and at most {MOST_PIXELS:,} are read: send "
            "smaller camera frames."
        )
    # Too high where these two bytes stand in a thumbnail or in other data beside the picture, never too low.
    scans = [data.count(_JPEG_SCAN) if data.startswith(_JPEG) else 1 for data in images]
    if sum(area * count for area, count in zip(areas, scans, strict=True)) > MOST_PIXEL_SCANS:
        raise ImageError(
            f"The images of this action have up to {max(scans)} scans and would take too long to unpack: send baseline "
            "JPEG frames."
        )
    return [_unpack(image, f"Image {number} of {len(images)}") for number, image in enumerate(opened, 1)]


def _open(data: bytes, name: str) -> Image.Image:
    """The image, of which only the header was read."""
    kind: type[JpegImageFile] | type[PngImageFile]
    if data.startswith(_JPEG):
        kind, whole = JpegImageFile, data.rstrip(b"\0").endswith(_JPEG_END)  # cameras pad frames with zeros
    elif data.startswith(_PNG):
        kind, whole = PngImageFile, data.endswith(_PNG_END)
    else:
        raise _unreadable(name, "it begins like neither")
    if not whole:
        raise _unreadable(name, "it is cut off, or something follows the picture")
    try:
        return kind(io.BytesIO(data))
    except Exception as error:  # malformed headers raise several unrelated types
        raise _unreadable(name, str(error) or type(error).__name__) from error


def _unpack(image: Image.Image, name: str) -> Image.Image:
    try:
        with image:
            return to_rgb(image)
    except Exception as error:  # and so does malformed data
        raise _unreadable(name, str(error) or type(error).__name__) from error


def _unreadable(name: str, why: str) -> ImageError:
    return ImageError(f"{name} is not a readable JPEG or PNG ({why[:200]}): send a whole camera frame.")
