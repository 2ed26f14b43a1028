"""Low-rank adapters of a model's linear layers (Hu et al., LoRA, arXiv 2106.09685) in one safetensors file.

So a model that another package ships can be trained here without shipping its weights again: loading it merges the
adapters into them, and nothing else knows of adapters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from transformers import PreTrainedModel

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.weight_mark import has_mark, weight_mark

DOWN, UP = ".down", ".up"
"""What follows a layer's name, relative to the decoder, in the names of its adapter's two matrices: (rank, inputs), and
(outputs, rank) with the scale in it."""

_BASE = "base"


class AdaptersError(SpecDecodeError):
    """A file of adapters that cannot be used with a model."""


def save_adapters(
    path: Path,
    matrices: Mapping[str, torch.Tensor],
    embedding: torch.Tensor,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write adapters, and the mark of the model that they belong to, by its embedding, to one file."""
    tensors = {name: matrix.detach().to("cpu", dtype).contiguous() for name, matrix in matrices.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by safetensors' own save_file, whose files only their owner can read.
    path.write_bytes(save({**tensors, _BASE: weight_mark(embedding)}))
    path.chmod(0o644)


def merge_adapters(path: Path, model: PreTrainedModel) -> None:
    """Add the products of the adapters in a file to the weights of the model's layers. Raises AdaptersError."""
    try:
        _merge(load_file(path), model)
    except (OSError, SafetensorError) as error:
        raise AdaptersError(
            f"The adapters {path} cannot be read ({error}): get or train them again."
        ) from error
    except AdaptersError as error:
        raise AdaptersError(
            f"The adapters {path} cannot be used ({error}): correct the pair's location, or train them again."
        ) from error


@torch.no_grad()
def _merge(matrices: dict[str, torch.Tensor], model: PreTrainedModel) -> None:
    embedding: Any = model.get_input_embeddings()
    if not has_mark(embedding.weight, matrices.pop(_BASE, torch.empty(0))):
        raise AdaptersError("they were trained with another model")
    layers = dict(model.get_decoder().named_modules())
    for name in sorted({matrix.rpartition(".")[0] for matrix in matrices}):
        layer, down, up = layers.get(name), matrices.pop(name + DOWN, None), matrices.pop(name + UP, None)
        if type(layer) is not nn.Linear or down is None or up is None:
            raise AdaptersError(f"{name!r} is no linear layer, or one of its two matrices is missing")
        weight = layer.weight
        if up.shape != weight.shape[:1] + down.shape[:1] or down.shape[1:] != weight.shape[1:]:
            raise AdaptersError(f"the matrices of {name} have other shapes than its weight")
        product = up.float() @ down.float()
        if not product.isfinite().all():
            raise AdaptersError(f"the matrices of {name} are not finite")
        weight.data = (weight.float() + product).to(weight.dtype)
    if matrices:
        raise AdaptersError(f"{min(matrices)} belongs to no adapter")
