"""Colours for a terminal in the sun, and for one in the dark; tokens as on the overlay picture."""

from __future__ import annotations

from dataclasses import dataclass

from spec_decode_ros.teleop.robot_status import BannerKind
from spec_decode_ros.viz.style import GREEN, GREY, INK, MUTED, ORANGE, OUTCOME_COLORS, RED


@dataclass(frozen=True)
class Palette:
    """A ground, two strengths of ink, and a line between things."""

    name: str
    ground: str
    ink: str
    muted: str
    line: str
    alarm: str
    calm: str
    dark: bool


PAPER = Palette("paper", "#ffffff", INK, "#565d65", "#b9bfc6", "#b3301a", "#d5dae0", dark=False)
NIGHT = Palette("night", "#14171b", "#eceff2", "#9aa3ad", "#3a424b", "#ff8a70", "#2c333b", dark=True)

# What is missing here stands on the palette's own calm ground.
BANNER = {
    BannerKind.UNKNOWN: MUTED,
    BannerKind.MOVING: GREEN,
    BannerKind.UNVERIFIED: ORANGE,
    BannerKind.STOPPED: "#2f6ea5",
    BannerKind.STOPPING: "#2f6ea5",
    BannerKind.EMERGENCY: RED,
    BannerKind.ALARM: RED,
}

TOKEN = {**OUTCOME_COLORS, "committed": GREEN, "draft": GREY}
"""Background of a token by its outcome; one in progress has the colour of what it most often becomes."""
