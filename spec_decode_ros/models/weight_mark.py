"""Mark of a model, by which files that belong to it (adapters, early exits) know it again."""

from __future__ import annotations

import torch


def weight_mark(weight: torch.Tensor) -> torch.Tensor:
    """Identifies a model by its embedding or its output head: the mean row, (width,) float32.

    It is another one for another model of the same shape, and nearly the same for the same model in half precision.
    """
    weight = weight.detach()
    if hasattr(weight, "full_tensor"):  # it is divided between processes, each of which gets here
        weight = weight.full_tensor()
    return weight.float().mean(0).cpu()


def has_mark(weight: torch.Tensor, mark: torch.Tensor) -> bool:
    """Whether `mark` is the mark of this weight, but for rounding."""
    own = weight_mark(weight)
    return mark.shape == own.shape and torch.allclose(
        mark.float(), own, rtol=0.0, atol=0.05 * float(own.std())
    )
