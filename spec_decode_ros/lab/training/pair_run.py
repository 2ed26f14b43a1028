"""Training the shipped pair, with its progress printed."""

from __future__ import annotations

import torch
from rich.console import Console

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training.display import make_folders, training_display
from spec_decode_ros.lab.training.recipe import TrainingRun, train

FRAME_SECONDS = 0.012
"""Rendering time of a frame on one core, with OpenGL."""

TRAINED_IN = "on two busy cores of an AMD EPYC with bfloat16 the default takes about two hours"


def training_device(name: str) -> torch.device:
    """The device of that name; `auto` takes a GPU if there is one. Raises SpecDecodeError."""
    name = name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise SpecDecodeError(f"there is no device {name!r}: choose auto, cpu or cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SpecDecodeError("there is no CUDA device here: leave --device out, or say --device cpu")
    return torch.device(name)


def train_pair(recipe: TrainingRun, device: torch.device, threads: int, console: Console) -> None:
    """Make the pair, or go on making it. Raises SpecDecodeError.

    Args:
        recipe: of the run.
        device: to learn on.
        threads: of the CPU; 0 leaves the choice to torch.
        console: where progress is printed.
    """
    if threads:
        torch.set_num_threads(threads)
    make_folders(recipe.out, recipe.work)
    rendering = recipe.frames * FRAME_SECONDS / recipe.workers / 60
    console.print(
        f"{recipe.frames} frames take about {rendering:.0f} minutes with {recipe.workers} workers (less where they are "
        f"made already), then the pair learns from {recipe.images} images on {device}; {TRAINED_IN}. An interrupted run "
        "can be resumed with the same command."
    )
    with training_display(console) as (advance, show):

        def report(phase: str, fraction: float, figures: dict[str, float]) -> None:
            advance(phase, round(1000 * fraction), 1000)
            show(f"{phase} {fraction:4.0%}", figures)

        train(recipe, device, report, lambda done, total: advance(f"{total} frames", done, total))
    console.print(
        f"The pair is in {recipe.out}; to use it, name that folder in a pair file and pass --pair FILE.",
        soft_wrap=True,
    )
