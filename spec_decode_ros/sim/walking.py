"""The Go2's walking policy: a small network from the body's state and a velocity command to joint targets.

An rl_sar policy with the legged-gym layout. Observation (45): base angular velocity, gravity in the base
frame, command (vx, vy, wz), joint positions relative to the default pose, joint velocities, last action.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[np.float64]

# The policy's order of legs. The model's is another one, so joints are always looked up by name.
LEGS = ("FR", "FL", "RR", "RL")
JOINTS = tuple(f"{leg}_{part}_joint" for leg in LEGS for part in ("hip", "thigh", "calf"))
DEFAULT_POSE = np.array([0.0, 0.8, -1.5] * len(LEGS))

_ACTION_SCALE = np.array([0.125, 0.25, 0.25] * len(LEGS))
_TURN_SCALE = 0.25
_JOINT_SPEED_SCALE = 0.05


class WalkingPolicy:
    """The network, with its last action; runs on one thread."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self.reset()

    def reset(self) -> None:
        """Forget the last action."""
        self._last = np.zeros(len(JOINTS))

    def targets(self, turn: Array, gravity: Array, command: Array, position: Array, speed: Array) -> Array:
        """Joint targets (12,) in rad, in the order of `JOINTS`.

        Args:
            turn: angular velocity of the base (3,), in its own frame, rad/s.
            gravity: unit vector of gravity in the base frame (3,).
            command: forward speed, leftward speed (m/s) and turn rate (rad/s).
            position: joint angles (12,) in rad.
            speed: joint velocities (12,) in rad/s.
        """
        joints = (position - DEFAULT_POSE, speed * _JOINT_SPEED_SCALE, self._last)
        observation = np.concatenate((turn * _TURN_SCALE, gravity, command, *joints)).astype(np.float32)[None]
        (action,) = self._session.run(None, {self._input: observation})
        self._last = action[0].astype(np.float64)
        return DEFAULT_POSE + _ACTION_SCALE * self._last


# Measured on a flat floor: the speeds (m/s) and turn rates (rad/s) that the policy reaches, and the commands that
# give them. It walks slower and turns faster than commanded.
_FORWARD_REACHED, _FORWARD_TOLD = (0.0, 0.11, 0.31, 0.53), (0.0, 0.2, 0.4, 0.6)
_TURN_REACHED, _TURN_TOLD = (0.0, 0.34, 0.53, 0.65, 0.80), (0.0, 0.2, 0.4, 0.6, 0.8)


def calibrated(forward: float, turn: float) -> Array:
    """The policy command (3,) for a forward speed (m/s) and a turn rate (rad/s), by the measured table."""
    vx = _through(forward, _FORWARD_REACHED, _FORWARD_TOLD)
    wz = _through(turn, _TURN_REACHED, _TURN_TOLD)
    return np.array([vx, 0.0, wz])


def _through(value: float, reached: tuple[float, ...], commanded: tuple[float, ...]) -> float:
    """Odd, piecewise linear map; beyond the table the last point's difference is kept."""
    size = abs(value)
    beyond = max(0.0, size - reached[-1])
    return float(np.copysign(np.interp(size, reached, commanded) + beyond, value))


class VelocityTrim:
    """Integral controller that keeps the measured velocity at the commanded one.

    The real robot's sport mode does this from its state estimate. Without it the policy drifts sideways and turns
    slowly while it is commanded to walk straight.
    """

    _FILTER_S = 0.25
    # The legs follow a command with this delay, which is not counted as an error.
    _LAG_S = 0.05
    _GAIN = np.array([0.8, 0.8, 1.2])
    _LIMIT = np.array([0.20, 0.20, 0.35])

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all measurements."""
        self._measured = np.zeros(3)
        self._lagging = np.zeros(3)
        self._expected = np.zeros(3)
        self._missing = np.zeros(3)

    def update(self, command: Array, measured: Array, dt: float) -> Array:
        """The policy command (3,) for this control period.

        Args:
            command: wanted forward speed (m/s) and turn rate (rad/s).
            measured: forward and leftward speed (m/s) and turn rate (rad/s), now.
            dt: seconds since the last call.
        """
        wanted = np.array([command[0], 0.0, command[1]])
        self._lagging += dt / (self._LAG_S + dt) * (wanted - self._lagging)
        self._expected += dt / (self._FILTER_S + dt) * (self._lagging - self._expected)
        self._measured += dt / (self._FILTER_S + dt) * (measured - self._measured)
        self._missing += self._GAIN * (self._expected - self._measured) * dt
        self._missing = np.clip(self._missing, -self._LIMIT, self._LIMIT)
        return calibrated(command[0], command[1]) + self._missing
