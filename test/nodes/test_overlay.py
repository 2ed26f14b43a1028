"""The operator's picture: something of everything is on it, whatever the text."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageChops

from spec_decode_ros.viz.overlay import WIDTH, Overlay, Piece, draw_overlay, unicycle_path


@pytest.fixture(scope="module")
def frame() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (384, 192), (120, 130, 140)).save(buffer, "JPEG")
    return buffer.getvalue()


def opened(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg)).convert("RGB")


def differ(one: Image.Image, other: Image.Image) -> bool:
    return max(high for _, high in ImageChops.difference(one, other).getextrema()) > 60


PIECES = [
    Piece("vx", "accepted"),
    Piece("0.4", "recovered"),
    Piece("wz", "bonus"),
    Piece("0.2", "unverified"),
]


def test_the_picture_has_the_frame_and_a_panel(frame):
    picture = opened(draw_overlay(frame, Overlay("go to the red chair", PIECES, 0.4, 0.2, True, "96 ms")))
    assert picture.width == WIDTH
    assert picture.height > WIDTH // 2
    assert picture.getpixel((5, 5))[1] == pytest.approx(130, abs=8)


@pytest.mark.parametrize(
    "other",
    [
        Overlay("go to the blue ball", PIECES, 0.4, 0.2, True, "96 ms"),
        Overlay("go to the red chair", [Piece(p.text, "recovered") for p in PIECES], 0.4, 0.2, True, "96 ms"),
        Overlay("go to the red chair", PIECES, 0.4, -0.2, True, "96 ms"),
        Overlay("go to the red chair", PIECES, 0.0, 0.8, True, "96 ms"),
        Overlay("go to the red chair", PIECES, 0.0, 0.0, True, "96 ms"),
        Overlay("go to the red chair", PIECES, None, None, True, "96 ms"),
        Overlay("go to the red chair", PIECES, 0.4, 0.2, False, "96 ms"),
        Overlay("go to the red chair", PIECES, 0.4, 0.2, True, "512 ms"),
    ],
)
def test_everything_told_is_drawn(frame, other):
    first = opened(draw_overlay(frame, Overlay("go to the red chair", PIECES, 0.4, 0.2, True, "96 ms")))
    assert differ(first, opened(draw_overlay(frame, other)))


@pytest.mark.parametrize(
    "text", ["", "иди к красному стулу", "去红色的椅子", "🤖 " * 50, "long " * 500, "\x00\n\r\t"]
)
def test_any_text_can_be_drawn(frame, text):
    pieces = [Piece(text, "accepted"), Piece(text, "no such outcome")] * 40
    assert opened(draw_overlay(frame, Overlay(text, pieces, 0.1, 0.1, False, text))).width == WIDTH


def amber(picture: Image.Image) -> int:
    """How many pixels have about the colour that unverified actions are drawn in."""
    away = np.abs(np.asarray(picture, int) - (224, 138, 0)).max(axis=2)
    return int((away < 30).sum())


@pytest.mark.parametrize(("vx", "wz"), [(0.4, 0.2), (0.0, 0.8), (0.0, 0.0)])
def test_what_nobody_has_verified_is_marked_whether_it_moves_or_not(frame, vx, wz):
    marked = opened(draw_overlay(frame, Overlay("go to the red chair", [], vx, wz, verified=False)))
    plain = opened(draw_overlay(frame, Overlay("go to the red chair", [], vx, wz, verified=True)))
    assert amber(marked) > 1000
    assert amber(plain) == 0
    # The word is in the corner of the picture, where no arrow comes.
    assert differ(marked.crop((0, 0, 160, 50)), plain.crop((0, 0, 160, 50)))


def test_the_path_bends_to_the_left_for_a_positive_turn_rate():
    ahead, left = unicycle_path(0.4, 0.5, 1.0)[-1]
    assert 0.0 < ahead < 0.4
    assert left > 0.0
    assert unicycle_path(0.4, 0.0, 1.0)[-1] == pytest.approx((0.4, 0.0))
