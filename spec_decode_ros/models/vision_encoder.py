"""Vision encoders: preprocessed images to features, faster than transformers for common ones on a CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from spec_decode_ros.models.onednn import product_of

VisionEncoder = Callable[..., list[torch.Tensor]]
"""The arguments of the model's `get_image_features` to features, one (tokens, width) for each image."""

_GRIDS = 32
"""Image sizes whose rotations are kept; a robot's camera has one."""


def vision_encoder_of(model: Any) -> VisionEncoder:
    """The fastest vision encoder for `model` here."""
    tower = getattr(getattr(model, "model", None), "visual", None)
    if tower is not None and CpuVisionEncoder.fits(tower):
        return CpuVisionEncoder(model)
    return functools.partial(_own_features, model)


def _own_features(model: Any, **inputs: torch.Tensor) -> list[torch.Tensor]:
    """By transformers' own modules."""
    return list(model.get_image_features(**inputs, return_dict=True).pooler_output)


def _linear_layers(block: Any) -> tuple[Any, ...]:
    return block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2


class CpuVisionEncoder:
    """The vision tower of Qwen2-VL on a CPU: images of one size side by side, one rotation for queries and keys.

    The same operations on the same weights as transformers' modules, without what these do between them, which takes
    a fifth of the time of a small tower. Images of several sizes at once, and videos, go through transformers' own.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        tower = model.model.visual
        self._tower = tower
        self._heads = int(tower.blocks[0].attn.num_heads)
        # By block, as the tower's list of blocks may be changed.
        self._products = {
            block: [product_of(part) for part in _linear_layers(block)] for block in tower.blocks
        }
        self._merge = [product_of(tower.merger.mlp[0]), product_of(tower.merger.mlp[2])]
        self._rotations = functools.lru_cache(_GRIDS)(self._new_rotations)

    @staticmethod
    def fits(tower: Any) -> bool:
        """Whether `tower` is Qwen2-VL's, in float32 on a CPU, not quantised."""
        if type(tower).__name__ != "Qwen2VisionTransformerPretrainedModel":
            return False
        linear = [part for block in tower.blocks for part in _linear_layers(block)]
        return (
            bool(linear)
            and tower.config._attn_implementation == "sdpa"
            and all(type(part) is nn.Linear for part in linear)
            and all(weight.device.type == "cpu" for weight in tower.parameters())
            and all(weight.dtype == torch.float32 for weight in tower.parameters())
        )

    def __call__(self, **inputs: torch.Tensor) -> list[torch.Tensor]:
        grids = {tuple(grid) for grid in inputs["image_grid_thw"].tolist()}
        if set(inputs) != {"pixel_values", "image_grid_thw"} or len(grids) != 1 or next(iter(grids))[0] != 1:
            return _own_features(self._model, **inputs)
        count = len(inputs["image_grid_thw"])
        cos, sin = self._rotations(next(iter(grids)))
        hidden = self._tower.patch_embed(inputs["pixel_values"])
        for block in self._tower.blocks:
            qkv, out, up, down = self._products[block]
            hidden = hidden + out(self._attend(qkv(block.norm1(hidden)), count, cos, sin))
            hidden = hidden + down(block.mlp.act(up(block.norm2(hidden))))
        first, last = self._merge
        merger = self._tower.merger
        merged = merger.ln_q(hidden).view(-1, merger.hidden_size)
        return list(last(merger.mlp[1](first(merged))).chunk(count))

    def _attend(self, inner: torch.Tensor, count: int, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Attention within each of `count` images; queries, keys and values (rows, 3 * width) to (rows, width)."""
        heads = self._heads
        inner = inner.view(count, len(inner) // count, 3 * heads, -1)
        low, high = inner[:, :, : 2 * heads].chunk(2, dim=-1)
        rotated = inner[:, :, : 2 * heads] * cos + torch.cat((high, low), dim=-1) * sin
        queries, keys, values = (
            part.transpose(1, 2)
            for part in (rotated[:, :, :heads], rotated[:, :, heads:], inner[:, :, 2 * heads :])
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return mixed.transpose(1, 2).reshape(count * inner.shape[1], -1)

    def _new_rotations(self, grid: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of every patch, (patches, 1, head width), the first half of the sines negated.

        Taken from transformers' own tower, as every version of transformers computes them in another way.
        """
        tower, config = self._tower, self._tower.config
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        hook = tower.blocks[0].register_forward_pre_hook(
            lambda block, given, named: seen.append(named["position_embeddings"]), with_kwargs=True
        )
        width = config.in_channels * config.temporal_patch_size * config.patch_size**2
        with hook:
            tower(torch.zeros(math.prod(grid), width), grid_thw=torch.tensor([grid]))
        cos, sin = seen[0]
        low, high = sin.chunk(2, dim=-1)
        return cos.float()[:, None], torch.cat((-low, high), dim=-1).float()[:, None]


class FlatPatchEmbedding(nn.Module):
    """Qwen2-VL's patch embedding as the matrix product that it is: a convolution whose kernel covers a whole patch."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        assert isinstance(convolution, nn.Conv3d)
        self.weight = nn.Parameter(convolution.weight.data.flatten(1), requires_grad=False)
        self.bias = convolution.bias

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return F.linear(patches.to(self.weight.dtype), self.weight, self.bias)


def quicken_vision(model: Any) -> None:
    """Replace what transformers' vision towers do slowly; the features stay the same up to rounding."""
    tower: Any = getattr(getattr(model, "model", None), "visual", None)
    if tower is not None and isinstance(getattr(tower.patch_embed, "proj", None), nn.Conv3d):
        tower.patch_embed = FlatPatchEmbedding(tower.patch_embed.proj)
