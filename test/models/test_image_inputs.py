"""Images: the same bits as the checkpoint's own processor, the same places in the prompt, readable refusals."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tiny_checkpoints
import torch
from families import Family
from PIL import Image
from transformers import AutoImageProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

from spec_decode_ros.models.image_inputs import QwenImages, TiledImages
from spec_decode_ros.models.images import ImageError, read_images
from spec_decode_ros.models.prompts import multimodal_positions, prepare

SIZES = [(192, 96), (384, 192), (28, 28), (84, 56), (97, 211), (640, 480), (33, 500)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("patch", [14, 12])
def test_qwen_pixels_are_bit_identical_to_the_processor(size: tuple[int, int], patch: int) -> None:
    processor = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=384 * 192, patch_size=patch)
    pixels = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    images = [Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())]
    expected = processor(images=images, return_tensors="pt")
    made = QwenImages(processor, "<|image_pad|>").inputs(images)
    assert torch.equal(made["pixel_values"], expected["pixel_values"])
    assert torch.equal(made["image_grid_thw"], expected["image_grid_thw"])


def test_other_normalisations_are_taken_from_the_checkpoint() -> None:
    processor = Qwen2VLImageProcessorPil(
        min_pixels=28 * 28,
        max_pixels=90 * 90,
        image_mean=[0.1, 0.2, 0.3],
        image_std=[0.5, 0.6, 0.7],
        merge_size=1,
    )
    image = read_images([tiny_checkpoints.jpeg(4, 98, 70)])
    expected = processor(images=image, return_tensors="pt")["pixel_values"]
    assert torch.equal(QwenImages(processor, "x").inputs(image)["pixel_values"], expected)


@pytest.mark.parametrize("tiling", [(0, 0), (1, 1), (2, 3)])
def test_tile_text_is_that_of_the_processor(tiling: tuple[int, int]) -> None:
    images = TiledImages(None, object(), "<image>", 5)
    images._tiling = [tiling]
    expected = get_image_prompt_string(*tiling, 5, "<fake_token_around_image>", "<image>", "<global-img>")
    assert images.placeholders({}, []) == [expected]


def test_positions_are_those_of_the_model(qwen: Family) -> None:
    model = qwen.verifier.model
    for pictures in ([(84, 56)], [(56, 112), (28, 28)], [(168, 84), (56, 56), (84, 84)]):
        images = [tiny_checkpoints.jpeg(i, *size) for i, size in enumerate(pictures)]
        prompt = prepare(model, "go to the red chair", images)
        ids = torch.tensor([prompt.ids])
        grid = model.images.inputs(read_images(images))["image_grid_thw"]
        expected, delta = model.model.model.get_rope_index(
            ids, (ids == model.image_token_id).int(), image_grid_thw=grid, attention_mask=torch.ones_like(ids)
        )
        assert torch.equal(prompt.positions, expected)
        assert prompt.next_position == len(prompt.ids) + int(delta)


def test_two_images_side_by_side_have_their_own_grids() -> None:
    positions, following = multimodal_positions([9, 9, 9, 9, 9, 1], 9, [(1, 2, 4), (1, 2, 6)], 2)
    assert positions[:, 0].T.tolist() == [[0, 0, 0], [0, 0, 1], [2, 2, 2], [2, 2, 3], [2, 2, 4], [5, 5, 5]]
    assert following == 6


def _png(image: Image.Image) -> bytes:
    with io.BytesIO() as out:
        image.save(out, "PNG")
        return out.getvalue()


def test_grey_and_transparent_images_become_colour(qwen: Family) -> None:
    for mode in ("L", "RGBA", "P"):
        assert read_images([_png(Image.new(mode, (60, 60)))])[0].mode == "RGB"


@pytest.mark.parametrize(
    "data", [b"", b"not an image", tiny_checkpoints.jpeg(1)[:200], b"GIF89a" + bytes(40)]
)
def test_what_is_not_an_image(qwen: Family, data: bytes) -> None:
    with pytest.raises(ImageError, match="Image 2 of 2 is not a readable JPEG or PNG"):
        qwen.verifier.prepare("go", [tiny_checkpoints.jpeg(1), data])


def test_a_sliver_is_refused(qwen: Family) -> None:
    with pytest.raises(ImageError, match="too narrow"):
        qwen.verifier.prepare("go", [_png(Image.new("RGB", (900, 2)))])


def test_the_pillow_backend_is_asked_for(checkpoints) -> None:
    processor = AutoImageProcessor.from_pretrained(checkpoints("qwen2_vl"), backend="pil")
    assert type(processor).__name__.endswith("Pil")
