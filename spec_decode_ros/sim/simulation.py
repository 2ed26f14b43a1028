"""The MuJoCo simulation: one room and one Go2, with commands, the head camera, odometry and collisions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim.go2 import CONTROL_PERIOD_S, MujocoGo2, Pose
from spec_decode_ros.sim.mjcf import to_mjcf
from spec_decode_ros.sim.render import Camera
from spec_decode_ros.sim.robot_model import attach_go2
from spec_decode_ros.sim.scene import Scene, SceneObject, bearing_and_distance

# Five points a second: with more, the body's sway would count as path length.
_PATH_PERIODS = 10

MOST_CATCH_UP_S = 0.25
"""Seconds that one call of :meth:`Simulation.catch_up` advances at most."""


@dataclass(frozen=True)
class Odometry:
    """Pose and velocity of the robot: forward and leftward speed in m/s, turn rate in rad/s."""

    time: float
    pose: Pose
    vx: float
    vy: float
    wz: float


@dataclass(frozen=True)
class Collision:
    """The beginning of a contact: simulated time in seconds and the name of what the robot touched."""

    time: float
    thing: str


class Simulation:
    """One room and one robot, in simulated time.

    Not thread-safe: an OpenGL context belongs to one thread, so make, use and close it in the same one.

    Args:
        scene: the room.
        seed: of the initial joint angles, see :class:`~spec_decode_ros.sim.go2.MujocoGo2`.
        backend: of the camera, see :class:`~spec_decode_ros.sim.render.Camera`.
        visual: keep the robot's visual meshes, for pictures of the robot.
    """

    def __init__(self, scene: Scene, seed: int = 0, backend: str = "auto", visual: bool = False) -> None:
        self.scene = scene
        self.model = attach_go2(to_mjcf(scene), visual=visual)
        self._start = Pose(*scene.start)
        self.robot = MujocoGo2(self.model, self._start, seed)
        self._backend = backend
        self._camera: Camera | None = None
        self._begin(seed)

    def _begin(self, seed: int) -> None:
        self._seed = seed
        self._owed = 0.0
        self._touching: frozenset[str] = frozenset()
        self._collisions: list[Collision] = []
        self._path: list[tuple[float, Pose]] = [(0.0, self.robot.pose)]
        self._walked = 0.0
        self._periods = 0

    def reset(self, seed: int | None = None) -> None:
        """Put the robot back at its start; time, path and collisions begin anew."""
        seed = self._seed if seed is None else seed
        self.robot.reset(self._start, seed)
        self._begin(seed)

    # ---------------------------------------------------------------- time and commands

    @property
    def time(self) -> float:
        """Simulated seconds since the start."""
        return self.robot.time

    def step(self, seconds: float) -> None:
        """Advance simulated time, as fast as the machine can, in control periods of 20 ms.

        What does not fill a period is kept for the next call.
        """
        self._owed += seconds
        while self._owed > CONTROL_PERIOD_S - 1e-9:
            self._owed -= CONTROL_PERIOD_S
            self._control_period()

    def catch_up(self, elapsed: float) -> None:
        """Advance towards `elapsed` seconds since the start, for a simulation that follows a real clock.

        One call advances at most :data:`MOST_CATCH_UP_S`, so on a slow machine simulated time runs slower.
        """
        self.step(max(0.0, min(elapsed - self.time - self._owed, MOST_CATCH_UP_S)))

    def set_velocity(self, vx: float, wz: float) -> None:
        """Command a forward speed (m/s) and a turn rate (rad/s, left positive), until the next command."""
        self.robot.set_velocity(vx, wz)

    def set_posture(self, posture: str) -> None:
        """Carry out ``stand up``, ``sit down`` or ``damp`` (see :meth:`~spec_decode_ros.sim.go2.MujocoGo2.damp`).

        Raises:
            SpecDecodeError: there is no such posture.
        """
        robot = self.robot
        postures = {"stand up": robot.stand_up, "sit down": robot.sit_down, "damp": robot.damp}
        if posture not in postures:
            raise SpecDecodeError(f"no posture {posture!r}: use 'stand up', 'sit down' or 'damp'")
        postures[posture]()

    def _control_period(self) -> None:
        self.robot.step()
        now = frozenset(
            name.rpartition("_")[0] if name.startswith("object_") else name for name in self.robot.touched
        )
        for name in sorted(now - self._touching):
            self._collisions.append(Collision(self.time, self._describe(name)))
        self._touching = now
        self._periods += 1
        if self._periods % _PATH_PERIODS == 0:
            before, after = self._path[-1][1], self.robot.pose
            self._walked += math.hypot(after.x - before.x, after.y - before.y)
            self._path.append((self.time, after))

    def _describe(self, name: str) -> str:
        kind, _, index = name.partition("_")
        return self.scene.objects[int(index)].name if kind == "object" else "wall"

    # ---------------------------------------------------------------- state

    def jpeg(self) -> bytes:
        """The current picture of the head camera, as JPEG bytes (384x192)."""
        if self._camera is None:
            self._camera = Camera(self.model, self._backend)
        return self._camera.jpeg(self.robot.data)

    @property
    def odometry(self) -> Odometry:
        """The robot's exact pose and velocity."""
        return Odometry(self.time, self.robot.pose, *self.robot.velocity)

    @property
    def collisions(self) -> tuple[Collision, ...]:
        """Every contact with an object or a wall, by its beginning."""
        return tuple(self._collisions)

    @property
    def path(self) -> tuple[tuple[float, Pose], ...]:
        """Times and poses, every 0.2 s since the start."""
        return tuple(self._path)

    @property
    def path_length(self) -> float:
        """Metres walked along :attr:`path`."""
        return self._walked

    def find_object(self, name: str) -> SceneObject:
        """The scene's object with this name.

        Raises:
            SpecDecodeError: there is none with that name.
        """
        index = self.scene.find(name)
        if index < 0:
            there = ", ".join(thing.name for thing in self.scene.objects)
            raise SpecDecodeError(f"no {name!r} in this scene: it has {there or 'nothing'}")
        return self.scene.objects[index]

    def distance_to(self, name: str) -> float:
        """Metres on the floor from the head camera to the surface of the named object."""
        return self._seen_from_head(name)[1]

    def bearing_to(self, name: str) -> float:
        """Radians, left positive, from the robot's heading to the named object, at the head camera."""
        return self._seen_from_head(name)[0]

    def _seen_from_head(self, name: str) -> tuple[float, float]:
        pose = self.robot.pose
        return bearing_and_distance(self.find_object(name), (pose.x, pose.y, pose.yaw))

    def close(self) -> None:
        """Free the camera; safe to call twice."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def __enter__(self) -> Simulation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
