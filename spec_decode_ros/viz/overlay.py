"""The operator's overlay picture: the frame with the planned path, the command and the tokens coloured by outcome."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from spec_decode_ros.pictures import encode_jpeg
from spec_decode_ros.viz.contrast import contrast
from spec_decode_ros.viz.decoded_action import Piece
from spec_decode_ros.viz.style import INK, MUTED, ORANGE, OUTCOME_COLORS, RED

WIDTH = 640
_MARGIN = 12
_LEAST_PANEL = 92
_LOOK_AHEAD_S = 1.5
_DASHES = 5
_PATH_STEPS = 24
_PIXELS_PER_METRE = 190.0
"""Scale of the path on the frame, as seen from above with the robot at the lower edge."""


@dataclass(frozen=True)
class Overlay:
    """Contents of one overlay picture. Velocities in m/s and rad/s; None if there is no action."""

    instruction: str
    pieces: Sequence[Piece] = ()
    vx: float | None = None
    wz: float | None = None
    verified: bool = False
    status: str = ""


def draw_overlay(jpeg: bytes, overlay: Overlay, width: int = WIDTH, quality: int = 85) -> bytes:
    """The frame with a panel of text below it, as JPEG bytes."""
    with Image.open(io.BytesIO(jpeg)) as frame:
        height = max(1, round(frame.height * width / frame.width))
        frame = frame.convert("RGB").resize((width, height))
    if overlay.vx is not None and overlay.wz is not None:
        _draw_motion(frame, overlay.vx, overlay.wz, overlay.verified)
        if not overlay.verified:
            _draw_badge(frame, "UNVERIFIED")
    panel = _panel(overlay, width)
    picture = Image.new("RGB", (width, height + panel.height), "white")
    picture.paste(frame, (0, 0))
    picture.paste(panel, (0, height))
    return encode_jpeg(picture, quality=quality)


def unicycle_path(vx: float, wz: float, seconds: float) -> list[tuple[float, float]]:
    """The path at constant velocities: points (metres ahead, metres to the left), from the start on."""
    path = []
    for index in range(_PATH_STEPS + 1):
        t = seconds * index / _PATH_STEPS
        if abs(wz) < 1e-6:
            path.append((vx * t, 0.0))
        else:
            path.append((vx / wz * math.sin(wz * t), vx / wz * (1.0 - math.cos(wz * t))))
    return path


def _draw_motion(frame: Image.Image, vx: float, wz: float, verified: bool) -> None:
    draw = ImageDraw.Draw(frame)
    origin = (frame.width / 2, frame.height - 14.0)
    color = OUTCOME_COLORS["accepted"] if verified else ORANGE
    if vx == 0.0 and wz == 0.0:
        x, y = origin
        draw.rectangle((x - 9, y - 9, x + 9, y + 9), fill=RED, outline="white", width=2)
        return
    if abs(vx) < 0.05:  # turning on the spot: an arc around the robot
        radius, sweep = 46.0, max(-2.4, min(2.4, wz * _LOOK_AHEAD_S))
        angles = [sweep * index / _PATH_STEPS for index in range(_PATH_STEPS + 1)]
        points = [(origin[0] - radius * math.sin(a), origin[1] - radius * math.cos(a)) for a in angles]
    else:
        path = unicycle_path(vx, wz, _LOOK_AHEAD_S)
        points = [
            (origin[0] - left * _PIXELS_PER_METRE, origin[1] - ahead * _PIXELS_PER_METRE)
            for ahead, left in path
        ]
    for start, end in _dashes(len(points), 1 if verified else _DASHES):
        draw.line(points[start:end], fill="white", width=11, joint="curve")
        draw.line(points[start:end], fill=color, width=7, joint="curve")
    _draw_head(draw, points[-3], points[-1], color)


def _dashes(points: int, count: int) -> list[tuple[int, int]]:
    """Slices of a line's points: one for a solid line, else ``count`` strokes with gaps of half their length."""
    if count == 1:
        return [(0, points)]
    period = (points - 1) / count
    return [(round(index * period), round((index + 0.67) * period) + 1) for index in range(count)]


def _draw_badge(frame: Image.Image, text: str) -> None:
    """A badge in the upper left corner, striped so that it is visible without colour too."""
    draw, font = ImageDraw.Draw(frame), load_font(17)
    wide, high = round(draw.textlength(text, font=font)) + 44, 30
    badge = Image.new("RGB", (wide, high), ORANGE)
    pen = ImageDraw.Draw(badge)
    for x in range(-high, 22, 10):
        pen.polygon(((x, high), (x + high, 0), (x + high + 5, 0), (x + 5, high)), fill=INK)
    pen.rectangle((24, 0, wide, high), fill=ORANGE)
    pen.text((32, 4), text, fill=INK, font=font)
    draw.rectangle((9, 9, 12 + wide + 2, 12 + high + 2), fill="white")
    frame.paste(badge, (12, 12))


def _draw_head(
    draw: ImageDraw.ImageDraw, tail: tuple[float, float], tip: tuple[float, float], color: str
) -> None:
    angle = math.atan2(tip[1] - tail[1], tip[0] - tail[0])
    corners = [
        (tip[0] + 16 * math.cos(angle + turn), tip[1] + 16 * math.sin(angle + turn))
        for turn in (0.0, 2.3, -2.3)
    ]
    draw.polygon(corners, fill=color, outline="white")


def _panel(overlay: Overlay, width: int) -> Image.Image:
    big, small = load_font(17), load_font(13)
    panel = Image.new("RGB", (width, 4 * _LEAST_PANEL), "white")
    draw = ImageDraw.Draw(panel)
    y = 8.0
    for line in _wrap(draw, _printable(overlay.instruction) or "no command yet", big, width - 2 * _MARGIN)[
        :2
    ]:
        draw.text((_MARGIN, y), line, fill=INK, font=big)
        y += 24
    y = _draw_pieces(draw, overlay.pieces, y + 2, width)
    if overlay.status:
        draw.text((_MARGIN, y), _printable(overlay.status), fill=MUTED, font=small)
        y += 20
    return panel.crop((0, 0, width, max(_LEAST_PANEL, round(y) + 6)))


def _draw_pieces(draw: ImageDraw.ImageDraw, pieces: Sequence[Piece], y: float, width: int) -> float:
    font, x = load_font(16), float(_MARGIN)
    for piece in pieces[:64]:
        text = _printable(piece.text).strip() or "·"
        wide = draw.textlength(text, font=font)
        if x + wide + 10 > width - _MARGIN and x > _MARGIN:
            x, y = float(_MARGIN), y + 26
        if y > 3 * _LEAST_PANEL:
            break
        ground = OUTCOME_COLORS.get(piece.outcome, MUTED)
        ink = "white" if contrast("#ffffff", ground) > 3.0 else INK
        draw.rectangle((x, y, x + wide + 8, y + 22), fill=ground)
        draw.text((x + 4, y + 2), text, fill=ink, font=font)
        x += wide + 12
    return y + 28


def _wrap(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def load_font(size: int) -> ImageFont.ImageFont:
    """Pillow's own font."""
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()


def _printable(text: str) -> str:
    """One line of Latin-1, which every font can draw, of at most 300 characters."""
    one_line = " ".join(text[:300].split())
    return one_line.encode("latin-1", "replace").decode("latin-1")
