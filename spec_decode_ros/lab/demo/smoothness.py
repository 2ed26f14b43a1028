"""How smooth a recorded walk was: figures, a sentence and the picture."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from spec_decode_ros.lab.demo.walk import read_walk
from spec_decode_ros.viz.velocity import draw_velocity, smoothness


def tell_smoothness(bag: Path, plot: Path | None, console: Console) -> dict[str, Any]:
    """Draw the velocities of a bag, by default beside it, and return the figures for JSON. Raises SpecDecodeError."""
    walk = read_walk(bag)
    found = smoothness(walk)
    folder = bag if bag.is_dir() else bag.parent
    caption = (
        f"{found.actions} verified actions in {found.span_s:.1f} s, {found.halts} halts between them; "
        f"commanded at most {found.max_ax:.1f} m/s² and {found.max_aw:.1f} rad/s²"
    )
    out = plot or folder / "velocity.png"
    path = draw_velocity(walk, out, title="Commanded and actual velocity", subtitle=caption)
    console.print(f"{caption}\n{path}")
    return {**asdict(found), "plot": str(path)}
