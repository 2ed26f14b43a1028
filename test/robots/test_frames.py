"""Frame sources: folders, pictures, videos, and what is none of these."""

from __future__ import annotations

import io
from itertools import islice

import pytest
from PIL import Image

from spec_decode_ros.pictures import PictureError, to_jpeg
from spec_decode_ros.robots.frames import SourceError, open_source


def picture(kind: str = "JPEG", width: int = 40, color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, 20), color).save(buffer, kind)
    return buffer.getvalue()


def size(jpeg: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.format == "JPEG"
        return image.size


def test_a_jpeg_goes_through_untouched():
    assert to_jpeg(picture(), max_width=40) == picture()


def test_wide_frames_are_scaled_down_and_keep_their_shape():
    assert size(to_jpeg(picture(width=400), max_width=100)) == (100, 5)


def test_other_formats_become_jpeg():
    assert size(to_jpeg(picture("PNG"))) == (40, 20)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\xff\xd8",
        b"no picture",
        picture()[:-100],
        picture("PNG").replace(b"\0\0\0\rIHDR", b"\0\0\0\x05IHDR"),
    ],
)
def test_what_is_no_whole_picture_is_refused(broken):
    with pytest.raises(PictureError, match="no readable picture"):
        to_jpeg(broken)


def test_a_folder_is_read_in_the_order_of_names_and_over_again(tmp_path):
    contents = [picture(color=color) for color in ("red", "green", "blue")]
    for name, content in zip(("b.jpg", "c.JPG", "a.jpeg"), contents, strict=True):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "notes.txt").write_text("not a picture")
    order = [contents[2], contents[0], contents[1]]
    assert list(islice(open_source(str(tmp_path)), 5)) == [*order, *order[:2]]
    assert list(open_source(str(tmp_path), loop=False)) == order


def test_one_picture_is_a_source(tmp_path):
    (tmp_path / "one.png").write_bytes(picture("PNG"))
    assert size(next(open_source(str(tmp_path / "one.png")))) == (40, 20)


def test_a_video_is_a_source(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: it reads the videos")
    import numpy as np

    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for level in (0, 100, 200):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    if not path.exists() or path.stat().st_size < 1000:
        pytest.skip("this OpenCV writes no videos")
    assert [size(frame) for frame in open_source(str(path), loop=False)] == [(64, 48)] * 3
    assert len(list(islice(open_source(str(path)), 7))) == 7


def test_a_damaged_video_is_refused(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed: it reads the videos")
    (tmp_path / "film.mp4").write_bytes(b"not a film")
    with pytest.raises(SourceError, match=r"film\.mp4"):
        next(open_source(str(tmp_path / "film.mp4")))


def test_without_opencv_a_video_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    (tmp_path / "film.mp4").write_bytes(b"x")
    with pytest.raises(SourceError, match="pip install opencv-python-headless"):
        open_source(str(tmp_path / "film.mp4"))


@pytest.mark.parametrize("source", ["", "nowhere", "empty", "notes.txt"])
def test_what_is_no_source_is_refused_at_once(tmp_path, source):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError):
        open_source(str(tmp_path / source) if source else "")


def test_a_damaged_picture_of_a_folder_is_skipped_and_named(tmp_path):
    contents = [picture(color=color) for color in ("red", "green", "blue")]
    for name, content in zip(("a.jpg", "b.jpg", "d.jpg"), contents, strict=True):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "c.jpg").write_bytes(picture()[:-100])
    (tmp_path / "e.jpg").mkdir()
    skipped = []
    frames = open_source(str(tmp_path), on_skip=skipped.append)
    assert list(islice(frames, 7)) == [*contents, *contents, contents[0]]
    assert len(skipped) == 4
    assert str(tmp_path / "c.jpg") in skipped[0] and str(tmp_path / "e.jpg") in skipped[1]


def test_a_folder_of_nothing_but_damaged_pictures_is_refused(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(
        SourceError, match=r"a\.jpg is no readable picture .* no picture of this source can be read"
    ):
        next(open_source(str(tmp_path)))
