"""Towers that are run with less ado see what transformers' own see."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import Family, pair_of
from PIL import Image

from spec_decode_ros.models.images import read_images
from spec_decode_ros.models.pair import load_verifier
from spec_decode_ros.models.vision_encoder import CpuVisionEncoder, vision_encoder_of


def frame(width: int, height: int, seed: int) -> bytes:
    chance = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (height, width, 3), generator=chance, dtype=torch.uint8)
    with io.BytesIO() as out:
        Image.fromarray(pixels.numpy()).save(out, "PNG")
        return out.getvalue()


@pytest.mark.parametrize(
    "sizes",
    [[(84, 56)], [(56, 140)], [(84, 56)] * 3, [(84, 56), (56, 84)]],
    ids=["one", "upright", "three alike", "two sizes"],
)
def test_it_sees_what_transformers_see(qwen: Family, sizes: list[tuple[int, int]]) -> None:
    model = qwen.verifier.model
    assert isinstance(model.vision_encoder, CpuVisionEncoder)
    assert model.images is not None
    pictures = read_images([frame(*size, seed) for seed, size in enumerate(sizes)])
    inputs = model.images.inputs(pictures)
    with torch.inference_mode():
        expected = model.model.get_image_features(**inputs, return_dict=True).pooler_output
        found = model.vision_encoder(**inputs)
    assert len(found) == len(expected) == len(sizes)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_other_towers_see_as_they_are(
    qwen: Family, checkpoints: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    smolvlm = load_verifier(pair_of(checkpoints("smolvlm")))
    assert not isinstance(smolvlm.model.vision_encoder, CpuVisionEncoder)
    model = qwen.verifier.model.model
    assert isinstance(vision_encoder_of(model), CpuVisionEncoder)
    monkeypatch.setattr(model.model.visual.config, "_attn_implementation", "eager")
    assert not isinstance(vision_encoder_of(model), CpuVisionEncoder)
