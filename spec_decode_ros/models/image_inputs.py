"""Images to the inputs of a vision encoder, for each family of checkpoints.

The checkpoints' own processors need packages that have nothing to do with still images (a video reader, a library
that spells out numbers), and their results depend on which image backend is installed. Here only the image processor
is taken from the checkpoint, always on its Pillow backend, so that robot and cloud see the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.images import ImageError

_QWEN = ("qwen2_vl", "qwen2_5_vl")

# Arguments of one call of a processor, which are given here.
_OF_A_CALL = frozenset(
    {
        *("return_tensors", "return_row_col_info", "device"),
        *("data_format", "input_data_format", "disable_grouping", "do_convert_rgb"),
    }
)
# What cutting patches out of 8-bit pixels leaves out.
_NOT_WITH_QWEN = frozenset(
    {
        *("do_resize", "default_to_square", "do_center_crop", "crop_size", "do_pad", "pad_size"),
        "image_seq_length",
    }
)


def not_obeyed(model_type: str) -> frozenset[str]:
    """Settings of an image processor that have no effect here with models of this type."""
    return _OF_A_CALL | _NOT_WITH_QWEN if model_type in _QWEN else _OF_A_CALL


class ImageFamily(Protocol):
    """How one family of models takes images.

    `joins`: the `inputs` of several prompts can be concatenated (in their first dimension).
    """

    joins: bool

    def inputs(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Arguments of the model's `get_image_features`."""
        ...

    def placeholders(self, inputs: Mapping[str, torch.Tensor], features: Sequence[torch.Tensor]) -> list[str]:
        """For each image, the text that takes the place of the single image token of the chat template."""
        ...


class LlavaImages:
    """LLaVA 1.5 and similar ones: one fixed size, one run of placeholders an image."""

    joins = True

    def __init__(self, processor: Any, image_token: str) -> None:
        self._processor = processor
        self._image_token = image_token

    def inputs(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        return {"pixel_values": self._processor(images=list(images), return_tensors="pt")["pixel_values"]}

    def placeholders(self, inputs: Mapping[str, torch.Tensor], features: Sequence[torch.Tensor]) -> list[str]:
        return [self._image_token * len(feature) for feature in features]


class QwenImages(LlavaImages):
    """Qwen2-VL and Qwen2.5-VL: any size, resized to whole patches, one run of placeholders an image.

    The patches are cut from 8-bit pixels and then looked up in a table that the checkpoint's own processor filled, which
    gives the same bits as the processor in a fraction of its time.
    """

    def __init__(self, processor: Any, image_token: str) -> None:
        super().__init__(processor, image_token)
        self._patch = int(processor.patch_size)
        self._merge = int(processor.merge_size)
        self._temporal = int(processor.temporal_patch_size)
        size = processor.size
        if not (size["shortest_edge"] and size["longest_edge"]):
            raise SpecDecodeError(
                "the size of a Qwen image processor has shortest_edge and longest_edge, both in pixels of the area"
            )
        self._bounds = (int(size["shortest_edge"]), int(size["longest_edge"]))
        self._resample = Image.Resampling(int(processor.resample))
        self._levels = self._level_table()

    def _level_table(self) -> np.ndarray:
        """(3 * 256) float32: what the processor makes of each 8-bit level of each channel."""
        factor = self._patch * self._merge
        ramp = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, axis=2)
        height, width = factor, -(-256 // factor) * factor
        image = np.zeros((height, width, 3), np.uint8)
        image[:1, :256] = ramp
        processed = self._processor(images=[Image.fromarray(image)], do_resize=False, return_tensors="np")
        grid = (height // factor, width // factor, self._merge, self._merge)
        pixels = processed["pixel_values"].reshape(*grid, 3, self._temporal, self._patch, self._patch)
        # (grid rows, grid columns, merge rows, merge columns, channel, y, x) back to (channel, height, width)
        image_again = pixels[:, :, :, :, :, 0].transpose(4, 0, 2, 5, 1, 3, 6).reshape(3, height, width)
        return np.ascontiguousarray(image_again[:, 0, :256], dtype=np.float32).reshape(-1)

    def inputs(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        patch, merge = self._patch, self._merge
        patches, grids = [], []
        for image in images:
            if max(image.size) > 200 * min(image.size):
                raise ImageError(
                    f"An image of {image.width} x {image.height} is too narrow: send a camera frame."
                )
            height, width = smart_resize(image.height, image.width, patch * merge, *self._bounds)
            if (width, height) != image.size:
                image = image.resize((width, height), self._resample)
            rows, columns = height // patch, width // patch
            pixels = np.asarray(image).astype(np.intp) + np.array([0, 256, 512], np.intp)
            grid = (rows // merge, merge, patch, columns // merge, merge, patch, 3)
            cut = pixels.reshape(grid).transpose(0, 3, 1, 4, 6, 2, 5)
            values = self._levels.take(cut).reshape(rows * columns, 3, 1, patch * patch)
            patches.append(values.repeat(self._temporal, axis=2).reshape(rows * columns, -1))
            grids.append((1, rows, columns))
        return {
            "pixel_values": torch.from_numpy(np.concatenate(patches)),
            "image_grid_thw": torch.tensor(grids, dtype=torch.long),
        }


class TiledImages:
    """SmolVLM and Idefics3: the image is cut into tiles, followed by the whole image made small."""

    joins = False  # their tiles are counted in the second dimension

    def __init__(
        self,
        processor: Any,
        tokenizer: PreTrainedTokenizerBase,
        image_token: str,
        per_tile: int,
    ) -> None:
        self._processor = processor
        self._around = getattr(tokenizer, "fake_image_token", None) or "<fake_token_around_image>"
        self._whole = getattr(tokenizer, "global_image_token", None) or "<global-img>"
        self._tile = image_token * per_tile
        self._tiling: list[tuple[int, int]] = []

    def inputs(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        # One nested list is one sample with all its images: their tiles come out in one row.
        made = self._processor(images=[list(images)], return_tensors="pt", return_row_col_info=True)
        self._tiling = list(zip(made["rows"][0], made["cols"][0], strict=True))
        return {name: made[name] for name in ("pixel_values", "pixel_attention_mask") if name in made}

    def placeholders(self, inputs: Mapping[str, torch.Tensor], features: Sequence[torch.Tensor]) -> list[str]:
        return [self._one(rows, columns) for rows, columns in self._tiling]

    def _one(self, rows: int, columns: int) -> str:
        whole = f"{self._around}{self._whole}{self._tile}{self._around}"
        if not rows or not columns:
            return whole
        lines = (
            "".join(f"{self._around}<row_{row}_col_{column}>{self._tile}" for column in range(1, columns + 1))
            + "\n"
            for row in range(1, rows + 1)
        )
        return "".join(lines) + "\n" + whole


def image_family(
    config: PreTrainedConfig,
    processor: Any,
    tokenizer: PreTrainedTokenizerBase,
    image_token: str,
) -> ImageFamily:
    """The family that a checkpoint's configuration names. Raises SpecDecodeError for one that is not known."""
    kind = config.model_type
    if kind in _QWEN:
        return QwenImages(processor, image_token)
    if kind == "llava":
        return LlavaImages(processor, image_token)
    if kind in ("smolvlm", "idefics3"):
        vision: Any = config.vision_config
        side = vision.image_size // vision.patch_size
        return TiledImages(processor, tokenizer, image_token, side * side // config.scale_factor**2)
    raise SpecDecodeError(
        f"Models of type {kind!r} are not supported with images: choose a Qwen2-VL, Qwen2.5-VL, SmolVLM, Idefics3 or "
        "LLaVA checkpoint, or a text model."
    )
