"""The simulated Go2: a MuJoCo model with a walking policy and postures, driven by velocity commands.

It does what the real robot's sport mode does: follows a forward speed and a turn rate, stands still, stands up and sits
down. Time is simulated: :meth:`MujocoGo2.step` advances it by one control period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim.robot_model import (
    BASE_BODY,
    PHYSICS_STEP_S,
    PREFIX,
    find_go2_files,
    robot_geoms_of,
    scene_geoms_of,
)
from spec_decode_ros.sim.walking import DEFAULT_POSE, JOINTS, VelocityTrim, WalkingPolicy

CONTROL_PERIOD_S = 0.02
PHYSICS_STEPS = round(CONTROL_PERIOD_S / PHYSICS_STEP_S)
STANDING_HEIGHT_M = 0.33

# Slew limits of the commanded velocity, m/s² and rad/s².
ACCELERATION = np.array([3.0, 8.0])
MAX_COMMAND = np.array([1.0, 1.5])

# With a zero command the robot changes from stepping to holding its pose below this speed, or after this time.
HOLD_SPEED = np.array([0.12, 0.3])
HOLD_AFTER_S = 0.6
HOLD_BLEND_S = 0.25
WALK_BLEND_S = 0.10
POSTURE_S = 1.2
# Seconds of standing still before it sits down: with a foot in the air it would topple.
SETTLE_S = 0.8

WALK_KP, WALK_KD = 20.0, 0.5
HOLD_KP, HOLD_KD = 40.0, 1.0
DAMP_KD = 3.0
SIT_POSE = np.array([0.0, 1.36, -2.60] * 4)

FALLEN_TILT_RAD = math.radians(50.0)
OBSTACLE_PREFIXES = ("object_", "wall_")


@dataclass(frozen=True)
class Pose:
    """Position (m) and heading (rad, left positive) of the robot's base on the floor."""

    x: float
    y: float
    yaw: float


class MujocoGo2:
    """The Go2 of a compiled scene (see :func:`~spec_decode_ros.sim.robot_model.attach_go2`).

    Args:
        model: the scene with the robot in it.
        start: initial pose.
        seed: of small deviations of the initial joint angles, which make every seed's walk differ. The same model,
            start, seed and commands give the same motion, bit for bit.
    """

    def __init__(self, model: mujoco.MjModel, start: Pose = Pose(0.0, 0.0, 0.0), seed: int = 0) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self._policy = WalkingPolicy(find_go2_files().policy)
        self._trim = VelocityTrim()
        joints = [model.joint(f"{PREFIX}{name}") for name in JOINTS]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._qvel = np.array([joint.dofadr[0] for joint in joints])
        self._ctrl = np.array([model.actuator(PREFIX + name.removesuffix("_joint")).id for name in JOINTS])
        self._torque_limit = model.actuator_ctrlrange[self._ctrl, 1]
        self._base = model.body(BASE_BODY).id
        self._root = int(model.body_jntadr[self._base])
        self._root_qpos = int(model.jnt_qposadr[self._root])
        self._root_qvel = int(model.jnt_dofadr[self._root])
        self._is_robot = robot_geoms_of(model)
        self._is_obstacle = scene_geoms_of(model, OBSTACLE_PREFIXES)
        self.reset(start, seed)

    def reset(self, start: Pose, seed: int = 0) -> None:
        """Put the robot at `start`, standing still, and set time to zero."""
        rng = np.random.default_rng(seed)
        mujoco.mj_resetData(self.model, self.data)
        address, half_yaw = self._root_qpos, start.yaw / 2
        self.data.qpos[address : address + 3] = (start.x, start.y, STANDING_HEIGHT_M)
        self.data.qpos[address + 3 : address + 7] = (math.cos(half_yaw), 0.0, 0.0, math.sin(half_yaw))
        self.data.qpos[self._qpos] = DEFAULT_POSE + rng.normal(0.0, 0.01, DEFAULT_POSE.size)
        self._wanted = np.zeros(2)
        self._command = np.zeros(2)
        self._policy.reset()
        self._trim.reset()
        self._target = DEFAULT_POSE.copy()
        self._hold = 1.0
        self._idle_s = 0.0
        self._sitting = False
        self._lowered = False
        self._limp = False
        self._posture_from = DEFAULT_POSE.copy()
        self._posture_s = POSTURE_S
        self._touched: tuple[str, ...] = ()
        mujoco.mj_forward(self.model, self.data)

    # ---------------------------------------------------------------- commands

    def set_velocity(self, vx: float, wz: float) -> None:
        """Command a forward speed (m/s) and a turn rate (rad/s, left positive), until the next command.

        Like the real robot, it has to stand up before it walks: while it sits or changes posture it does not.

        Raises:
            SpecDecodeError: a velocity is not a finite number.
        """
        if not (math.isfinite(vx) and math.isfinite(wz)):
            raise SpecDecodeError(f"velocity command ({vx}, {wz}) is not finite: send finite numbers")
        self._wanted = np.clip((vx, wz), -MAX_COMMAND, MAX_COMMAND)

    def stand_up(self) -> None:
        """Stand up, after sitting or damping; a robot that stands stays as it is."""
        self._sitting = self._limp = False

    def sit_down(self) -> None:
        """Stop and then lie down on the belly; a robot that sits stays as it is."""
        self._sitting = True

    def damp(self) -> None:
        """Damp the joints without holding a pose, so that the robot sinks to the ground."""
        self._limp = self._sitting = self._lowered = True
        self._posture_s, self._hold = POSTURE_S, 1.0
        self._command[:] = 0.0

    # ---------------------------------------------------------------- time

    def step(self) -> None:
        """Advance simulated time by one control period of 20 ms."""
        target, gains = self._choose_target()
        self._target = target
        kp, kd = gains
        touched: set[str] = set()
        for _ in range(PHYSICS_STEPS):
            position, velocity = self.data.qpos[self._qpos], self.data.qvel[self._qvel]
            torque = kp * (target - position) - kd * velocity
            self.data.ctrl[self._ctrl] = np.clip(torque, -self._torque_limit, self._torque_limit)
            mujoco.mj_step(self.model, self.data)
            if self.data.ncon:
                touched.update(self._obstacle_contacts())
        self._touched = tuple(sorted(touched))

    def _choose_target(self) -> tuple[NDArray[np.float64], tuple[float, float]]:
        if self._limp:
            return self.data.qpos[self._qpos].copy(), (0.0, DAMP_KD)
        if self._changes_posture():
            return self._posture_target(), (HOLD_KP, HOLD_KD)
        step = ACCELERATION * CONTROL_PERIOD_S
        wanted_now = np.zeros(2) if self._sitting else self._wanted
        self._command += np.clip(wanted_now - self._command, -step, step)
        speed = self.velocity
        moving = bool(np.any(self._command != 0.0))
        if moving:
            self._idle_s = 0.0
            self._hold = max(0.0, self._hold - CONTROL_PERIOD_S / WALK_BLEND_S)
        else:
            self._idle_s += CONTROL_PERIOD_S
            slow = abs(speed[0]) < HOLD_SPEED[0] and abs(speed[2]) < HOLD_SPEED[1]
            if self._hold > 0.0 or slow or self._idle_s > HOLD_AFTER_S:
                self._hold = min(1.0, self._hold + CONTROL_PERIOD_S / HOLD_BLEND_S)
        if self._hold >= 1.0:
            self._policy.reset()
            self._trim.reset()
            return DEFAULT_POSE.copy(), (HOLD_KP, HOLD_KD)
        wanted = self._trim.update(self._command, np.array(speed), CONTROL_PERIOD_S)
        walk = self._policy.targets(
            self.data.qvel[self._root_qvel + 3 : self._root_qvel + 6],
            self._rotation[2] * -1.0,
            wanted,
            self.data.qpos[self._qpos],
            self.data.qvel[self._qvel],
        )
        h = self._hold
        gains = (WALK_KP + h * (HOLD_KP - WALK_KP), WALK_KD + h * (HOLD_KD - WALK_KD))
        return (1.0 - h) * walk + h * DEFAULT_POSE, gains

    def _changes_posture(self) -> bool:
        """Whether the joints follow a posture. A new one begins when the robot stands still or has ended the last one."""
        if self._posture_s < POSTURE_S:
            return True
        still = self._hold >= 1.0 and self._idle_s >= SETTLE_S
        if self._sitting != self._lowered and (self._lowered or still):
            self._lowered = self._sitting
            self._posture_from = self._target.copy()
            self._posture_s = 0.0
        return self._lowered or self._posture_s < POSTURE_S

    def _posture_target(self) -> NDArray[np.float64]:
        self._posture_s = min(POSTURE_S, self._posture_s + CONTROL_PERIOD_S)
        part = self._posture_s / POSTURE_S
        blend = part * part * (3.0 - 2.0 * part)
        goal = SIT_POSE if self._lowered else DEFAULT_POSE
        self._hold, self._idle_s = 1.0, 0.0
        self._command[:] = 0.0
        return (1.0 - blend) * self._posture_from + blend * goal

    def _obstacle_contacts(self) -> set[str]:
        pairs = self.data.contact.geom
        touching = self.data.contact.dist <= 0.0
        names = set()
        for first, second in pairs[touching]:
            for one, other in ((first, second), (second, first)):
                if self._is_robot[one] and self._is_obstacle[other]:
                    names.add(self.model.geom(other).name)
        return names

    # ---------------------------------------------------------------- state

    @property
    def _rotation(self) -> NDArray[np.float64]:
        return self.data.xmat[self._base].reshape(3, 3)

    @property
    def time(self) -> float:
        """Simulated seconds since the last reset."""
        return float(self.data.time)

    @property
    def pose(self) -> Pose:
        """Pose of the base."""
        x, y, _ = self.data.xpos[self._base]
        rotation = self._rotation
        return Pose(float(x), float(y), math.atan2(rotation[1, 0], rotation[0, 0]))

    @property
    def tilt(self) -> tuple[float, float]:
        """Roll and pitch of the base in radians: leaning to the right and looking down are positive."""
        x, y, z = (float(part) for part in self._rotation[2])
        return math.atan2(y, z), math.atan2(-x, math.hypot(y, z))

    @property
    def height(self) -> float:
        """Metres from the ground to the centre of the base."""
        return float(self.data.xpos[self._base][2])

    @property
    def velocity(self) -> tuple[float, float, float]:
        """Forward and leftward speed (m/s) in the heading frame, and turn rate (rad/s)."""
        address = self._root_qvel
        vx, vy = self.data.qvel[address : address + 2]
        yaw = self.pose.yaw
        c, s = math.cos(yaw), math.sin(yaw)
        turn = float(self._rotation[2] @ self.data.qvel[address + 3 : address + 6])
        return (float(c * vx + s * vy), float(-s * vx + c * vy), turn)

    @property
    def touched(self) -> tuple[str, ...]:
        """Names of the object and wall geoms that the robot touched during the last step."""
        return self._touched

    @property
    def fallen(self) -> bool:
        """Whether the base is tilted too far for the robot to walk."""
        return bool(self._rotation[2, 2] < math.cos(FALLEN_TILT_RAD))

    @property
    def sitting(self) -> bool:
        """Whether the robot sits or is sitting down."""
        return self._sitting

    @property
    def walking(self) -> bool:
        """Whether the legs step; False while the robot holds a pose."""
        return self._hold < 1.0
