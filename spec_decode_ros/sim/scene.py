"""Scene description: coloured objects in a walled room, as plain data for every simulator.

:func:`random_scene` makes a scene from a seed. :mod:`~spec_decode_ros.sim.mjcf` writes it for MuJoCo and
:mod:`~spec_decode_ros.sim.sdf` for Gazebo, from the same :func:`parts` and :func:`walls`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Vector = tuple[float, float, float]
"""x, y and z in metres."""

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.10, 0.10),
    "green": (0.10, 0.65, 0.15),
    "blue": (0.10, 0.25, 0.90),
    "yellow": (0.95, 0.85, 0.10),
    "purple": (0.60, 0.15, 0.75),
    "white": (0.97, 0.97, 0.97),
}
"""sRGB by colour name, each channel 0 to 1."""

KINDS: tuple[str, ...] = ("chair", "box", "ball", "cone", "cylinder")

RADIUS = {"chair": 0.33, "box": 0.35, "ball": 0.28, "cone": 0.28, "cylinder": 0.24}
"""Metres from the centre of an object to the outermost point of its footprint."""

HEAD = (0.33, 0.0, 0.03)
"""Position of the head camera on the robot's base: metres forward, left and up."""

WIDTH, HEIGHT = 384, 192
"""Resolution of the head camera, pixels."""

FOV_X = math.radians(100.0)
"""Horizontal field of view of the head camera, radians."""

FOV_Y = 2 * math.atan(math.tan(FOV_X / 2) * HEIGHT / WIDTH)
"""Vertical field of view of the head camera, radians."""

FLOOR_RGB = (0.45, 0.43, 0.40)
WALL_RGB = (0.62, 0.60, 0.55)
SKY_RGB = (0.50, 0.55, 0.60)
WALL_HEIGHT = 1.2
WALL_THICKNESS = 0.1
CONE_SIDES = 24


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene. Position in metres on the floor, yaw in radians."""

    color: str
    kind: str
    x: float
    y: float
    yaw: float = 0.0

    def __post_init__(self) -> None:
        if self.color not in COLORS or self.kind not in KINDS:
            raise ValueError(f"no object '{self.color} {self.kind}': colours {list(COLORS)}, kinds {KINDS}")

    @property
    def name(self) -> str:
        """Colour and kind, such as ``red chair``."""
        return f"{self.color} {self.kind}"


@dataclass(frozen=True)
class Primitive:
    """A geometric primitive that an object is built from, in the object's frame.

    ``shape`` is box (``size``: half sizes), cylinder or cone (radius, half height) or sphere (radius);
    ``position`` is its centre in metres.
    """

    shape: str
    size: tuple[float, ...]
    position: Vector


@dataclass(frozen=True)
class Scene:
    """A walled room, the objects in it and the robot's start.

    Attributes:
        objects: what stands in the room.
        half_x, half_y: half of the room's inner length and width, metres.
        start: x and y of the robot in metres, yaw in radians.
        light: ambient light, 0 to 1.
        floor, wall: sRGB colours.
    """

    objects: tuple[SceneObject, ...]
    half_x: float = 3.5
    half_y: float = 3.5
    start: tuple[float, float, float] = (0.0, 0.0, 0.0)
    light: float = 0.6
    floor: tuple[float, float, float] = FLOOR_RGB
    wall: tuple[float, float, float] = WALL_RGB

    def find(self, name: str) -> int:
        """Index of the object with this name, such as ``red chair``; -1 if there is none."""
        return next((i for i, thing in enumerate(self.objects) if thing.name == name), -1)


def parts(kind: str) -> tuple[Primitive, ...]:
    """The primitives that a kind of object is built from; the floor is at height 0."""
    if kind == "chair":
        legs = tuple(
            Primitive("box", (0.025, 0.025, 0.2), (x, y, 0.2)) for x in (-0.19, 0.19) for y in (-0.19, 0.19)
        )
        seat = Primitive("box", (0.22, 0.22, 0.03), (0.0, 0.0, 0.43))
        back = Primitive("box", (0.03, 0.22, 0.24), (-0.19, 0.0, 0.7))
        return (seat, back, *legs)
    return {
        "box": (Primitive("box", (0.24, 0.24, 0.24), (0.0, 0.0, 0.24)),),
        "ball": (Primitive("sphere", (0.28,), (0.0, 0.0, 0.28)),),
        # The cone floats 17.5 cm above the floor. The shipped pair was trained so, and stops too early before lower ones.
        "cone": (Primitive("cone", (0.28, 0.35), (0.0, 0.0, 0.525)),),
        "cylinder": (Primitive("cylinder", (0.22, 0.4), (0.0, 0.0, 0.4)),),
    }[kind]


def random_scene(seed: int | np.random.Generator, min_objects: int = 4, max_objects: int = 6) -> Scene:
    """A random room; the same seed gives the same room.

    No two objects look alike, none hides another from the start, and the robot fits between any two of them.

    Args:
        seed: a number, or a generator to draw from.
        min_objects, max_objects: bounds on the number of objects.

    Raises:
        ValueError: a room has no place for that many objects.
    """
    rng = np.random.default_rng(seed)
    for _ in range(20):
        scene = _scatter(rng, min_objects, max_objects)
        if len(scene.objects) >= min_objects:
            return scene
    raise ValueError(f"a room has no place for {min_objects} objects: ask for fewer")


def _scatter(rng: np.random.Generator, min_objects: int, max_objects: int) -> Scene:
    """A random room; an object that finds no free place in 200 attempts is left out."""
    half_x, half_y = rng.uniform(2.6, 3.6, 2)
    count = int(rng.integers(min_objects, max_objects + 1))
    names = _distinct_names(rng, count)
    start_x, start_y = rng.uniform(-0.5, 0.5, 2) * (half_x, half_y)
    taken = [(start_x, start_y)]
    angles: list[float] = []
    objects: list[SceneObject] = []
    for color, kind in names:
        for _ in range(200):
            x = rng.uniform(-half_x + 0.75, half_x - 0.75)
            y = rng.uniform(-half_y + 0.75, half_y - 0.75)
            angle = math.atan2(y - start_y, x - start_x)
            apart = all(math.hypot(x - a, y - b) > 1.55 for a, b in taken)
            if apart and all(abs(math.remainder(angle - a, 2 * math.pi)) > 0.25 for a in angles):
                angles.append(angle)
                taken.append((x, y))
                objects.append(
                    SceneObject(color, kind, float(x), float(y), float(rng.uniform(-math.pi, math.pi)))
                )
                break
    shade = rng.uniform(-0.06, 0.06, 3)
    return Scene(
        objects=tuple(objects),
        half_x=float(half_x),
        half_y=float(half_y),
        start=(float(start_x), float(start_y), float(rng.uniform(-math.pi, math.pi))),
        light=float(rng.uniform(0.5, 0.65)),
        floor=tuple(float(c) for c in np.clip(np.add(FLOOR_RGB, shade), 0, 1)),
        wall=tuple(float(c) for c in np.clip(np.add(WALL_RGB, shade[::-1]), 0, 1)),
    )


def _distinct_names(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Colours and kinds, none twice; the second shares its colour and the third its kind with the first."""
    everything = [(c, k) for c in COLORS for k in KINDS]
    first = everything[rng.integers(len(everything))]
    same_color = [n for n in everything if n[0] == first[0] and n[1] != first[1]]
    same_kind = [n for n in everything if n[1] == first[1] and n[0] != first[0]]
    names = [first, same_color[rng.integers(len(same_color))], same_kind[rng.integers(len(same_kind))]]
    rest = [n for n in everything if n not in names]
    rng.shuffle(rest)
    return (names + [tuple(n) for n in rest])[:count]


def walls(half_x: float, half_y: float) -> list[tuple[Vector, Vector]]:
    """The four walls as (centre, half sizes), metres."""
    t, h = WALL_THICKNESS / 2, WALL_HEIGHT / 2
    return [
        ((half_x + t, 0.0, h), (t, half_y + 2 * t, h)),
        ((-half_x - t, 0.0, h), (t, half_y + 2 * t, h)),
        ((0.0, half_y + t, h), (half_x, t, h)),
        ((0.0, -half_y - t, h), (half_x, t, h)),
    ]


def surface_distance(thing: SceneObject, x: float, y: float) -> float:
    """Metres on the floor from (x, y) to the object's footprint; 0 inside it."""
    dx, dy = x - thing.x, y - thing.y
    if thing.kind in ("chair", "box"):
        half = 0.22 if thing.kind == "chair" else 0.24
        cos, sin = math.cos(thing.yaw), math.sin(thing.yaw)
        outside_x = max(abs(cos * dx + sin * dy) - half, 0.0)
        outside_y = max(abs(-sin * dx + cos * dy) - half, 0.0)
        return math.hypot(outside_x, outside_y)
    return max(math.hypot(dx, dy) - parts(thing.kind)[0].size[0], 0.0)


def head_position(pose: tuple[float, float, float]) -> tuple[float, float]:
    """x and y of the head camera in metres, for a base pose (x, y, yaw)."""
    x, y, yaw = pose
    return x + HEAD[0] * math.cos(yaw), y + HEAD[0] * math.sin(yaw)


def bearing_and_distance(thing: SceneObject, pose: tuple[float, float, float]) -> tuple[float, float]:
    """Bearing and distance of an object from the head camera of a robot at base pose (x, y, yaw).

    Returns:
        The angle to its centre in radians, left positive, within ±pi; the metres to its surface.
    """
    x, y = head_position(pose)
    angle = math.atan2(thing.y - y, thing.x - x) - pose[2]
    return math.remainder(angle, 2 * math.pi), surface_distance(thing, x, y)
