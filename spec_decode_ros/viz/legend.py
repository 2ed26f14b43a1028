"""What the colours of an action's tokens mean, for pictures that leave the screen."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from spec_decode_ros.viz.style import INK, OUTCOME_COLORS

_MEANING = {
    "accepted": "drafted on the robot, accepted by the cloud",
    "recovered": "draft corrected by the cloud",
    "bonus": "written by the cloud",
}
_HEIGHT = 34
_SQUARE = 14


def with_legend(picture: Image.Image) -> Image.Image:
    """The picture with one line below it that explains the colours."""
    whole = Image.new("RGB", (picture.width, picture.height + _HEIGHT), "white")
    whole.paste(picture, (0, 0))
    draw = ImageDraw.Draw(whole)
    font = _font(13)
    x, y = 12, picture.height + 4
    for outcome, meaning in _MEANING.items():
        draw.rectangle((x, y + 2, x + _SQUARE, y + 2 + _SQUARE), fill=OUTCOME_COLORS[outcome])
        draw.text((x + _SQUARE + 7, y), meaning, fill=INK, font=font)
        x += _SQUARE + 7 + round(draw.textlength(meaning, font=font)) + 24
    return whole


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()
