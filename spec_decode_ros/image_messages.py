"""Image messages of a camera or a bag as JPEG bytes, which the models read."""

from __future__ import annotations

from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.pictures import encode_jpeg, to_jpeg

# Encoding: bytes per pixel, Pillow's mode, and Pillow's byte order.
_RAW = {
    "rgb8": (3, "RGB", "RGB"),
    "bgr8": (3, "RGB", "BGR"),
    "8UC3": (3, "RGB", "BGR"),
    "rgba8": (4, "RGB", "RGBX"),
    "bgra8": (4, "RGB", "BGRX"),
    "8UC4": (4, "RGB", "BGRX"),
    "mono8": (1, "L", "L"),
    "8UC1": (1, "L", "L"),
}


def picture_to_jpeg(message: Any, raw: bool, name: str, max_width: int = 0) -> bytes:
    """JPEG bytes of a sensor_msgs Image (`raw`) or CompressedImage, scaled down to `max_width` pixels as `to_jpeg` does.

    JPEG data stays as it is where it is small enough.

    Raises:
        SpecDecodeError: it is no picture, or its encoding is not supported.
    """
    if not raw:
        return to_jpeg(bytes(message.data), max_width, name=name)
    from PIL import Image

    if message.encoding not in _RAW:
        raise SpecDecodeError(
            f"{name} is encoded as {message.encoding[:40]!r}; supported are {', '.join(_RAW)}, and CompressedImage"
        )
    depth, mode, order = _RAW[message.encoding]
    width, height, step = int(message.width), int(message.height), int(message.step)
    step = step or depth * width
    data = bytes(message.data)
    if not width or not height or step < depth * width or len(data) < step * (height - 1) + depth * width:
        raise SpecDecodeError(
            f"{name} says {width} x {height} pixels in rows of {step} bytes and holds {len(data)} bytes"
        )
    image = Image.frombytes(mode, (width, height), data.ljust(step * height, b"\0"), "raw", order, step)
    return encode_jpeg(image.convert("RGB"), max_width)
