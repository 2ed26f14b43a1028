"""Colours for a terminal in the sun, and for one in the dark; tokens as on the overlay picture."""

from __future__ import annotations

from dataclasses import dataclass

from spec_decode_ros.teleop.situation import Mood
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
    Mood.UNKNOWN: MUTED,
    Mood.MOVING: GREEN,
    Mood.UNVERIFIED: ORANGE,
    Mood.STOPPED: "#2f6ea5",
    Mood.STOPPING: "#2f6ea5",
    Mood.EMERGENCY: RED,
    Mood.ALARM: RED,
}

TOKEN = {**OUTCOME_COLORS, "committed": GREEN, "draft": GREY}
"""Ground of a token by its outcome; those of an action in progress are what they most often become."""
