"""Legend of the token colours, for overlay pictures in reports."""

from __future__ import annotations

from PIL import Image, ImageDraw

from spec_decode_ros.viz.overlay import load_font
from spec_decode_ros.viz.style import INK, OUTCOME_COLORS

_MEANINGS = {
    "accepted": "accepted: drafted on the robot",
    "recovered": "recovered: corrected by the cloud",
    "bonus": "bonus: by the cloud",
}
_HEIGHT = 34
_SQUARE = 14


def with_legend(picture: Image.Image) -> Image.Image:
    """The picture with a line below it that explains the colours."""
    whole = Image.new("RGB", (picture.width, picture.height + _HEIGHT), "white")
    whole.paste(picture, (0, 0))
    draw = ImageDraw.Draw(whole)
    font = load_font(13)
    x, y = 12, picture.height + 4
    for outcome, meaning in _MEANINGS.items():
        draw.rectangle((x, y + 2, x + _SQUARE, y + 2 + _SQUARE), fill=OUTCOME_COLORS[outcome])
        draw.text((x + _SQUARE + 7, y), meaning, fill=INK, font=font)
        x += _SQUARE + 7 + round(draw.textlength(meaning, font=font)) + 24
    return whole
