"""Models of published shapes with random weights, made on the device where they run, as fast as the real ones.

Each is an ordinary `HfModel`, so that the code that drafts and verifies is what is timed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, Qwen2VLForConditionalGeneration, Qwen3ForCausalLM
from transformers.initialization import no_init_weights

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.profile.shapes import PublishedShape
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.image_inputs import QwenImages
from spec_decode_ros.models.text import CheckpointText
from spec_decode_ros.models.vision_encoder import quicken_vision

_CLASSES: dict[str, Any] = {
    "llama": LlamaForCausalLM,
    "qwen3": Qwen3ForCausalLM,
    "qwen2_vl": Qwen2VLForConditionalGeneration,
}
_IMAGE = "<image>"
_LARGEST_WEIGHT = 0.03
_PATTERN = 1 << 20
_SLACK = 1.15
"""Memory needed, over that of the weights, for the cache, activations and the allocator."""


class NumberedText(CheckpointText):
    """Text side of a model without a tokenizer: words are token ids, and no answer ends by itself."""

    def __init__(self, size: int, image_token_id: int | None) -> None:
        self.size = size
        self.eos_ids = frozenset()
        self.image_token = f"{_IMAGE} " if image_token_id is not None else None
        self._image_token_id = image_token_id

    @property
    def vocabulary(self) -> str:  # type: ignore[override]
        return f"numbers below {self.size}"

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(str(token) for token in tokens)

    def render(self, prompt: str, image_count: int) -> str:
        return (self.image_token or "") * image_count + prompt

    def encode_prompt(self, rendered: str) -> list[int]:
        words = rendered.split()
        return [self._image_token_id or 0 if word == _IMAGE else int(word) for word in words]


def parameter_count(shape: PublishedShape, layers: int | None = None) -> int:
    """Number of weights of a shape, with its layers cut to `layers`; takes no memory."""
    empty = _empty(shape, layers, torch.device("meta"), torch.float32)
    return sum(weight.numel() for weight in empty.parameters())


def make_model(
    shape: PublishedShape, device: torch.device, dtype: torch.dtype, layers: int | None = None
) -> HfModel:
    """A model with random weights; `layers` cuts the decoder and the vision encoder.

    Raises SpecDecodeError if it does not fit into the free memory.
    """
    require_memory(shape, device, dtype, layers)
    model = _empty(shape, layers, device, dtype)
    _fill(model)
    quicken_vision(model)
    text = NumberedText(shape.vocabulary, getattr(model.config, "image_token_id", None))
    if not shape.tower:
        return HfModel(model, text, None)
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    assert text.image_token
    return HfModel(model, text, QwenImages(Qwen2VLImageProcessorPil(), text.image_token))


def free_bytes(device: torch.device) -> int:
    """Free memory of a GPU, or of this machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # only Linux tells what could be freed
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def require_memory(
    shape: PublishedShape, device: torch.device, dtype: torch.dtype, layers: int | None
) -> None:
    """Raise SpecDecodeError unless the model fits into the free memory."""
    needed = _SLACK * parameter_count(shape, layers) * dtype.itemsize
    free = free_bytes(device)
    if needed > free:
        raise SpecDecodeError(
            f"{shape.name} needs {needed / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')} and {free / 1e9:.1f} GB are "
            f"free on {device}: measure a part of its layers with --layers, take --dtype bf16 or a smaller shape, or free "
            "memory."
        )


def _empty(shape: PublishedShape, layers: int | None, device: torch.device, dtype: torch.dtype) -> Any:
    with device, no_init_weights():
        model = _CLASSES[shape.family]._from_config(
            shape.config(layers), dtype=dtype, attn_implementation="sdpa"
        )
    model.tie_weights()
    return model


@torch.no_grad()
def _fill(model: Any) -> None:
    """Norms of one, biases of zero, and elsewhere the same random pattern repeated, which is quick to make."""
    some = next(model.parameters())
    pattern = torch.empty(_PATTERN, device=some.device, dtype=some.dtype)
    pattern.uniform_(-_LARGEST_WEIGHT, _LARGEST_WEIGHT, generator=torch.Generator(some.device).manual_seed(0))
    for name, weight in model.named_parameters():
        if weight.dim() < 2:
            weight.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        for piece in weight.view(-1).split(_PATTERN):
            piece.copy_(pattern[: len(piece)])
