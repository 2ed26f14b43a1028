"""Linear layers with large weights on a CPU, by oneDNN at the speed at which memory can be read.

With a few tokens in a pass, a product takes as long as reading its weight, so verifying eight tokens could cost no more
than decoding one. But the BLAS behind `F.linear` copies the weight into a layout of its own in every product of more
than one row, which costs as much again. oneDNN has such a layout, too, and takes a weight that is already in it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

Product = Callable[[torch.Tensor], torch.Tensor]
"""Rows (T, in) to rows (T, out)."""

_LARGE = 1 << 18
"""Elements from which on oneDNN is faster: a megabyte of float32, as much as a core's own cache holds."""

_FEWEST = 4
"""Rows with which oneDNN's kernels read a weight at full speed; with fewer it takes up to 1.5 times as long (one core)."""

_ROUND = 16
"""More rows than this are padded to a multiple of it: oneDNN compiles, and keeps in memory, a kernel for every number."""


def product(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Product:
    """The fastest product with `weight` (out, in), and `bias` (out) added, here.

    By oneDNN it holds a second copy of the weight, which later changes of the first do not reach.
    """
    if not (weight.numel() >= _LARGE and supported(weight) and _available()):
        return lambda rows: F.linear(rows, weight, bias)
    blocked = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
    multiply = torch.ops.mkldnn._linear_pointwise.default

    def multiplied(rows: torch.Tensor) -> torch.Tensor:
        count = len(rows)
        wanted = max(count, _FEWEST) if count <= _ROUND else -(-count // _ROUND) * _ROUND
        if wanted > count:
            rows = F.pad(rows, (0, 0, 0, wanted - count))
        return multiply(rows, blocked, bias, "none", [], "")[:count]

    return multiplied


def product_of(layer: nn.Module) -> Product:
    """`layer` as a `product` where it is linear and nothing else, itself otherwise."""
    if not isinstance(layer, nn.Linear) or type(layer) is not nn.Linear:
        return layer
    divided = type(layer.weight) is not nn.Parameter  # between processes
    if divided or layer._forward_hooks or layer._forward_pre_hooks:
        return layer
    return product(layer.weight, layer.bias)


def supported(weight: torch.Tensor) -> bool:
    """Whether it is on a CPU that has instructions for its precision."""
    if weight.device.type != "cpu":
        return False
    return weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and has_bfloat16())


def has_bfloat16() -> bool:
    """Whether this CPU multiplies matrices in bfloat16 faster than in float32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _available() -> bool:
    # The operators that torch's own compiler makes linear layers into; a build without oneDNN lacks them.
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
