"""Preparation of prompts with their images: read, tokenise, run the vision encoder, embed, number the positions."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.hf_model import HfModel, Prompt
from spec_decode_ros.models.images import read_images
from spec_decode_ros.models.interfaces import PromptWithImages, try_each

_log = logging.getLogger(__name__)


@torch.inference_mode()
def prepare(model: HfModel, prompt: str, images: Sequence[bytes] = ()) -> Prompt:
    """One prompt with its images. Raises SpecDecodeError."""
    inputs = _image_inputs(model, images)
    return _assemble(model, prompt, inputs, _features(model, inputs), len(images))


def prepare_many(model: HfModel, prompts: Sequence[PromptWithImages]) -> list[Prompt | Exception]:
    """`prepare` for several, the images of all through the vision encoder together where that can be.

    With the encoder of the shipped pair sixteen frames take a tenth less time than one by one on a CPU; what it saves on
    a GPU has not been measured.
    """
    if len(prompts) > 1 and model.images is not None and model.images.joins:
        try:
            return _prepare_joined(model, prompts)
        except Exception:  # the image that is to blame is found when each is prepared alone
            _log.warning(
                "Images could not be prepared together; they are prepared one by one.", exc_info=True
            )
    return try_each(lambda prompt: prepare(model, *prompt), prompts)


@torch.inference_mode()
def _prepare_joined(model: HfModel, prompts: Sequence[PromptWithImages]) -> list[Prompt | Exception]:
    inputs = try_each(lambda images: _image_inputs(model, images), (images for _, images in prompts))
    readable = [each for each in inputs if isinstance(each, dict) and each]
    joined = {name: torch.cat([each[name] for each in readable]) for name in readable[0]} if readable else {}
    features = iter(_features(model, joined))
    prepared: list[Prompt | Exception] = []
    for each, (prompt, images) in zip(inputs, prompts, strict=True):
        if isinstance(each, Exception):
            prepared.append(each)
            continue
        own = [next(features) for _ in images]
        try:
            prepared.append(_assemble(model, prompt, each, own, len(images)))
        except Exception as error:
            prepared.append(error)
    return prepared


def _image_inputs(model: HfModel, images: Sequence[bytes]) -> dict[str, torch.Tensor]:
    """What the vision encoder takes; empty without images."""
    if not images:
        return {}
    if model.images is None:
        raise SpecDecodeError("This model pair takes text only: leave the image away or choose another pair.")
    return model.images.inputs(read_images(images))


def _features(model: HfModel, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Image features, one (tokens, width) for each image."""
    if not inputs:
        return []
    dtype = model.model.dtype
    moved = {
        name: value.to(model.device, dtype if value.is_floating_point() else value.dtype)
        for name, value in inputs.items()
    }
    return model.vision_encoder(**moved)


def _assemble(
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
    else:
        positions, following = torch.arange(len(ids)).unsqueeze(0), len(ids)
        if model.three_dimensional:
            positions = positions.expand(3, 1, -1)
    return Prompt(tuple(ids), embeddings, positions.to(model.device), following)


def _expand(model: HfModel, rendered: str, placeholders: Sequence[str]) -> str:
    """Put each image's placeholders in the place of its one image token."""
    parts = rendered.split(model.text.image_token)
    if len(parts) != len(placeholders) + 1:
        raise SpecDecodeError(
            f"The chat template made room for {len(parts) - 1} images where {len(placeholders)} were sent: this "
            "checkpoint's template does not take that many."
        )
    return "".join(part + image for part, image in zip(parts, [*placeholders, ""], strict=True))


def multimodal_positions(
    ids: Sequence[int], image_token_id: int, grids: Sequence[Sequence[int]], merge: int
) -> tuple[torch.Tensor, int]:
    """Temporal, row and column positions of Qwen2-VL (M-RoPE, arXiv 2409.12191).

    Text tokens count up in all three; an image's tokens spread over its grid, and the text after it goes on behind the
    image's longer side. transformers keeps the resulting offset on the model object, where sessions that share a
    model overwrite each other's; here every prompt keeps its own.

    Args:
        ids: the prompt's token ids, image placeholders expanded.
        grids: (frames, rows, columns) in patches for each image, in order.
        merge: patches along each side that become one token.

    Returns:
        Positions (3, 1, len(ids)) and the position of the first token after the prompt.
    """
    pieces: list[torch.Tensor] = []
    position = index = 0
    remaining = iter(grids)
    while index < len(ids):
        start = index
        if ids[index] == image_token_id:
            frames, rows, columns = next(remaining)
            shape = (frames, rows // merge, columns // merge)
            axes = (torch.arange(length) for length in shape)
            pieces.append(torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1) + position)
            index += shape[0] * shape[1] * shape[2]
            position += max(shape[1], shape[2])
        else:
            while index < len(ids) and ids[index] != image_token_id:
                index += 1
            pieces.append(torch.arange(position, position + index - start).expand(3, -1))
            position += index - start
    positions = torch.cat(pieces, dim=1)
    return positions.unsqueeze(1), int(positions.max()) + 1
