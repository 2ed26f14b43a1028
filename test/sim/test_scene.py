"""Random rooms, what they promise, and their geometry against brute force."""

from __future__ import annotations

import itertools
import math

import mujoco
import numpy as np
import pytest

from spec_decode_ros.lab.episodes.expert import collides, visible_objects
from spec_decode_ros.lab.episodes.stage import Stage
from spec_decode_ros.sim.mjcf import to_mjcf
from spec_decode_ros.sim.scene import (
    COLORS,
    HEAD,
    KINDS,
    RADIUS,
    WALL_HEIGHT,
    Scene,
    SceneObject,
    bearing_and_distance,
    head_position,
    parts,
    random_scene,
    surface_distance,
    walls,
)

BODY_RADIUS = 0.42
"""Metres: a circle of this radius around the base encloses the robot and its legs."""

SCENES = [random_scene(seed) for seed in range(400)]
# In these the last objects find no place at the first attempt.
CROWDED = [random_scene(seed, 6, 6) for seed in range(60)]


def test_the_same_seed_gives_the_same_room() -> None:
    assert [random_scene(seed) for seed in range(20)] == SCENES[:20]
    assert len({scene.start for scene in SCENES}) == len(SCENES)
    one, other = (np.random.default_rng(7) for _ in range(2))
    assert [random_scene(one) for _ in range(5)] == [random_scene(other) for _ in range(5)]


@pytest.mark.parametrize(("scenes", "least"), [(SCENES, 4), (CROWDED, 6)])
def test_what_rooms_promise(scenes: list[Scene], least: int) -> None:
    for scene in scenes:
        assert least <= len(scene.objects) <= 6
        names = [thing.name for thing in scene.objects]
        assert len(set(names)) == len(names)
        assert len({thing.kind for thing in scene.objects}) < len(names), "no kind is there twice"
        assert len({thing.color for thing in scene.objects}) < len(names), "no colour is there twice"
        assert not collides(scene, scene.start, margin=0.1)
        for a, b in itertools.combinations(scene.objects, 2):
            gap = math.hypot(a.x - b.x, a.y - b.y) - RADIUS[a.kind] - RADIUS[b.kind]
            assert gap > 2 * BODY_RADIUS
        for thing in scene.objects:
            assert abs(thing.x) + RADIUS[thing.kind] < scene.half_x
            assert abs(thing.y) + RADIUS[thing.kind] < scene.half_y


def test_every_object_is_seen_by_turning_at_the_start() -> None:
    stage = Stage("ray")
    for scene in [*SCENES[:12], *CROWDED[:3]]:
        stage.lay_out(scene)
        seen: set[int] = set()
        for step in range(12):
            stage.look((scene.start[0], scene.start[1], scene.start[2] + step * math.pi / 6))
            seen |= visible_objects(stage.hits())
        assert seen == set(range(len(scene.objects)))


def test_more_objects_than_a_room_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="no place for 12"):
        random_scene(0, 12, 12)


def test_find_and_names() -> None:
    scene = Scene(objects=(SceneObject("red", "box", 1, 0), SceneObject("blue", "ball", 0, 1)))
    assert [scene.find(n) for n in ("red box", "blue ball", "blue box")] == [0, 1, -1]
    with pytest.raises(ValueError, match="no object 'pink box'"):
        SceneObject("pink", "box", 0, 0)
    with pytest.raises(ValueError, match="no object 'red table'"):
        SceneObject("red", "table", 0, 0)


def footprint(thing: SceneObject) -> np.ndarray:
    """Many points of an object's parts, from above, (N, 2) in metres."""
    points = []
    for part in parts(thing.kind):
        if part.shape == "box":
            xs, ys = (np.linspace(-h, h, 60) for h in part.size[:2])
            grid = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)
        else:
            radii, angles = np.linspace(0, part.size[0], 30), np.linspace(-math.pi, math.pi, 120)
            r, a = np.meshgrid(radii, angles)
            grid = np.stack([r * np.cos(a), r * np.sin(a)], -1).reshape(-1, 2)
        points.append(grid + part.position[:2])
    cos, sin = math.cos(thing.yaw), math.sin(thing.yaw)
    return np.concatenate(points) @ np.array([[cos, sin], [-sin, cos]]) + (thing.x, thing.y)


@pytest.mark.parametrize("kind", KINDS)
def test_surface_distance_is_that_to_the_nearest_point(kind: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        thing = SceneObject("red", kind, *rng.uniform(-2, 2, 2), yaw=rng.uniform(-4, 4))
        points = footprint(thing)
        assert np.hypot(*(points - (thing.x, thing.y)).T).max() <= RADIUS[kind] + 1e-9
        for x, y in rng.uniform(-1.5, 1.5, (20, 2)) + np.array([thing.x, thing.y]):
            assert surface_distance(thing, x, y) == pytest.approx(
                np.hypot(*(points - (x, y)).T).min(), abs=0.02
            )
        assert surface_distance(thing, thing.x, thing.y) == 0.0


def test_bearings_are_from_the_head_and_left_is_positive() -> None:
    ball = SceneObject("red", "ball", 2.0, 1.0)
    assert head_position((1.0, 1.0, math.pi / 2)) == pytest.approx((1.0, 1.0 + HEAD[0]))
    bearing, distance = bearing_and_distance(ball, (0.0, 0.0, 0.0))
    assert bearing == pytest.approx(math.atan2(1.0, 2.0 - HEAD[0]))
    assert distance == pytest.approx(math.hypot(1.0, 2.0 - HEAD[0]) - 0.28)
    assert bearing_and_distance(ball, (0.0, 0.0, 0.9))[0] < 0
    for yaw in np.linspace(-20, 20, 101):
        assert abs(bearing_and_distance(ball, (0.0, 0.0, float(yaw)))[0]) <= math.pi


@pytest.mark.parametrize("seed", range(4))
def test_mjcf_holds_what_the_scene_says(seed: int) -> None:
    scene = SCENES[seed]
    model = mujoco.MjModel.from_xml_string(to_mjcf(scene))
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    assert model.geom("floor").type == mujoco.mjtGeom.mjGEOM_PLANE
    for i, thing in enumerate(scene.objects):
        body = data.body(f"object_{i}")
        assert body.xpos == pytest.approx((thing.x, thing.y, 0), abs=1e-3)
        forward = body.xmat.reshape(3, 3)[:, 0]
        assert math.remainder(math.atan2(forward[1], forward[0]) - thing.yaw, 2 * math.pi) == pytest.approx(
            0, abs=1e-3
        )
        for j in range(len(parts(thing.kind))):
            geom = model.geom(f"object_{i}_{j}")
            assert geom.rgba[:3] == pytest.approx(COLORS[thing.color], abs=1e-3)
    # A ray along the floor meets the walls' inner faces and, at each object, its own footprint.
    geom = np.zeros(1, np.int32)
    for angle in np.linspace(-math.pi, math.pi, 60):
        direction = np.array([math.cos(angle), math.sin(angle), 0.0])
        start = np.array([scene.start[0], scene.start[1], 0.02])
        length = mujoco.mj_ray(model, data, start, direction, None, 1, -1, geom)
        hit = (start + length * direction)[:2]
        name = model.geom(geom[0]).name
        if name.startswith("wall"):
            outside = np.abs(hit) - (scene.half_x, scene.half_y)
            assert outside.max() == pytest.approx(0, abs=1e-3)
        else:
            thing = scene.objects[int(name.split("_")[1])]
            assert surface_distance(thing, *hit) < 1e-3


def test_walls_enclose_the_room_without_a_gap() -> None:
    for half_x, half_y in ((2.6, 3.6), (3.5, 2.7)):
        inside_x = min(abs(p[0]) - s[0] for p, s in walls(half_x, half_y)[:2])
        inside_y = min(abs(p[1]) - s[1] for p, s in walls(half_x, half_y)[2:])
        assert (inside_x, inside_y) == pytest.approx((half_x, half_y))
        for (_, _, z), (_, _, half_height) in walls(half_x, half_y):
            assert z - half_height == 0
            assert z + half_height == pytest.approx(WALL_HEIGHT)
        along = {(i, max(s[:2])) for i, (_, s) in enumerate(walls(half_x, half_y))}
        assert all(length >= (half_y, half_x)[i // 2] for i, length in along)
