"""The head camera: what it shows, the same with OpenGL and ray by ray, and how the way is chosen."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest
from PIL import Image

from spec_decode_ros import sim
from spec_decode_ros.lab.episodes.stage import RAYS, Stage
from spec_decode_ros.sim.render import (
    FOV_X,
    FOV_Y,
    HEIGHT,
    WIDTH,
    Camera,
    RayCaster,
    ray_directions,
    to_jpeg,
)
from spec_decode_ros.sim.scene import Scene, SceneObject, bearing_and_distance, random_scene


@pytest.fixture(scope="module")
def ray_stage() -> Stage:
    return Stage("ray")


@pytest.fixture(scope="module")
def gl_stage() -> Stage:
    if os.environ["MUJOCO_GL"] == "disable":
        pytest.skip("this machine has no OpenGL: MUJOCO_GL is 'disable'")
    try:
        stage = Stage(os.environ["MUJOCO_GL"])
    except (RuntimeError, ValueError) as error:
        pytest.skip(f"OpenGL does not work on this machine: {error}")
    return stage


def test_open_gl_and_rays_draw_the_same_picture(gl_stage: Stage, ray_stage: Stage) -> None:
    assert gl_stage.camera.backend == os.environ["MUJOCO_GL"]
    assert ray_stage.camera.backend == "ray"
    for seed in range(3):
        scene = random_scene(seed)
        pictures = []
        for stage in (gl_stage, ray_stage):
            stage.lay_out(scene)
            stage.look(scene.start, pitch=0.05, roll=-0.04)
            pictures.append(stage.camera.rgb(stage.data).astype(int))
        assert pictures[0].shape == (HEIGHT, WIDTH, 3)
        difference = np.abs(pictures[0] - pictures[1])
        assert difference.mean() < 1.5
        # Only the pixels along edges may differ much.
        assert (difference.max(-1) > 20).mean() < 0.03


@pytest.mark.parametrize("across", [-0.75, -0.3, 0.0, 0.4, 0.8])
def test_an_object_is_where_its_bearing_says(ray_stage: Stage, across: float) -> None:
    bearing = math.atan(across * math.tan(FOV_X / 2))
    ball = SceneObject("red", "ball", 0.33 + 2.5 * math.cos(bearing), 2.5 * math.sin(bearing))
    ray_stage.lay_out(Scene(objects=(ball,)))
    ray_stage.look((0.0, 0.0, 0.0))
    assert bearing_and_distance(ball, (0.0, 0.0, 0.0))[0] == pytest.approx(bearing)
    hits = ray_stage.hits()
    assert hits.shape == RAYS
    columns = np.flatnonzero((hits == 0).any(0))
    # Left is a positive bearing and a small column. A sphere off the axis is drawn a little outward.
    expected = (1 - across) / 2 * RAYS[1]
    assert (columns.min() + columns.max() + 1) / 2 == pytest.approx(expected, abs=2.0)
    picture = ray_stage.camera.rgb(ray_stage.data).astype(int)
    red = (picture[..., 0] > 80) & (picture[..., 0] > 2 * picture[..., 1])
    assert np.flatnonzero(red.any(0)).mean() / WIDTH == pytest.approx((1 - across) / 2, abs=0.02)


def test_field_of_view() -> None:
    assert math.degrees(FOV_X) == pytest.approx(100)
    rays = ray_directions(WIDTH, HEIGHT)
    assert rays.shape == (HEIGHT, WIDTH, 3)
    assert np.linalg.norm(rays, axis=-1) == pytest.approx(1)
    right, down = rays[HEIGHT // 2, -1], rays[-1, WIDTH // 2]
    assert math.atan2(right[0], -right[2]) == pytest.approx(FOV_X / 2, abs=0.01)
    assert math.atan2(-down[1], -down[2]) == pytest.approx(FOV_Y / 2, abs=0.01)
    # Square pixels.
    step_x = rays[0, 1, 0] / -rays[0, 1, 2] - rays[0, 0, 0] / -rays[0, 0, 2]
    step_y = rays[0, 0, 1] / -rays[0, 0, 2] - rays[1, 0, 1] / -rays[1, 0, 2]
    assert step_x == pytest.approx(step_y)


def test_the_coarse_cast_sees_nothing_of_an_empty_room(ray_stage: Stage) -> None:
    ray_stage.lay_out(Scene(objects=(SceneObject("red", "box", -2.0, 0.0),)))
    ray_stage.look((0.0, 0.0, 0.0))
    assert (ray_stage.hits() == -1).all()
    geoms, distances, cosines = ray_stage.caster.cast(ray_stage.data)
    names = {ray_stage.model.geom(int(g)).name for g in np.unique(geoms[geoms >= 0])}
    assert names <= {"floor", "wall_0", "wall_2", "wall_3"}
    assert distances[geoms >= 0].min() > 0.2
    assert cosines.min() >= 0
    assert cosines.max() <= 1


def test_a_new_layout_leaves_nothing_of_the_old(ray_stage: Stage) -> None:
    crowded, single = random_scene(1, 6, 6), Scene(objects=(SceneObject("blue", "cone", 1.5, 0.0),))
    ray_stage.lay_out(crowded)
    ray_stage.lay_out(single)
    ray_stage.look(single.start)
    after_another = ray_stage.camera.rgb(ray_stage.data)
    fresh = Stage("ray")
    fresh.lay_out(single)
    fresh.look(single.start)
    assert np.array_equal(after_another, fresh.camera.rgb(fresh.data))


def test_jpeg_is_a_picture_of_the_camera(ray_stage: Stage) -> None:
    scene = random_scene(2)
    ray_stage.lay_out(scene)
    ray_stage.look(scene.start)
    rgb = ray_stage.camera.rgb(ray_stage.data)
    jpeg = ray_stage.camera.jpeg(ray_stage.data)
    with Image.open(io.BytesIO(jpeg)) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (WIDTH, HEIGHT), "RGB")
        decoded = np.asarray(image).astype(int)
    assert np.abs(decoded - rgb).mean() < 4
    assert len(jpeg) < 40_000
    assert len(to_jpeg(rgb, quality=30)) < len(jpeg)


def test_closing_twice_is_safe(gl_stage: Stage) -> None:
    camera = Camera(gl_stage.model)
    camera.close()
    camera.close()
    Camera(gl_stage.model, "ray").close()


def test_unknown_backends_are_refused_with_the_choices(ray_stage: Stage) -> None:
    with pytest.raises(
        ValueError, match=r"no camera backend 'vulkan': choose one of egl, osmesa, ray or auto"
    ):
        Camera(ray_stage.model, "vulkan")


def test_a_backend_that_does_not_work_says_how_to_get_it(
    ray_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no display")

    monkeypatch.setattr(mujoco, "Renderer", broken)
    with pytest.raises(RuntimeError, match=r"no OpenGL here \(no display\): install libegl1"):
        Camera(ray_stage.model, "egl")
    fallback = Camera(ray_stage.model, "auto")
    assert fallback.backend == "ray"
    assert fallback.rgb(ray_stage.data).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("there", "chosen"),
    [({"EGL", "OSMesa"}, "egl"), ({"EGL"}, "egl"), ({"OSMesa"}, "osmesa"), (set(), "disable")],
)
def test_the_first_library_that_is_there_is_used(
    there: set[str], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim, "find_library", lambda name: f"lib{name}.so" if name in there else None)
    assert sim._gl_backend() == chosen


def test_what_the_user_set_is_kept_and_works_without_open_gl() -> None:
    code = (
        "import os\nfrom spec_decode_ros.lab.episodes.stage import Stage\n"
        "stage = Stage()\nprint(os.environ['MUJOCO_GL'], stage.camera.backend, stage.camera.rgb(stage.data).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MUJOCO_GL": "disable"},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=2) == ["disable", "ray", f"({HEIGHT}, {WIDTH}, 3)\n"]


def test_a_caster_may_have_any_size(ray_stage: Stage) -> None:
    geoms, distances, cosines = RayCaster(ray_stage.model, width=5, height=3).cast(ray_stage.data)
    assert geoms.shape == distances.shape == cosines.shape == (3, 5)
