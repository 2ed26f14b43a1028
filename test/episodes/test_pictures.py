from __future__ import annotations

import numpy as np
import pytest

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.episodes.pictures import picture
from spec_decode_ros.sim.scene import Scene, SceneObject
from spec_decode_ros.sim.simulation import Simulation


def snapshot(scene: Scene) -> np.ndarray:
    with Simulation(scene) as simulation:
        simulation.step(0.1)
        try:
            return picture(simulation).astype(int)
        except SpecDecodeError as error:
            pytest.skip(f"pictures from outside can't be made here: {error}")


def test_shows_the_box_in_front_of_the_robot() -> None:
    def red(image: np.ndarray) -> np.ndarray:
        return (
            (image[..., 0] > 100) & (image[..., 0] > 2 * image[..., 1]) & (image[..., 0] > 2 * image[..., 2])
        )

    image = snapshot(Scene(objects=(SceneObject("red", "box", 2.8, 0.0),)))
    assert image.shape == (540, 960, 3)
    assert red(image).sum() > 50
    assert not red(snapshot(Scene(objects=()))).any()
