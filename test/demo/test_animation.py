"""The moving picture of a walk: whatever the camera sees, the outcomes keep their colours."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from spec_decode_ros.lab.demo.animation import shared_palette
from spec_decode_ros.viz.style import OUTCOME_COLORS


def test_a_small_square_of_an_outcome_keeps_its_colour() -> None:
    rng = np.random.default_rng(1)
    pages = [Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)) for _ in range(4)]
    for color in OUTCOME_COLORS.values():
        ImageDraw.Draw(pages[1]).rectangle((10, 10, 20, 20), fill=color)
        shown = pages[1].quantize(palette=shared_palette(pages), dither=Image.Dither.NONE).convert("RGB")
        found, wanted = np.array(shown.getpixel((15, 15))), np.array(ImageColor.getrgb(color))
        assert np.abs(found - wanted).max() <= 8, (color, found)
