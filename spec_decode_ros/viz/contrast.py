"""Contrast of two colours, as WCAG defines it."""

from __future__ import annotations

_BLACK, _WHITE = "#0a0c0e", "#ffffff"


def luminance(color: str) -> float:
    """Relative luminance of ``#rrggbb``, 0 to 1."""
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21; small text needs 4.5."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def text_on(background: str) -> str:
    """Black or white, whichever has more contrast on this background."""
    return max((_BLACK, _WHITE), key=lambda ink: contrast(ink, background))
