"""The batched passes of training compute what transformers' own Qwen2-VL computes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2VLForConditionalGeneration

from spec_decode_ros.lab.training.batches import make_batch
from spec_decode_ros.lab.training.dataset import Dataset
from spec_decode_ros.lab.training.frames import QUESTIONS
from spec_decode_ros.lab.training.network import (
    FIRST_TEXT_POSITION,
    PREFIX,
    VISUAL_TOKENS,
    CellHead,
    build_model,
    encode_frames,
    image_positions,
    patches,
    text_hidden_states,
)
from spec_decode_ros.lab.training.processor import build_image_processor, build_tokenizer
from spec_decode_ros.lab.training.recipe import DRAFT, TARGET, ModelShape

GRID_THW = torch.tensor([[1, 8, 16]])


def with_picture(model: Qwen2VLForConditionalGeneration, text: list[int]) -> torch.Tensor:
    config = model.config
    picture = [config.image_token_id] * VISUAL_TOKENS
    return torch.tensor([[config.vision_start_token_id, *picture, config.vision_end_token_id, *text]])


def test_patches_are_the_image_processors_bit_for_bit(data: Dataset) -> None:
    frames = np.array(data.frames[:4])
    processor = build_image_processor()
    for frame, mine in zip(frames, patches(torch.from_numpy(frames)), strict=True):
        theirs = processor(Image.fromarray(frame), return_tensors="np")
        assert theirs["image_grid_thw"].tolist() == GRID_THW.tolist()
        assert np.array_equal(theirs["pixel_values"], mine.numpy())


def test_see_is_the_vision_tower(model: Qwen2VLForConditionalGeneration, data: Dataset) -> None:
    frames = torch.from_numpy(np.array(data.frames[:3]))
    with torch.no_grad():
        mine = encode_frames(model, frames)
        for frame, visual in zip(frames, mine, strict=True):
            theirs = model.model.visual(patches(frame[None])[0], grid_thw=GRID_THW).pooler_output
            assert torch.allclose(theirs, visual, atol=1e-4, rtol=1e-4)
    assert mine.std() > 0.1


def test_positions_are_by_qwen2_vls_rule(model: Qwen2VLForConditionalGeneration) -> None:
    ids = with_picture(model, [9, 10, 11])
    kinds = (ids == model.config.image_token_id).int()
    theirs, _ = model.model.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=GRID_THW)
    assert torch.equal(image_positions(), theirs[:, 0, :PREFIX])
    assert theirs[:, 0, PREFIX:].tolist() == [[FIRST_TEXT_POSITION + i for i in range(3)]] * 3


@pytest.mark.parametrize("mirror", [False, True])
def test_packed_questions_get_the_logits_that_each_gets_alone(
    model: Qwen2VLForConditionalGeneration, data: Dataset, mirror: bool
) -> None:
    batch = make_batch(data, np.array([3, 4]), np.array([mirror, not mirror]))
    with torch.no_grad():
        hidden = text_hidden_states(
            model, encode_frames(model, batch.frames), batch.tokens, batch.question, batch.position
        )
        packed = model.lm_head(hidden)
        for row in range(2):
            pixels = patches(batch.frames[row : row + 1])[0]
            for question in range(QUESTIONS):
                mine = batch.question[row] == question
                ids = with_picture(model, batch.tokens[row][mine].tolist())
                alone = model(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    mm_token_type_ids=(ids == model.config.image_token_id).int(),
                    pixel_values=pixels,
                    image_grid_thw=GRID_THW,
                ).logits[0, PREFIX:]
                assert torch.allclose(alone, packed[row][mine], atol=1e-3, rtol=1e-3)
                assert alone.std() > 1e-2


@pytest.mark.parametrize("shape", [TARGET, DRAFT], ids=["target", "draft"])
def test_shapes_of_the_pair(shape: ModelShape) -> None:
    one, other = build_model(**vars(shape), seed=3), build_model(**vars(shape), seed=3)
    tokenizer = build_tokenizer()
    assert one.config.text_config.vocab_size == len(tokenizer)
    assert one.generation_config.eos_token_id == tokenizer.eos_token_id
    assert one.lm_head.weight is one.model.language_model.embed_tokens.weight
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    another = build_model(**vars(shape), seed=4)
    assert not torch.equal(one.lm_head.weight, another.lm_head.weight)
    assert all(p.isfinite().all() for p in one.parameters())


def test_the_draft_is_much_smaller() -> None:
    sizes = [sum(p.numel() for p in build_model(**vars(s), seed=0).parameters()) for s in (DRAFT, TARGET)]
    assert 3 * sizes[0] < sizes[1] < 10_000_000


@pytest.mark.parametrize("field", ["layers", "width", "vision_layers", "vision_width"])
def test_shapes_refuse_nonsense(field: str) -> None:
    with pytest.raises(ValueError, match="multiple of 64"):
        ModelShape(**{**vars(DRAFT), field: 0})
    if "width" in field:
        with pytest.raises(ValueError, match="multiple of 64"):
            ModelShape(**{**vars(DRAFT), field: 100})


def test_what_stands_in_a_cell_can_be_learned(data: Dataset) -> None:
    """A few steps on one batch, with everything else fixed, lower the loss."""
    torch.manual_seed(0)
    batch = make_batch(data, np.arange(8), np.zeros(8, bool))
    head = CellHead(DRAFT.width)
    visual = torch.randn(8, VISUAL_TOKENS, DRAFT.width, requires_grad=True)
    optimizer = torch.optim.Adam([visual, *head.parameters()], lr=0.05)
    losses = []
    for _ in range(40):
        loss = head.loss(visual, batch.presence, batch.place)
        optimizer.zero_grad()
        loss.backward()
        assert visual.grad is not None
        assert visual.grad.isfinite().all(), "cells without an object must not leak their NaN"
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_a_question_cannot_see_another(model: Qwen2VLForConditionalGeneration, data: Dataset) -> None:
    batch = make_batch(data, np.array([0]), np.array([False]))
    tokens = copy.deepcopy(batch.tokens)
    tokens[batch.question == 1] = 20
    with torch.no_grad():
        visual = encode_frames(model, batch.frames)
        one = text_hidden_states(model, visual, batch.tokens, batch.question, batch.position)
        other = text_hidden_states(model, visual, tokens, batch.question, batch.position)
    same = (one - other).abs().amax(-1) < 1e-5
    assert same[batch.question != 1].all()
    assert not same[batch.question == 1].any()
