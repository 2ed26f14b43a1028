"""Camera frames without a robot: from a folder of pictures, a video file, or a camera device.

Every source yields JPEG bytes, upright and of a bounded size (`pictures.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.pictures import PictureError, encode_jpeg, to_jpeg

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")


class SourceError(SpecDecodeError):
    """A frame source that cannot be opened or read."""


def open_source(
    source: str,
    loop: bool = True,
    max_width: int = 0,
    quality: int = 85,
    on_skip: Callable[[str], object] = lambda sentence: None,
) -> Iterator[bytes]:
    """Open a source and return its frames as JPEG bytes, one after the other.

    Args:
        source: a folder of pictures (taken in the order of their names), one picture, a video file, or a
            camera device such as ``/dev/video0`` or ``0``.
        loop: begin anew at the end; a camera device never ends.
        max_width: pixels; wider frames are scaled down, 0 leaves them as they are.
        quality: of JPEG frames that have to be encoded, 1 to 95.
        on_skip: called for each picture of a folder that cannot be read and is skipped, with the reason.

    Raises:
        SourceError: at once if there is nothing to open, later if no frame can be read.
    """
    if not source:
        raise SourceError(
            "no frame source is given: set it to a folder of pictures, a video file or a camera"
        )
    path = Path(source)
    if source.isdigit() or source.startswith("/dev/"):
        return _video(int(source) if source.isdigit() else source, False, max_width, quality)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
        if not files:
            raise SourceError(
                f"there are no pictures in {source}: it needs files that end in {', '.join(PICTURES)}"
            )
        return _pictures(files, loop, max_width, quality, on_skip)
    if not path.is_file():
        raise SourceError(
            f"there is no frame source {source}: give a folder of pictures, a video file or a camera"
        )
    if path.suffix.lower() in PICTURES:
        return _pictures([path], loop, max_width, quality, on_skip)
    if path.suffix.lower() in VIDEOS:
        return _video(source, loop, max_width, quality)
    raise SourceError(
        f"{source} is neither a picture nor a video: known endings are {', '.join(PICTURES + VIDEOS)}"
    )


def _pictures(
    files: list[Path], loop: bool, max_width: int, quality: int, on_skip: Callable[[str], object]
) -> Iterator[bytes]:
    while True:
        whole, problem = 0, ""
        for file in files:
            try:
                jpeg = to_jpeg(file.read_bytes(), max_width, quality, str(file))
            except (OSError, PictureError) as error:
                sentence = f"{file} cannot be read ({error})" if isinstance(error, OSError) else str(error)
                problem = problem or sentence
                on_skip(sentence)
                continue
            whole += 1
            yield jpeg
        if not whole:
            raise SourceError(f"{problem}; no picture of this source can be read")
        if not loop:
            return


def _video(source: str | int, loop: bool, max_width: int, quality: int) -> Iterator[bytes]:
    try:
        import cv2
    except ImportError as error:
        raise SourceError(
            f"reading {source} needs OpenCV: pip install opencv-python-headless, or use a folder of pictures"
        ) from error
    capture = cv2.VideoCapture(source)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a camera's newest frame, not a queued one
    if not capture.isOpened():
        raise SourceError(
            f"{source} cannot be opened as a video or camera: is the file whole, is the camera free?"
        )
    return _captured(cv2, capture, source, loop, max_width, quality)


def _captured(
    cv2: Any, capture: Any, source: str | int, loop: bool, max_width: int, quality: int
) -> Iterator[bytes]:
    try:
        fresh = True
        while True:
            good, frame = capture.read()
            if good:
                fresh = False
                yield encode_jpeg(Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)), max_width, quality)
            elif fresh:
                raise SourceError(f"{source} gives no frame: is the file whole, is the camera plugged in?")
            elif not loop:
                return
            else:
                capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                fresh = True
    finally:
        capture.release()
