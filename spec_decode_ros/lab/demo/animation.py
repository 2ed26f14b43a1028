"""The moving picture of a walk: each frame with its action on the left, the walk so far from above on the right."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from spec_decode_ros.json_output import writing
from spec_decode_ros.lab.bench.comparison import MethodComparison
from spec_decode_ros.lab.demo.mission import Goal, Story
from spec_decode_ros.lab.demo.report import overlay_of, shown_instruction
from spec_decode_ros.viz.birdseye import VerifiedAction, draw_path
from spec_decode_ros.viz.legend import with_legend
from spec_decode_ros.viz.overlay import draw_overlay
from spec_decode_ros.viz.style import OUTCOME_COLORS

_FRAME_WIDTH = 640
_WALK_WIDTH = 460
_COLORS = 128
_STEP_MS = 500
_LAST_MS = 3000


def draw_animation(
    goal: Goal,
    story: Story,
    comparison: MethodComparison,
    decode: Callable[[Sequence[int]], str],
    out: Path,
) -> Path:
    """Write a GIF with one picture for each compared frame of the mission, decoded by the last method compared."""
    method = list(comparison.results)[-1]
    path = np.array([place[1:] for place in story.path])
    pictures = []
    for sample, result in zip(comparison.samples, comparison.results[method], strict=True):
        if sample.pose is None:
            continue
        so_far = 1 + int(np.argmin(np.abs(path - np.array(sample.pose)).sum(axis=1)))
        overlay = overlay_of(
            shown_instruction(goal, sample.instruction), result, decode, f"{method}, verified"
        )
        jpeg = draw_overlay(sample.jpeg, overlay, width=_FRAME_WIDTH, quality=95)
        pictures.append(_side_by_side(jpeg, _walk(goal, story, path[:so_far])))
    size = (max(picture.width for picture in pictures), max(picture.height for picture in pictures))
    pages = [_on_white(picture, size) for picture in pictures]
    palette = shared_palette(pages)
    frames = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    times = [_STEP_MS] * (len(frames) - 1) + [_LAST_MS]
    with writing(Path(out)):
        frames[0].save(out, save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)
    return out


def _walk(goal: Goal, story: Story, path: np.ndarray) -> Image.Image:
    """The bird's-eye view of the beginning of a walk."""
    places = {tuple(place) for place in path}
    actions = [VerifiedAction(a.pose[0], a.pose[1], a.corrected) for a in story.verified if a.pose in places]
    with tempfile.TemporaryDirectory() as folder:
        file = draw_path(goal.scene, path, Path(folder) / "walk.png", target=goal.target, decisions=actions)
        with Image.open(file) as picture:
            return picture.convert("RGB")


def _side_by_side(jpeg: bytes, walk: Image.Image) -> Image.Image:
    with Image.open(io.BytesIO(jpeg)) as frame:
        left = with_legend(frame.convert("RGB"))
    right = walk.resize(
        (_WALK_WIDTH, round(walk.height * _WALK_WIDTH / walk.width)), Image.Resampling.LANCZOS
    )
    both = Image.new("RGB", (left.width + right.width, max(left.height, right.height)), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    return both


def _on_white(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    page = Image.new("RGB", size, "white")
    page.paste(picture, (0, 0))
    return page


def shared_palette(pages: Sequence[Image.Image]) -> Image.Image:
    """Colours for all pages. Those of the outcomes are made to count: they fill little of a page, and are what it tells."""
    sheet = [pages[0], pages[len(pages) // 2], pages[-1]]
    sheet += [Image.new("RGB", (pages[0].width, 40), color) for color in OUTCOME_COLORS.values()]
    whole = Image.new("RGB", (pages[0].width, sum(part.height for part in sheet)))
    top = 0
    for part in sheet:
        whole.paste(part, (0, top))
        top += part.height
    return whole.quantize(_COLORS)
