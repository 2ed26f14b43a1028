"""Training examples from the simulator: camera frames, questions about them and the expert's answers."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from spec_decode_ros.actions.action import ACTION_PERIOD_S, Action
from spec_decode_ros.actions.commands import Command, phrase
from spec_decode_ros.lab.episodes.expert import Pose, collides, decide, move, visible_objects
from spec_decode_ros.lab.episodes.stage import MAX_OBJECTS, RAYS, Stage
from spec_decode_ros.sim.render import to_jpeg
from spec_decode_ros.sim.scene import COLORS, KINDS, Scene, bearing_and_distance, random_scene

GRID = (4, 8)
"""Rows and columns of visual tokens that a frame becomes."""

FRAME_SIZE = (192, 96)
"""Width and height that the shipped pair sees."""

QUESTIONS = 4
VIEWS_PER_SCENE = 5
MISTAKEN = 0.15
"""Share of the questions about an object whose last action went to another object: the model has to correct that."""

COMBINATIONS = [f"{color} {kind}" for color in COLORS for kind in KINDS]


@dataclass(frozen=True)
class Question:
    """One instruction about a frame, the last action that goes with it, and the expert's answer."""

    command: Command
    instruction: str
    last: Action | None
    answer: Action


@dataclass(frozen=True)
class Example:
    """A frame, its questions, and labels for each cell of the grid.

    ``frame`` is (height, width, 3) uint8. ``presence`` (cells,) uint32 has one bit for each of :data:`COMBINATIONS` that
    is visible in the cell; ``place`` (cells, 2) float16 holds bearing in radians and log distance of the object that
    covers most of the cell, NaN where there is none.
    """

    frame: np.ndarray
    presence: np.ndarray
    place: np.ndarray
    questions: tuple[Question, ...]


def examples(seed: int, count: int) -> Iterator[Example]:
    """Yield ``count`` examples from random scenes and poses; the same seed gives the same examples."""
    rng = np.random.default_rng(seed)
    stage = Stage()
    made = 0
    while made < count:
        scene = random_scene(rng, 3 if rng.random() < 0.2 else 4, MAX_OBJECTS)
        stage.lay_out(scene)
        for _ in range(min(VIEWS_PER_SCENE, count - made)):
            yield _example(stage, scene, rng)
            made += 1


@dataclass(frozen=True)
class View:
    """What the camera sees from a pose: the model's input ``frame``, and the object that each coarse ray hits."""

    pose: Pose
    frame: np.ndarray
    hits: np.ndarray

    @property
    def visible(self) -> set[int]:
        """Indices of the objects in view."""
        return visible_objects(self.hits)


def to_model_size(rgb: np.ndarray) -> np.ndarray:
    """A camera frame as the model gets it: JPEG-compressed, then resized to 192 x 96 (bicubic), uint8."""
    with Image.open(io.BytesIO(to_jpeg(rgb))) as image:
        return np.asarray(image.resize(FRAME_SIZE, Image.Resampling.BICUBIC))


def look(stage: Stage, pose: Pose, rng: np.random.Generator) -> View:
    """The view from a pose, with the random height and tilt of a walking body."""
    stage.look(pose, rng.normal(0.31, 0.012), rng.normal(0.0, 0.025), rng.normal(0.0, 0.02))
    return View(pose, to_model_size(stage.camera.rgb(stage.data)), stage.hits())


def example(scene: Scene, view: View, questions: list[Question]) -> Example:
    """A view with its questions."""
    return Example(view.frame, *_cells(view.hits, scene, view.pose), tuple(questions))


def ask(
    stage: Stage,
    scene: Scene,
    view: View,
    before: Pose,
    commands: list[Command],
    rng: np.random.Generator,
) -> list[Question]:
    """One question about a view for each command, with a plausible last action from the earlier pose ``before``."""
    stage.look(before)
    visible_before = visible_objects(stage.hits())
    questions = []
    for command in commands:
        last = _last_action(command, scene, before, visible_before, rng)
        answer = decide(command, scene, view.pose, view.visible, last)
        questions.append(Question(command, phrase(command, rng), last, answer))
    return questions


def _example(stage: Stage, scene: Scene, rng: np.random.Generator) -> Example:
    focus = int(rng.integers(len(scene.objects)))
    pose = _sample_pose(scene, focus, rng)
    view = look(stage, pose, rng)
    commands = draw_commands(scene, focus, view.visible, rng)
    # The pose one action earlier: mostly as the expert's motion would have left it, sometimes a random one.
    guess = decide(commands[0], scene, pose, view.visible, None)
    vx, wz = (guess.vx, guess.wz) if rng.random() < 0.7 else (rng.uniform(-0.1, 0.6), rng.uniform(-0.8, 0.8))
    before = move(pose, -vx, -wz + rng.normal(0, 0.1), ACTION_PERIOD_S)
    return example(scene, view, ask(stage, scene, view, before, commands, rng))


def _sample_pose(scene: Scene, focus: int, rng: np.random.Generator) -> Pose:
    """A collision-free pose: anywhere, on the way to the object in focus, or right in front of it."""
    thing = scene.objects[focus]
    for _ in range(100):
        style = rng.random()
        if style < 0.4:
            x = rng.uniform(-scene.half_x + 0.4, scene.half_x - 0.4)
            y = rng.uniform(-scene.half_y + 0.4, scene.half_y - 0.4)
            yaw = rng.uniform(-math.pi, math.pi)
        else:
            distance = rng.uniform(0.75, 2.2) if style < 0.75 else rng.uniform(1.5, 4.5)
            around = rng.uniform(-math.pi, math.pi)
            x, y = thing.x + distance * math.cos(around), thing.y + distance * math.sin(around)
            yaw = around + math.pi + rng.normal(0, 0.45)
        pose = (float(x), float(y), math.remainder(float(yaw), 2 * math.pi))
        if not collides(scene, pose, margin=0.02):
            return pose
    return scene.start


def draw_commands(scene: Scene, focus: int, visible: set[int], rng: np.random.Generator) -> list[Command]:
    """:data:`QUESTIONS` commands: the object in focus, another object (mostly one in view), an object that is not there but
    resembles one that is, and something else."""

    def goto(name: str) -> Command:
        color, _, kind = name.partition(" ")
        return Command("goto", color, kind)

    names = [o.name for o in scene.objects]
    first = goto(names[focus])
    others = [n for n in names if n != first.target]
    in_view = [names[i] for i in sorted(visible - {focus})]
    second = goto(str(rng.choice(in_view if in_view and rng.random() < 0.75 else others)))
    model = scene.objects[int(rng.integers(len(names)))]
    absent = [n for n in COMBINATIONS if n not in names]
    alike = [n for n in absent if model.color in n or model.kind in n]
    third = goto(str(rng.choice(alike))) if rng.random() < 0.6 else goto(str(rng.choice(names)))
    fourth = other_command(rng) if rng.random() < 0.6 else goto(str(rng.choice(names)))
    return [first, second, third, fourth][:QUESTIONS]


def other_command(rng: np.random.Generator) -> Command:
    """A command that is not about an object."""
    kind = rng.choice(
        ["turn", "walk", "stop", "stand", "sit", "unknown"], p=[0.3, 0.25, 0.15, 0.08, 0.08, 0.14]
    )
    color, thing = str(rng.choice(list(COLORS))), str(rng.choice(KINDS))
    amount = 0.0
    if kind == "turn":
        degrees = rng.choice([90, 180, 45, 360]) if rng.random() < 0.5 else 5 * rng.integers(2, 73)
        amount = float(degrees) * rng.choice([-1, 1])
    elif kind == "walk":
        amount = float(rng.choice([0.5, 1, 1, 1.5, 2, 2.5, 3, 4, 5])) * rng.choice([-1, 1], p=[0.3, 0.7])
    return Command(str(kind), color, thing, amount)


def _last_action(
    command: Command, scene: Scene, pose: Pose, visible: set[int], rng: np.random.Generator
) -> Action | None:
    """A plausible last action: mostly the expert's answer to a random action before it."""
    if rng.random() < 0.12:
        return None
    if command.kind == "goto" and visible and rng.random() < MISTAKEN:
        return mistaken(command, scene, pose, visible, rng)
    earlier: Action | None = None
    if rng.random() < 0.85:
        earlier = _random_action(command, rng)
    last = decide(command, scene, pose, visible, earlier)
    if command.kind == "goto" and rng.random() < 0.2 and last.note.split()[-1] not in ("reached", "found"):
        # The last action may be wrong: the answer has to come from the frame.
        wz = round(0.2 * float(rng.integers(-4, 5)), 1) + 0.0
        last = Action(round(0.2 * float(rng.integers(0, 4)), 1), wz, last.note)
    return last


def mistaken(
    command: Command, scene: Scene, pose: Pose, visible: set[int], rng: np.random.Generator
) -> Action:
    """The action of a model that mistakes another object in view, if possible of the same colour or kind, for the target."""
    things = [scene.objects[i] for i in sorted(visible)]
    alike = [t for t in things if command.color == t.color or command.object == t.kind]
    other = (alike or things)[int(rng.integers(len(alike or things)))]
    action = decide(Command("goto", other.color, other.kind), scene, pose, visible, None)
    return Action(action.vx, action.wz, action.note.replace(other.name, command.target))


def _random_action(command: Command, rng: np.random.Generator) -> Action:
    name, side = command.target, float(rng.choice([-0.8, 0.8]))
    match command.kind:
        case "goto":
            choice = rng.random()
            if choice < 0.15:
                return Action(0.0, 0.0, f"{name} reached")
            if choice < 0.2:
                return Action(0.0, 0.0, f"{name} not found")
            if choice < 0.7:
                return Action(0.0, side, f"searching {15 * int(rng.integers(0, 25))}")
            return Action(0.4, side / 4, f"{name} {'left' if side > 0 else 'right'} 1.5")
        case "turn":
            full = max(15, 15 * round(abs(command.amount) / 15))
            return Action(0.0, side, f"turning {15 * int(rng.integers(1, full // 15 + 1))}")
        case "walk":
            step = 0.2 if command.amount > 0 else 0.1
            left = abs(command.amount) - step * int(rng.integers(0, max(1, int(abs(command.amount) / step))))
            return Action(0.6, 0.0, f"walking {max(left, step):.1f}")
    return Action(0.0, 0.0, "stopped")


def _cells(hits: np.ndarray, scene: Scene, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """``presence`` and ``place`` of an :class:`Example`."""
    rows, columns = GRID
    blocks = (
        hits.reshape(rows, RAYS[0] // rows, columns, RAYS[1] // columns)
        .swapaxes(1, 2)
        .reshape(rows * columns, -1)
    )
    presence = np.zeros(len(blocks), np.uint32)
    place = np.full((len(blocks), 2), np.nan, np.float16)
    seen = [bearing_and_distance(thing, pose) for thing in scene.objects]
    for cell, block in enumerate(blocks):
        counts = np.bincount(block[block >= 0], minlength=len(scene.objects))
        for index in np.flatnonzero(counts >= 4):
            presence[cell] |= np.uint32(1 << COMBINATIONS.index(scene.objects[index].name))
        if counts.max(initial=0) >= 4:
            bearing, distance = seen[int(counts.argmax())]
            place[cell] = (bearing, math.log(distance + 0.2))
    return presence, place
