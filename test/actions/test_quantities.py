"""Numbers as people write them: as the shipped pair knows them, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from spec_decode_ros.actions.commands import phrase
from spec_decode_ros.actions.prompt import build_prompt, clean_instruction
from spec_decode_ros.actions.quantities import as_trained
from spec_decode_ros.lab.training.frames import other_command


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("walk forward 2,5 meters", "walk forward 2.5 meters"),
        ("walk forward 2.50 meters", "walk forward 2.5 meters"),
        ("walk forward 2.5m", "walk forward 2.5 m"),
        ("walk forward 2½ metres", "walk forward 2.5 metres"),
        ("walk ½ m back", "walk 0.5 m back"),
        ("walk forward 1/2 metre", "walk forward 0.5 metre"),
        ("walk forward 1 1/2 metres", "walk forward 1.5 metres"),
        ("walk forward two and a half metres", "walk forward 2.5 metres"),
        ("walk forward 2 and a half metres", "walk forward 2.5 metres"),
        ("walk forward half a metre", "walk forward 0.5 metre"),
        ("walk forward two point five metres", "walk forward 2.5 metres"),
        ("walk forward a metre", "walk forward 1 metre"),
        ("walk forward a couple of metres", "walk forward 2 metres"),
        ("walk forward 50 cm", "walk forward 0.5 metres"),
        ("walk forward ２ ｍ", "walk forward 2 m"),
        ("walk forward ٢ m", "walk forward 2 m"),
        ("walk forward +2 metres.", "walk forward 2 metres"),
        ("turn left ninety degrees", "turn left 90 degrees"),
        ("turn left forty-five degrees", "turn left 45 degrees"),
        ("turn a hundred and eighty degrees right", "turn 180 degrees right"),
        ("turn left one hundred eighty degrees", "turn left 180 degrees"),
        ("turn left 90°", "turn left 90 degrees"),
        ("turn left 90deg", "turn left 90 degrees"),
        ("make a 90-degree turn to the left", "make a 90 degree turn to the left"),
        ("turn left 90", "turn left 90 degrees"),
        ("turn left ninety", "turn left 90 degrees"),
        ("turn left 47 degrees", "turn left 45 degrees"),
    ],
)
def test_numbers_become_those_that_the_pair_knows(said, read):
    assert as_trained(clean_instruction(said)) == read
    assert as_trained(read) == read
    assert build_prompt(said, None) == f"{read} | last none"


@pytest.mark.parametrize(
    "said",
    [
        "walk forward 12 meters",
        "walk forward 0 metres",
        "walk forward 0,1 m",
        "walk forward 1,000 metres",
        "walk forward 2.3 metres",
        "turn left -90 degrees",
        "turn −90 degrees",
        "turn minus ninety degrees",
        "turn left negative 90 degrees",
        "turn 720 degrees",
        "turn left 3 degrees",
        "turn left 0 degrees",
        "turn left 1e2 degrees",
        "turn left 90.5.2 degrees",
        "walk forward 2-3 metres",
        "walk forward 1/0 metres",
        "walk forward 5 feet",
        "walk forward two kilometres",
        "walk forward twelve metres",
        "walk forward 2",
        "walk forward two",
        "turn left for 5 seconds",
        "turn left 2 radians",
        "walk forward 10 steps",
        "walk forward two hundred metres",
        "walk forward 99999999999999999999999999999999999999 metres",
        "walk forward ① kilometre",
    ],
)
def test_other_numbers_are_not_understood(said):
    assert as_trained(clean_instruction(said)) is None


def test_no_sentence_of_the_training_is_changed():
    rng = np.random.default_rng(5)
    for _ in range(4000):
        said = phrase(other_command(rng), rng)
        assert as_trained(said) == said


@pytest.mark.parametrize(
    "said", ["go to the red one", "make a quarter turn", "take a step back", "go to a box"]
)
def test_words_that_only_look_like_numbers_stay(said):
    assert as_trained(said) == said


def test_a_model_that_knows_language_hears_the_words_as_they_are():
    assert "Instruction: walk forward 12,5 meters\n" in build_prompt(
        "walk forward 12,5 meters", None, "instructed"
    )
