"""The teacher: reaches what it is sent to, counts what it turns and walks, and treats left and right alike."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from spec_decode_ros.actions.action import ACTION_PERIOD_S, Action, format_action, parse_action
from spec_decode_ros.actions.commands import Command, vocabulary
from spec_decode_ros.lab.episodes.expert import (
    BACK_SPEED,
    DISTANCES,
    TURN_RATE,
    WALK_SPEED,
    Pose,
    collides,
    decide,
    move,
    visible_objects,
)
from spec_decode_ros.lab.episodes.stage import Stage
from spec_decode_ros.lab.training.dataset import mirrored
from spec_decode_ros.lab.training.frames import Question
from spec_decode_ros.sim.scene import RADIUS, Scene, SceneObject, bearing_and_distance, random_scene

EMPTY = Scene(objects=(SceneObject("red", "box", -2.5, -2.5),))
WORDS = set(vocabulary())


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage("ray")


def follow(command: Command, scene: Scene = EMPTY, pose: Pose | None = None, most: int = 60) -> list[Action]:
    """What the expert does, blind, on a robot that follows perfectly; up to the first action without motion."""
    pose, last, done = pose or scene.start, None, []
    for _ in range(most):
        last = decide(command, scene, pose, set(), last)
        done.append(last)
        if not last.moves:
            break
        pose = move(pose, last.vx, last.wz, ACTION_PERIOD_S)
    return done


@pytest.mark.parametrize("seed", range(2_000_000, 2_000_030))
def test_reaches_its_target_without_touching_anything(stage: Stage, seed: int) -> None:
    scene = random_scene(seed)
    stage.lay_out(scene)
    rng = np.random.default_rng(seed)
    target = scene.objects[seed % len(scene.objects)]
    command = Command("goto", target.color, target.kind)
    pose, last = scene.start, None
    for _ in range(200):
        stage.look(pose)
        last = decide(command, scene, pose, visible_objects(stage.hits()), last)
        assert parse_action(format_action(last)) == last
        assert set(format_action(last).split()) <= WORDS
        if not last.moves:
            break
        # A robot that follows its commands about as well as one with legs.
        pose = move(
            pose,
            last.vx * rng.uniform(0.8, 1.1),
            last.wz * rng.uniform(0.8, 1.1) + rng.normal(0, 0.03),
            ACTION_PERIOD_S,
        )
        assert not collides(scene, pose), last
    assert last is not None
    assert last.note == f"{target.name} reached"
    bearing, distance = bearing_and_distance(target, pose)
    assert distance < 0.5
    assert abs(bearing) < 0.25
    # Standing there, it stays: a little noise does not make it set off again.
    nudged = (pose[0] - 0.03 * math.cos(pose[2]), pose[1] - 0.03 * math.sin(pose[2]), pose[2] + 0.05)
    stage.look(nudged)
    assert decide(command, scene, nudged, visible_objects(stage.hits()), last) == last


def test_search_ends_after_a_full_turn_and_stays_ended() -> None:
    command = Command("goto", "blue", "ball")
    actions = follow(command)
    assert [a.note for a in actions] == [
        *(f"searching {15 * n}" for n in range(25)),
        "blue ball not found",
    ]
    assert all(a.vx == 0 and a.wz == TURN_RATE for a in actions[:-1])
    assert decide(command, EMPTY, EMPTY.start, set(), actions[-1]) == actions[-1]
    turned = sum(a.wz for a in actions) * ACTION_PERIOD_S
    assert turned > 2 * math.pi


@pytest.mark.parametrize(
    ("last", "wz"),
    [
        (None, 0.8),
        (Action(0.4, 0.2, "blue ball left 1.5"), 0.8),
        (Action(0.4, 0.2, "blue ball right 1.5"), -0.8),
        (Action(0.4, -0.2, "blue ball ahead 1.5"), -0.8),
        (Action(0.0, -0.8, "searching 45"), -0.8),
        (Action(0.0, 0.0, "blue ball reached"), 0.8),
    ],
)
def test_searches_where_the_object_was_last_seen(last: Action | None, wz: float) -> None:
    action = decide(Command("goto", "blue", "ball"), EMPTY, EMPTY.start, set(), last)
    counted = 60 if last and last.note.startswith("searching") else 0
    assert action == Action(0.0, wz, f"searching {counted}")


def test_an_object_that_is_there_but_out_of_view_is_searched_for() -> None:
    command = Command("goto", "red", "box")
    assert decide(command, EMPTY, EMPTY.start, set(), None).note == "searching 0"
    assert decide(command, EMPTY, (0.0, 0.0, -2.3), {0}, None).note.startswith("red box ")


@pytest.mark.parametrize(
    ("degrees", "count"), [(90, 6), (-90, 6), (45, 3), (180, 12), (360, 24), (-30, 2), (5, 1), (10, 1)]
)
def test_turning_takes_a_step_every_fifteen_degrees(degrees: float, count: int) -> None:
    *turning, end = follow(Command("turn", amount=degrees))
    assert len(turning) == count
    assert turning[0].note == f"turning {15 * count}"
    assert all(a.vx == 0 and a.wz == math.copysign(TURN_RATE, degrees) for a in turning)
    assert end == Action(0.0, 0.0, "done")
    assert decide(Command("turn", amount=degrees), EMPTY, EMPTY.start, set(), end) == end
    turned = math.degrees(sum(a.wz for a in turning) * ACTION_PERIOD_S)
    assert turned == pytest.approx(degrees, abs=max(10.5, 0.02 * abs(degrees)))


@pytest.mark.parametrize("metres", [0.5, 1, 1.5, 2, 2.5, 3, -0.5, -1, -2])
def test_walking_goes_as_far_as_it_is_told(metres: float) -> None:
    room = replace(EMPTY, half_x=6.0)
    *walking, end = follow(Command("walk", amount=metres), room)
    speed = WALK_SPEED if metres > 0 else BACK_SPEED
    assert {(a.vx, a.wz) for a in walking} == {(speed, 0.0)}
    assert walking[0].note == f"walking {abs(metres):.1f}"
    assert end == Action(0.0, 0.0, "done")
    assert decide(Command("walk", amount=metres), room, room.start, set(), end) == end
    assert sum(a.vx for a in walking) * ACTION_PERIOD_S == pytest.approx(metres, abs=0.11)
    assert all(set(format_action(a).split()) <= WORDS for a in walking)


@pytest.mark.parametrize(
    "thing", [SceneObject("red", "box", 1.5, 0.1), SceneObject("red", "box", -2.5, 0.0)], ids=["box", "wall"]
)
def test_walking_stops_before_what_is_in_the_way(thing: SceneObject) -> None:
    scene = Scene(objects=(thing,), half_x=3.0)
    command = Command("walk", amount=5.0)
    pose, last = scene.start, None
    for _ in range(40):
        last = decide(command, scene, pose, set(), last)
        if not last.moves:
            break
        pose = move(pose, last.vx, last.wz, ACTION_PERIOD_S)
    assert last == Action(0.0, 0.0, "blocked")
    assert not collides(scene, pose)
    assert decide(command, scene, pose, set(), last) == last
    assert decide(Command("walk", amount=-0.5), scene, pose, set(), None).vx < 0


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("stop", "stopped"),
        ("stand", "stand up"),
        ("sit", "sit down"),
        ("unknown", "not understood"),
    ],
)
def test_what_needs_no_looking(kind: str, note: str) -> None:
    for last in (None, Action(0.4, 0.2, "red box left 1.5"), Action(0.0, 0.0, note)):
        action = decide(Command(kind, "red", "box"), EMPTY, EMPTY.start, {0}, last)  # type: ignore[arg-type]
        assert action == Action(0.0, 0.0, note)


def test_goes_slower_nearer_and_turns_toward_the_object() -> None:
    command = Command("goto", "red", "ball")

    def toward(x: float, y: float) -> Action:
        return decide(command, Scene(objects=(SceneObject("red", "ball", x, y),)), (0.0, 0.0, 0.0), {0}, None)

    assert toward(3.0, 0.0) == Action(0.6, 0.0, "red ball ahead 2.5")
    assert toward(1.7, 0.0) == Action(0.4, 0.0, "red ball ahead 1.0")
    assert toward(1.3, 0.0) == Action(0.2, 0.0, "red ball ahead 0.7")
    assert toward(1.0, 0.0) == Action(0.0, 0.0, "red ball reached")
    left, right = toward(2.0, 0.8), toward(2.0, -0.8)
    assert (left.wz, left.note.split()[2]) == (-right.wz, "left")
    assert left.wz > 0
    assert right.note.split()[2] == "right"
    aside = toward(0.4, 0.7)
    assert (aside.vx, aside.wz) == (0.0, 0.8), "turns in place toward what is near and beside it"


def mirror(scene: Scene) -> Scene:
    return replace(scene, objects=tuple(replace(o, y=-o.y, yaw=-o.yaw) for o in scene.objects))


def test_the_mirror_image_gets_the_mirrored_action(stage: Stage) -> None:
    rng = np.random.default_rng(0)
    compared = odd = 0
    for seed in range(60):
        scene = random_scene(seed + 5000)
        stage.lay_out(scene)
        pose = (*(float(v) for v in rng.uniform(-2, 2, 2)), float(rng.uniform(-3.1, 3.1)))
        if collides(scene, pose):
            continue
        stage.look(pose)
        visible = visible_objects(stage.hits())
        for thing in scene.objects:
            name, side = thing.name, float(rng.choice([-1, 1]))
            word = "left" if side > 0 else "right"
            for last in (
                None,
                Action(0.0, 0.8 * side, "searching 30"),
                Action(0.0, 0.8 * side, "searching 360"),
                Action(0.4, 0.2 * side, f"{name} {word} 1.5"),
                Action(0.4, -0.2 * side, f"{name} ahead 1.5"),
                Action(0.6, 0.0, f"{name} {word} 2.0"),
                Action(0.6, 0.0, f"{name} ahead 2.0"),
                Action(0.0, 0.0, f"{name} reached"),
                Action(0.0, 0.0, f"{name} not found"),
            ):
                command = Command("goto", thing.color, thing.kind)
                answer = decide(command, scene, pose, visible, last)
                there, wanted = mirrored(Question(command, "", last, answer))
                got = decide(command, mirror(scene), (pose[0], -pose[1], -pose[2]), visible, there)
                compared += 1
                if last is not None and last.wz != 0:
                    assert got == wanted, (last, answer)
                else:
                    # An obstacle straight in the way is passed on the left, if nothing speaks for a side.
                    odd += got != wanted
                    assert scene.find(name) in visible or got == wanted
    assert compared > 1000
    assert odd < 0.01 * compared


def test_other_commands_are_the_same_in_the_mirror() -> None:
    turn = Question(
        Command("turn", amount=90.0), "", Action(0.0, 0.8, "turning 45"), Action(0.0, 0.8, "turning 30")
    )
    assert mirrored(turn) == (turn.last, turn.answer)


@pytest.mark.parametrize("wz", [-0.8, 0.0, 0.8])
def test_moving(wz: float) -> None:
    pose = (0.0, 0.0, 0.0)
    for _ in range(300):
        pose = move(pose, 0.6, wz, 0.01)
    assert pose[2] == pytest.approx(math.remainder(3 * wz, 2 * math.pi))
    exact = (0.6 / wz * math.sin(3 * wz), 0.6 / wz * (1 - math.cos(3 * wz))) if wz else (1.8, 0.0)
    assert pose[:2] == pytest.approx(exact, abs=1e-3)
    assert move((1.0, 2.0, math.pi / 2), -0.3, 0.0, 1.0)[:2] == pytest.approx((1.0, 1.7))


def test_collisions() -> None:
    scene = Scene(objects=(SceneObject("red", "ball", 1.5, 0.0),), half_x=3.0, half_y=2.0)
    touching = 1.5 - 0.9 * RADIUS["ball"] - 0.2 - 0.2
    assert not collides(scene, (touching - 0.01, 0.0, 0.0))
    assert collides(scene, (touching + 0.01, 0.0, 0.0))
    assert collides(scene, (touching - 0.01, 0.0, 0.0), margin=0.02)
    assert not collides(scene, (touching + 0.01, 0.0, math.pi / 2)), "the robot is longer than wide"
    assert collides(scene, (0.0, 1.9, 0.0))
    assert collides(scene, (-2.7, 0.0, math.pi))


def test_visible_are_those_that_enough_rays_hit() -> None:
    hits = np.full((48, 96), -1)
    hits[0, :8], hits[1, :7] = 3, 1
    assert visible_objects(hits) == {3}
    assert visible_objects(np.full((4, 4), -1)) == set()


def test_notes_name_the_nearest_of_few_distances() -> None:
    command = Command("goto", "red", "ball")
    seen = set()
    for away in np.linspace(1.3, 5.5, 60):
        scene = Scene(objects=(SceneObject("red", "ball", float(away), 0.0),), half_x=6)
        _, distance = bearing_and_distance(scene.objects[0], scene.start)
        note = decide(command, scene, scene.start, {0}, None).note
        told = float(note.split()[-1])
        seen.add(told)
        assert told == min(DISTANCES, key=lambda d: abs(math.log(d / distance)))
    assert seen == {0.7, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0}
