"""The optimizer, the learning rate schedule, precision and attention kernel that training runs share."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from spec_decode_ros.models.onednn import has_bfloat16


def adamw(parameters: Iterable[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only; the learning rate is set before every step."""
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def warmup_cosine(peak: float, fraction: float, warmup: float, floor: float = 0.0) -> float:
    """Linear warm-up to `peak`, then a cosine to `floor` times `peak`; `fraction` is the part of the run that is done."""
    if fraction < warmup:
        return peak * max(fraction, 0.01 * warmup) / warmup
    done = min(1.0, (fraction - warmup) / (1 - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def attention_kernel(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Selects the fastest attention kernel for training on a device."""
    # On a CPU the backward pass of the fused kernel takes longer than all matrix products together.
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Products in bfloat16, unless it is a CPU without instructions for it, where they would be slower than float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or has_bfloat16())
