"""The pictures show what they are given, and refuse what they cannot show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim.scene import COLORS, Scene, SceneObject

pytest.importorskip("matplotlib", reason="the pictures need matplotlib: pip install matplotlib")

from spec_decode_ros.viz import style
from spec_decode_ros.viz.birdseye import VerifiedAction, draw_path
from spec_decode_ros.viz.legend import with_legend
from spec_decode_ros.viz.timeline import ActionTimeline, draw_timelines


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def count(picture: np.ndarray, color: str | tuple[float, float, float], tolerance: int = 6) -> int:
    """Pixels of that colour."""
    if isinstance(color, str):
        color = tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    wanted = [round(255 * c) for c in color]
    return int((np.abs(picture - wanted).max(axis=-1) <= tolerance).sum())


@pytest.fixture
def scene() -> Scene:
    things = (
        SceneObject("red", "chair", 1.5, 1.0, 0.4),
        SceneObject("blue", "ball", -1.5, 1.0),
        SceneObject("green", "cone", 1.0, -1.5),
        SceneObject("purple", "cylinder", -1.0, -1.5),
        SceneObject("yellow", "box", -2.0, 0.0, 1.0),
    )
    return Scene(things, 3.0, 2.5)


PATH = np.array([[0.0, 0.0, 0.0], [0.5, 0.2, 0.4], [0.9, 0.5, 0.6]])


def test_every_object_is_drawn_in_its_colour(scene: Scene, tmp_path: Path):
    picture = pixels(draw_path(scene, PATH, tmp_path / "path.png", target="red chair"))
    empty = pixels(draw_path(Scene((), 3.0, 2.5), PATH, tmp_path / "empty.png"))
    for thing in scene.objects:
        assert count(picture, COLORS[thing.color]) > 300, thing.name
        assert count(empty, COLORS[thing.color]) == 0, thing.name


def test_objects_and_path_are_where_they_should_be(tmp_path: Path):
    """The red box is right of and above the middle: x to the right, y up."""
    room = Scene((SceneObject("red", "box", 2.0, 1.5),), 3.0, 3.0)
    picture = pixels(draw_path(room, PATH, tmp_path / "path.png"))
    red = np.abs(picture - [round(255 * c) for c in COLORS["red"]]).max(axis=-1) <= 6
    rows, columns = np.nonzero(red)
    assert columns.mean() > picture.shape[1] * 0.6
    assert rows.mean() < picture.shape[0] * 0.5


def test_decisions_are_coloured_by_what_became_of_the_draft(scene: Scene, tmp_path: Path):
    decisions = [VerifiedAction(0.1, 0.0, False), VerifiedAction(0.5, 0.2, True)]
    both = pixels(draw_path(scene, PATH, tmp_path / "both.png", decisions=decisions))
    good = pixels(draw_path(scene, PATH, tmp_path / "good.png", decisions=decisions[:1]))
    assert count(both, style.OUTCOME_COLORS["recovered"]) > count(good, style.OUTCOME_COLORS["recovered"])
    assert count(both, style.OUTCOME_COLORS["accepted"]) > 20


@pytest.mark.parametrize("path", [np.zeros((0, 3)), np.zeros((4, 2)), np.zeros(3)])
def test_a_path_that_is_none_is_refused(scene: Scene, tmp_path: Path, path: np.ndarray):
    with pytest.raises(SpecDecodeError, match="shape"):
        draw_path(scene, path, tmp_path / "path.png")


SPANS = (
    ("robot", "draft 9 tokens", 0.0, 20.0),
    ("link", "frame up", 0.0, 30.0),
    ("link", "draft up", 20.0, 50.0),
    ("cloud", "prefill and verify", 30.0, 55.0),
    ("link", "committed down", 55.0, 85.0),
)


def test_lanes_bars_and_marks(tmp_path: Path):
    slow = ActionTimeline("cloud", SPANS[1:], 150.0)
    fast = ActionTimeline("auto", SPANS, 85.0, 20.0, "1 pass")
    two = pixels(draw_timelines([slow, fast], tmp_path / "two.png", title="t", subtitle="s"))
    one = pixels(draw_timelines([slow], tmp_path / "one.png"))
    assert two.shape[0] > one.shape[0]
    assert count(one, "#0072b2") > 1000
    assert count(one, "#e08a00") == 0
    assert count(two, "#e08a00") > 1000
    assert count(one, style.RED) == 0
    assert count(two, style.RED) > 50
    assert count(one, style.GREEN) > 50


def test_a_bar_is_as_long_as_its_time(tmp_path: Path):
    def bar(milliseconds: float) -> int:
        action = ActionTimeline("m", (("cloud", "verify", 0.0, milliseconds),), 100.0)
        row = pixels(draw_timelines([action], tmp_path / f"{milliseconds}.png"))
        blue = np.abs(row - [0x00, 0x72, 0xB2]).max(axis=-1) <= 6
        return int(blue.sum(axis=1).max())

    assert bar(80.0) == pytest.approx(4 * bar(20.0), rel=0.06)


@pytest.mark.parametrize(
    "spans", [(("nowhere", "x", 0.0, 1.0),), (("link", "x", 2.0, 1.0),), (("link", "x", -1.0, 1.0),)]
)
def test_spans_that_cannot_be_are_refused(spans):
    with pytest.raises(SpecDecodeError):
        ActionTimeline("m", spans, 1.0)


def test_nothing_to_draw_is_refused(tmp_path: Path):
    with pytest.raises(SpecDecodeError, match="at least one"):
        draw_timelines([], tmp_path / "none.png")


def test_the_legend_shows_every_outcome_below_the_picture():
    picture = Image.new("RGB", (960, 100), "#123456")
    whole = np.asarray(with_legend(picture)).astype(int)
    assert (whole[:100] == [0x12, 0x34, 0x56]).all()
    for outcome in ("accepted", "recovered", "bonus"):
        assert count(whole[100:], style.OUTCOME_COLORS[outcome]) > 100
