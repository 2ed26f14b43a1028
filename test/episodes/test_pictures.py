from __future__ import annotations

import numpy as np
import pytest

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.episodes.pictures import View, picture
from spec_decode_ros.sim.scene import Scene, SceneObject
from spec_decode_ros.sim.simulation import Simulation

SCENE = Scene(objects=(SceneObject("red", "box", 2.8, 0.0),))


def snapshot(view: View, trail: bool) -> np.ndarray:
    with Simulation(SCENE) as simulation:
        simulation.set_velocity(0.6, 0.0)
        simulation.step(3.0)
        try:
            return picture(simulation, view, width=640, height=480, trail=trail)
        except SpecDecodeError as error:
            pytest.skip(f"pictures from outside can't be made here: {error}")


@pytest.mark.parametrize("view", ["behind", "above"])
def test_shows_the_box_and_the_trail(view: View) -> None:
    plain, with_trail = snapshot(view, False).astype(int), snapshot(view, True).astype(int)
    assert plain.shape == (480, 640, 3)
    red = (plain[..., 0] > 100) & (plain[..., 0] > 2 * plain[..., 1]) & (plain[..., 0] > 2 * plain[..., 2])
    assert red.sum() > 50
    blue = (with_trail[..., 2] > 150) & (with_trail[..., 2] > 2 * with_trail[..., 0])
    assert blue.sum() > 10
    assert not ((plain[..., 2] > 150) & (plain[..., 2] > 2 * plain[..., 0])).any()
