"""A training run that was cut off goes on where it was: weights, the optimizer's averages and the time used, in one file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from spec_decode_ros.errors import SpecDecodeError

_AVERAGES = ("step", "exp_avg", "exp_avg_sq")


def store(
    file: Path, model: nn.Module, optimizer: torch.optim.Optimizer, used_s: float, phase: str = ""
) -> None:
    """Write the state of a run with an Adam, frozen weights left out; an older file stays until the new one is whole."""
    tensors = {f"weight/{name}": value.detach() for name, value in _learning(model)}
    for name, parameter in _learning(model):
        for average in _AVERAGES:
            if average in optimizer.state[parameter]:
                tensors[f"{average}/{name}"] = optimizer.state[parameter][average]
    unfinished = file.with_suffix(".part")
    save_file(tensors, unfinished, {"used_s": repr(used_s), "phase": phase})
    unfinished.replace(file)


def restore(file: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, phase: str = "") -> float:
    """Take up the state that `store` wrote; returns the seconds that the run had used, 0 if there is no file.

    Of another phase's state, and without an optimizer, the weights alone are taken.

    Raises:
        SpecDecodeError: the file is damaged or of a model of another shape.
    """
    if not file.exists():
        return 0.0
    try:
        with safe_open(file, "pt") as stored:
            with torch.no_grad():
                for name, parameter in _learning(model):
                    parameter.copy_(stored.get_tensor(f"weight/{name}"))
            if optimizer is None or stored.metadata().get("phase", "") != phase:
                return 0.0
            known = set(stored.keys())
            for name, parameter in _learning(model):
                optimizer.state[parameter] |= {
                    average: stored.get_tensor(f"{average}/{name}").to(parameter.device)
                    for average in _AVERAGES
                    if f"{average}/{name}" in known
                }
            return float(stored.metadata()["used_s"])
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise SpecDecodeError(
            f"The state of training in {file} does not fit ({error}): delete it to begin again."
        ) from error


def _learning(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
