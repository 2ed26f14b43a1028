"""Low-rank adapters for the linear layers of a frozen language model (Hu et al., LoRA, arXiv 2106.09685)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from spec_decode_ros.models.adapters import DOWN, UP

SCALE = 2.0
"""Factor of an adapter's product: with it, adapters train well at the learning rate of the other weights."""


class LowRank(nn.Module):
    """A frozen linear layer plus an adapter; a new adapter does not change the layer's output."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        width, out = linear.in_features, linear.out_features
        device = linear.weight.device
        self.down = nn.Parameter(torch.randn(rank, width, device=device) / math.sqrt(width))
        self.up = nn.Parameter(torch.zeros(out, rank, device=device))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        inner = F.linear(hidden, self.down.to(hidden.dtype))
        return self.linear(hidden) + SCALE * F.linear(inner, self.up.to(hidden.dtype))


def attach(decoder: Any, rank: int) -> None:
    """Freeze a decoder and add an adapter to each linear layer of its blocks."""
    decoder.requires_grad_(False)
    for layer in decoder.layers:
        for block in (layer.self_attn, layer.mlp):
            for name, part in list(block.named_children()):
                if isinstance(part, nn.Linear):
                    setattr(block, name, LowRank(part, rank))


def adapters(decoder: Any) -> dict[str, torch.Tensor]:
    """The adapters' matrices, as :func:`spec_decode_ros.models.adapters.save_adapters` takes them."""
    found: dict[str, torch.Tensor] = {}
    for name, part in decoder.named_modules():
        if isinstance(part, LowRank):
            found[name + DOWN] = part.down.detach()
            found[name + UP] = SCALE * part.up.detach()
    return found
