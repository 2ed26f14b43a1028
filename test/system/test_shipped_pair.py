"""The shipped pair through real processes: every method says, token for token, what the target says alone.

``SPEC_DECODE_SCENES=200 pytest test/system`` looks at as many random scenes as the README speaks of.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from round_trips import (
    METHODS,
    Comparisons,
    check_passes_and_round_trips,
    check_same_tokens,
    compare_over_round_trips,
)

from spec_decode_ros.actions.action import format_action, parse_action
from spec_decode_ros.actions.commands import COLOR_WORDS, OBJECT_WORDS, Command, phrase
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.lab.bench.comparison import ComparisonPlan, MethodComparison, Sample, compare
from spec_decode_ros.lab.episodes.expert import decide, visible_objects
from spec_decode_ros.lab.episodes.stage import Stage
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.models.pair_config import load_pair_config
from spec_decode_ros.sim.scene import random_scene
from spec_decode_ros.transport.client import Client

SCENES = int(os.environ.get("SPEC_DECODE_SCENES", "9"))
FIRST_SEED = 7_000_000
SEEDED = Sampling(0.8, top_k=20, top_p=0.95, seed=17)


def samples(count: int) -> Iterator[Sample]:
    """One moment in each of so many random rooms: an instruction, and the action that came before."""
    stage = Stage()
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        rng = np.random.default_rng(seed)
        scene = random_scene(rng)
        stage.lay_out(scene)
        x, y, _ = scene.start
        thing = scene.objects[rng.integers(len(scene.objects))]
        pose = (x, y, math.atan2(thing.y - y, thing.x - x) + rng.normal(0.0, 0.6))
        stage.look(pose)
        command = Command("goto", thing.color, thing.kind)
        if rng.random() < 0.2:
            command = Command("goto", str(rng.choice(list(COLOR_WORDS))), str(rng.choice(list(OBJECT_WORDS))))
        last = (
            decide(command, scene, pose, visible_objects(stage.hits()), None) if rng.random() < 0.7 else None
        )
        jpeg = stage.camera.jpeg(stage.data)
        yield Sample(jpeg, phrase(command, rng), format_action(last) if last else None)


@pytest.fixture(scope="module")
def comparisons() -> Comparisons:
    """Greedily and sampled with a seed."""
    pair = load_pair_config("tiny")

    def decode(
        part: Sequence[Sample], drafter: Drafter, client: Client, sampling: Sampling
    ) -> MethodComparison:
        plan = ComparisonPlan(METHODS, max_tokens=pair.max_tokens, sampling=sampling)
        return compare(part, drafter, client, plan)

    return compare_over_round_trips("tiny", list(samples(SCENES)), (Sampling(), SEEDED), decode)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_method_gives_the_targets_tokens_at_every_round_trip_time(comparisons: Comparisons) -> None:
    check_same_tokens(comparisons, SCENES)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_answer_is_verified_and_an_action(comparisons: Comparisons) -> None:
    for comparison in comparisons[Sampling()]:
        for result in comparison.results["auto"]:
            assert result.verified
            assert result.complete
            parse_action(result.text)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_auto_needs_fewer_passes_and_sync_more_round_trips(comparisons: Comparisons) -> None:
    check_passes_and_round_trips(comparisons[Sampling()])
