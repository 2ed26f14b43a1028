"""Prompts with their images, ready for a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.images import read_images
from spec_decode_ros.models.positions import multimodal_positions

if TYPE_CHECKING:
    from spec_decode_ros.models.hf_model import HfModel


@dataclass(frozen=True)
class Prompt:
    """A prompt that is ready for the decoder.

    Attributes:
        ids: token ids, image placeholders expanded.
        embeddings: (1, len(ids), width), image features in their places.
        positions: (1, len(ids)), or (3, 1, len(ids)) for models with three-dimensional positions.
        next_position: position of the first answer token.
    """

    ids: tuple[int, ...]
    embeddings: torch.Tensor
    positions: torch.Tensor
    next_position: int


@torch.inference_mode()
def prepare(model: HfModel, prompt: str, images: Sequence[bytes] = ()) -> Prompt:
    """Read the images, run the vision tower, tokenise and embed. Raises SpecDecodeError."""
    inputs = _inputs(model, images)
    return _put_together(model, prompt, inputs, _features(model, inputs), len(images))


@torch.inference_mode()
def prepare_many(model: HfModel, prompts: Sequence[tuple[str, Sequence[bytes]]]) -> list[Prompt | Exception]:
    """`prepare` for several, the images of all through the vision tower together; in the place of a failure, why.

    For a model whose `images` `join`. With the tower of the shipped pair sixteen frames take a tenth less time than one
    by one on a CPU; what it saves on a GPU has not been measured.
    """
    inputs: list[dict[str, torch.Tensor] | Exception] = []
    for _, images in prompts:
        try:
            inputs.append(_inputs(model, images))
        except Exception as error:  # each session hears of its own failure
            inputs.append(error)
    readable = [each for each in inputs if isinstance(each, dict) and each]
    joined = {name: torch.cat([each[name] for each in readable]) for name in readable[0]} if readable else {}
    features = _features(model, joined)
    prepared: list[Prompt | Exception] = []
    start = 0
    for each, (prompt, images) in zip(inputs, prompts, strict=True):
        if isinstance(each, Exception):
            prepared.append(each)
            continue
        end = start + len(images)
        try:
            prepared.append(_put_together(model, prompt, each, features[start:end], len(images)))
        except Exception as error:
            prepared.append(error)
        start = end
    return prepared


def _inputs(model: HfModel, images: Sequence[bytes]) -> dict[str, torch.Tensor]:
    """What the vision tower takes; nothing without images."""
    if not images:
        return {}
    if model.images is None:
        raise SpecDecodeError("This model pair takes text only: leave the image away or choose another pair.")
    return model.images.inputs(read_images(images))


def _put_together(
    model: HfModel,
    prompt: str,
    inputs: dict[str, torch.Tensor],
    features: Sequence[torch.Tensor],
    count: int,
) -> Prompt:
    """The prompt's text with its `count` images, of which `inputs` and `features` (tokens, width) are given."""
    rendered = model.text.render(prompt, count)
    if model.images is not None and count:
        rendered = _expand(model, rendered, model.images.placeholders(inputs, features))
    ids = model.text.encode_prompt(rendered)
    if not ids:
        raise SpecDecodeError("The prompt is empty: give an instruction.")
    row = torch.tensor([ids], device=model.device)
    embeddings = model.embedding(row)
    if features:
        places = row[0] == model.image_token_id
        flat = torch.cat(list(features)).to(embeddings)
        if int(places.sum()) != len(flat):
            raise SpecDecodeError(
                f"The prompt has {int(places.sum())} places for {len(flat)} image tokens: the chat template and "
                "the image processor of this checkpoint do not fit together."
            )
        embeddings[0, places] = flat
    if model.three_dimensional and features:
        merge = model.model.config.vision_config.spatial_merge_size
        positions, following = multimodal_positions(
            ids, model.image_token_id, inputs["image_grid_thw"].tolist(), merge
        )
        positions = positions.to(model.device)
    else:
        positions, following = _plain_positions(model, len(ids)), len(ids)
    return Prompt(tuple(ids), embeddings, positions, following)


def _features(model: HfModel, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Image features, one (tokens, width) for each image."""
    if not inputs:
        return []
    moved = {
        name: value.to(model.device, model.model.dtype)
        if value.is_floating_point()
        else value.to(model.device)
        for name, value in inputs.items()
    }
    return model.see(**moved)


def _expand(model: HfModel, rendered: str, placeholders: Sequence[str]) -> str:
    """Put each image's placeholders in the place of its one image token."""
    parts = rendered.split(model.text.image_token)
    if len(parts) != len(placeholders) + 1:
        raise SpecDecodeError(
            f"The chat template made room for {len(parts) - 1} images where {len(placeholders)} were sent: this "
            "checkpoint's template does not take that many."
        )
    return "".join(part + image for part, image in zip(parts, [*placeholders, ""], strict=True))


def _plain_positions(model: HfModel, count: int) -> torch.Tensor:
    """Positions from 0, in the shape that the decoder takes."""
    positions = torch.arange(count, device=model.device).unsqueeze(0)
    return positions.expand(3, 1, -1) if model.three_dimensional else positions
