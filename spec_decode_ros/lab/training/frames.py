"""Training data from the simulator: frames, questions about them, and what the expert would do."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from spec_decode_ros.actions.action import ACTION_PERIOD_S, Action
from spec_decode_ros.actions.commands import Command, phrase
from spec_decode_ros.sim.expert import Pose, collides, decide, move, visible_objects
from spec_decode_ros.sim.render import to_jpeg
from spec_decode_ros.sim.scene import COLORS, KINDS, Scene, bearing_and_distance, random_scene
from spec_decode_ros.sim.stage import MAX_OBJECTS, RAYS, Stage

GRID = (4, 8)
"""Rows and columns of visual tokens that a frame becomes."""

FRAME_SIZE = (192, 96)
"""Width and height that the shipped pair sees."""

QUESTIONS = 4
MISTAKEN = 0.15
"""Share of the questions about an object whose last action went to another one: a mistake has to end."""

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
    """A frame with its questions and with what can be seen in each cell of the grid.

    ``frame`` is (height, width, 3) uint8. ``presence`` (cells,) uint32 has a bit for each of :data:`COMBINATIONS` in the
    cell; ``place`` (cells, 2) float16 holds bearing in radians and log distance of the object that fills most of the cell,
    NaN where there is none.
    """

    frame: np.ndarray
    presence: np.ndarray
    place: np.ndarray
    questions: tuple[Question, ...]


def examples(
    seed: int, count: int, backend: str = "auto", per_scene: int = 5, setting: PairView | None = None
) -> Iterator[Example]:
    """Yield ``count`` :class:`Example`; the same seed yields the same."""
    setting = setting or TINY
    rng = np.random.default_rng(seed)
    stage = Stage(backend)
    made = 0
    while made < count:
        scene = random_scene(rng, 3 if rng.random() < 0.2 else 4, MAX_OBJECTS)
        stage.lay_out(scene)
        for _ in range(min(per_scene, count - made)):
            yield _example(stage, scene, rng, setting)
            made += 1


@dataclass(frozen=True)
class View:
    """What the camera shows from a pose: the ``frame`` that the model gets, and the object behind each coarse ray."""

    pose: Pose
    frame: np.ndarray
    hits: np.ndarray

    @property
    def visible(self) -> set[int]:
        """Indices of the objects in view."""
        return visible_objects(self.hits)


@dataclass(frozen=True)
class PairView:
    """What a pair sees and how it is spoken to.

    Attributes:
        size: width and height of the picture that the vision tower gets.
        grid: rows and columns of visual tokens.
        resample: with which its image processor resizes.
        draw: the commands that are given about a view.
        say: a sentence for a command.
        forgotten: share of the answers toward an object whose last action is swapped for another, see
            :class:`~spec_decode_ros.lab.training.batches.Forgetter`; for pairs whose batches do not do that.
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    resample: Image.Resampling
    draw: Callable[[Scene, int, View, np.random.Generator], list[Command]]
    say: Callable[[Command, np.random.Generator], str]
    forgotten: float = 0.0

    def frame(self, rgb: np.ndarray) -> np.ndarray:
        """A camera frame as the pair gets it: through JPEG, then resized, uint8."""
        with Image.open(io.BytesIO(to_jpeg(rgb))) as image:
            return np.asarray(image.resize(self.size, self.resample))


def to_model_size(rgb: np.ndarray) -> np.ndarray:
    """A camera frame as the tiny pair gets it: through JPEG, then bicubic to 192 x 96, uint8."""
    return TINY.frame(rgb)


def look(stage: Stage, pose: Pose, rng: np.random.Generator, setting: PairView | None = None) -> View:
    """The view from a pose, with the height and the tilt of a body that walks."""
    stage.look(pose, rng.normal(0.31, 0.012), rng.normal(0.0, 0.025), rng.normal(0.0, 0.02))
    return View(pose, (setting or TINY).frame(stage.camera.rgb(stage.data)), stage.hits())


def example(scene: Scene, view: View, questions: list[Question], grid: tuple[int, int] = GRID) -> Example:
    """A view with its questions."""
    return Example(view.frame, *_cells(view.hits, scene, view.pose, grid), tuple(questions))


def ask(
    stage: Stage,
    scene: Scene,
    view: View,
    before: Pose,
    commands: list[Command],
    rng: np.random.Generator,
    setting: PairView | None = None,
) -> list[Question]:
    """Questions about a view, one for each command, with what may have been said a moment ago at ``before``."""
    setting = setting or TINY
    stage.look(before)
    visible_before = visible_objects(stage.hits())
    questions = []
    for command in commands:
        last = _last_action(command, scene, before, visible_before, rng)
        answer = decide(command, scene, view.pose, view.visible, last)
        if setting.forgotten and _in_the_picture(command, answer) and rng.random() < setting.forgotten:
            last = None if rng.random() < 0.5 else _searching(rng)
            answer = decide(command, scene, view.pose, view.visible, last)
        questions.append(Question(command, setting.say(command, rng), last, answer))
    return questions


def _in_the_picture(command: Command, answer: Action) -> bool:
    """Whether an answer goes toward an object that was named: the last action is not needed for it."""
    return (
        command.kind == "goto"
        and not command.relation
        and bool({"left", "right", "ahead"} & set(answer.note.split()))
    )


def _searching(rng: np.random.Generator) -> Action:
    return Action(0.0, float(rng.choice([-0.8, 0.8])), f"searching {15 * int(rng.integers(0, 25))}")


def _example(stage: Stage, scene: Scene, rng: np.random.Generator, setting: PairView) -> Example:
    focus = int(rng.integers(len(scene.objects)))
    pose = _sample_pose(scene, focus, rng)
    view = look(stage, pose, rng, setting)
    commands = setting.draw(scene, focus, view, rng)
    # The frame before this one, as some motion would have left it: mostly the expert's, sometimes another.
    guess = decide(commands[0], scene, pose, view.visible, None)
    vx, wz = (guess.vx, guess.wz) if rng.random() < 0.7 else (rng.uniform(-0.1, 0.6), rng.uniform(-0.8, 0.8))
    before = move(pose, -vx, -wz + rng.normal(0, 0.1), ACTION_PERIOD_S)
    return example(scene, view, ask(stage, scene, view, before, commands, rng, setting), setting.grid)


def _sample_pose(scene: Scene, focus: int, rng: np.random.Generator) -> Pose:
    """A free pose: anywhere, or on the way to the object in focus, or right before it."""
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
    """As many as :data:`QUESTIONS`: the object in focus, another (mostly in view), one that only resembles one that is
    there, and something else."""

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
    """A last action that could have come before, from a random one before that."""
    if rng.random() < 0.12:
        return None
    if command.kind == "goto" and not command.relation and visible and rng.random() < MISTAKEN:
        return mistaken(command, scene, pose, visible, rng)
    earlier: Action | None = None
    if rng.random() < 0.85:
        earlier = _random_action(command, rng, _named(command, scene, rng))
    last = decide(command, scene, pose, visible, earlier)
    if command.kind == "goto" and rng.random() < 0.2 and last.note.split()[-1] not in ("reached", "found"):
        # What was said need not have been right: the frame decides, not the habit.
        wz = round(0.2 * float(rng.integers(-4, 5)), 1) + 0.0
        last = Action(round(0.2 * float(rng.integers(0, 4)), 1), wz, last.note)
    return last


def mistaken(
    command: Command, scene: Scene, pose: Pose, visible: set[int], rng: np.random.Generator
) -> Action:
    """What a pilot says who takes another object in view, one of that colour or kind if there is one, for the target."""
    things = [scene.objects[i] for i in sorted(visible)]
    alike = [t for t in things if command.color == t.color or command.object == t.kind]
    other = (alike or things)[int(rng.integers(len(alike or things)))]
    action = decide(Command("goto", other.color, other.kind), scene, pose, visible, None)
    return Action(action.vx, action.wz, action.note.replace(other.name, command.target))


def _named(command: Command, scene: Scene, rng: np.random.Generator) -> str:
    """The object of a ``goto`` by name; of one that is described, any of its kind."""
    names = [thing.name for thing in scene.objects if thing.kind == command.object]
    return str(rng.choice(names)) if command.relation and names else command.target


def _random_action(command: Command, rng: np.random.Generator, name: str) -> Action:
    side = float(rng.choice([-0.8, 0.8]))
    match command.kind:
        case "goto":
            choice = rng.random()
            if choice < 0.15:
                return Action(0.0, 0.0, f"{name} reached")
            if choice < 0.2:
                return Action(0.0, 0.0, f"{command.target} not found")
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


def _draw_for_tiny(scene: Scene, focus: int, view: View, rng: np.random.Generator) -> list[Command]:
    return draw_commands(scene, focus, view.visible, rng)


TINY = PairView(FRAME_SIZE, GRID, Image.Resampling.BICUBIC, _draw_for_tiny, phrase)
"""Of the tiny pair."""


def _cells(
    hits: np.ndarray, scene: Scene, pose: Pose, grid: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = grid
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
