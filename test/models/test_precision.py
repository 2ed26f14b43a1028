"""Flips: none in float32; in half precision only at near ties."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_checkpoints
from families import Family

from spec_decode_ros.models.pair import ModelConfig, PairConfig, load_verifier
from spec_decode_ros.models.precision import Flip, find_flips

PROMPTS = ["go to the red chair", "find the blue box", "turn left please", "walk around the table slowly"]


def test_no_flips_in_float32(family: Family) -> None:
    for prompt in PROMPTS:
        compared, flips = find_flips(family.verifier, prompt, family.images(), 24)
        assert compared > 1
        assert flips == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_flips_in_half_precision_are_near_ties(checkpoints: Callable[[str], Path], dtype: str) -> None:
    side = ModelConfig(location=str(checkpoints("qwen2_vl")), device="cpu", dtype=dtype)
    verifier = load_verifier(PairConfig(name="x", draft=side, target=side))
    compared = 0
    for seed, prompt in enumerate(PROMPTS * 3):
        count, flips = find_flips(verifier, prompt, [tiny_checkpoints.jpeg(seed)], 24)
        compared += count
        assert all(0 <= flip.gap < 0.2 for flip in flips)  # logits here spread over several units
    assert compared > 100


def test_a_flip_is_found(qwen: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    model = qwen.verifier.model
    run = type(model).run

    def uneven(self, addition, *rest):
        logits = run(self, addition, *rest)
        if addition.keep > 1:
            logits = logits.clone()
            logits[2, 7] = 1e3
        return logits

    monkeypatch.setattr(type(model), "run", uneven)
    compared, flips = find_flips(qwen.verifier, PROMPTS[0], qwen.images(), 8)
    assert compared == 8
    assert [(flip.position, flip.together) for flip in flips] == [(2, 7)]
    assert isinstance(flips[0], Flip)
    assert flips[0].gap > 0
