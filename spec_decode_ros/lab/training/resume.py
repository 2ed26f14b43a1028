"""The state of a training run in one file, so that an interrupted run can be resumed: weights, optimizer, amount done.

The amount is in the unit that the run is bounded by, such as steps, sentences or seconds.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from spec_decode_ros.errors import SpecDecodeError

_AVERAGES = ("step", "exp_avg", "exp_avg_sq")
"""What Adam keeps for each parameter."""


def store(file: Path, model: nn.Module, optimizer: torch.optim.Optimizer, done: float) -> None:
    """Write the state of a run with Adam, without frozen weights; an older file stays until the new one is complete."""
    tensors = {f"weight/{name}": value.detach() for name, value in _trained(model)}
    for name, parameter in _trained(model):
        for average in _AVERAGES:
            if average in optimizer.state[parameter]:
                tensors[f"{average}/{name}"] = optimizer.state[parameter][average]
    unfinished = file.with_suffix(".part")
    save_file(tensors, unfinished, {"done": repr(done)})
    unfinished.replace(file)


def restore(file: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """Load the state that `store` wrote; returns the amount that was done, 0 if there is no file.

    Raises:
        SpecDecodeError: the file is damaged or of a model of another shape.
    """
    if not file.exists():
        return 0.0
    try:
        with safe_open(file, "pt") as stored:
            known = set(stored.keys())
            for name, parameter in _trained(model):
                with torch.no_grad():
                    parameter.copy_(stored.get_tensor(f"weight/{name}"))
                optimizer.state[parameter] |= {
                    average: stored.get_tensor(f"{average}/{name}").to(parameter.device)
                    for average in _AVERAGES
                    if f"{average}/{name}" in known
                }
            return float(stored.metadata()["done"])
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise SpecDecodeError(
            f"The state of training in {file} does not fit ({error}): delete it to begin again."
        ) from error


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
