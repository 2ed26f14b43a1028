"""How smooth a recorded walk was: figures, a sentence and the picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from spec_decode_ros.lab.demo.walk import read_walk
from spec_decode_ros.viz.velocity import Smoothness, Walk, draw_velocity, smoothness


@dataclass(frozen=True)
class RecordedWalk:
    """A walk, its figures, and where its picture goes."""

    walk: Walk
    figures: Smoothness
    picture: Path

    @property
    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self.figures), "plot": str(self.picture)}

    def draw(self, console: Console) -> None:
        """Draw the velocities and tell the figures. Raises SpecDecodeError."""
        found = self.figures
        caption = (
            f"{found.actions} verified actions in {found.span_s:.1f} s, {found.halts} halts between them; "
            f"commanded at most {found.max_ax:.1f} m/s² and {found.max_aw:.1f} rad/s²"
        )
        draw_velocity(self.walk, self.picture, title="Commanded and actual velocity", subtitle=caption)
        console.print(f"{caption}\n{self.picture}")


def recorded_walk(bag: Path, picture: Path | None = None) -> RecordedWalk:
    """Read the walk of a bag; its picture is by default beside it. Raises SpecDecodeError."""
    walk = read_walk(bag)
    folder = bag if bag.is_dir() else bag.parent
    return RecordedWalk(walk, smoothness(walk), picture or folder / "velocity.png")
