"""How the shipped pair is made: shapes, phases and the order of things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2VLForConditionalGeneration

from spec_decode_ros.training.dataset import make
from spec_decode_ros.training.fit import Heads, Phase, Report, accuracy, fit
from spec_decode_ros.training.network import build_model
from spec_decode_ros.training.processor import save_processor

HELD_OUT_SEED_OFFSET = 98
HELD_OUT = 2000


@dataclass(frozen=True)
class Shape:
    """Size of one model: decoder layers and width, vision layers and width; widths are multiples of 32."""

    layers: int
    width: int
    vision_layers: int
    vision_width: int

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1 or self.width % 64 or self.vision_width % 32:
            raise ValueError(
                f"a width has to be a multiple of 64, a vision width of 32, and nothing zero: {self}"
            )


TARGET = Shape(layers=5, width=192, vision_layers=4, vision_width=128)
DRAFT = Shape(layers=2, width=128, vision_layers=2, vision_width=96)

SEE: dict[str, Any] = {"peak_lr": 1.5e-3, "cell_weight": 1.0}
GROUNDED: dict[str, Any] = {"cell_weight": 0.2, "goal_weight": 2.0, "pointer_weight": 0.3}


@dataclass(frozen=True)
class Recipe:
    """What a training run does.

    ``minutes`` is the whole time of the phases; the frames come before and take about 4 ms of one core each.
    """

    out: Path
    work: Path
    frames: int = 64_000
    minutes: float = 70.0
    workers: int = 2
    seed: int = 1

    def __post_init__(self) -> None:
        if self.frames < 100 or self.minutes <= 0 or self.workers < 1:
            raise ValueError("training needs at least 100 frames, some minutes and one worker")

    def target_phases(self) -> tuple[Phase, ...]:
        """The target learns to see, then to act."""
        return (
            Phase("target: see", 0.09 * self.minutes, **SEE),
            Phase("target: act", 0.63 * self.minutes, 1e-3, answer_weight=1.0, **GROUNDED),
        )

    def draft_phases(self) -> tuple[Phase, ...]:
        """The draft learns to see, then from the target's distributions and, less, from the expert."""
        return (
            Phase("draft: see", 0.05 * self.minutes, **SEE),
            Phase(
                "draft: distil",
                0.23 * self.minutes,
                1.5e-3,
                answer_weight=0.2,
                distill_weight=1.0,
                **GROUNDED,
            ),
        )


def train(
    recipe: Recipe, device: torch.device, report: Report, frames_made: Callable[[int, int], None]
) -> None:
    """Make the pair and write ``target`` and ``draft`` checkpoint folders in ``recipe.out``."""
    data = make(recipe.work / "train", recipe.frames, recipe.seed, recipe.workers, frames_made)
    held_out = make(
        recipe.work / "held_out", HELD_OUT, recipe.seed + HELD_OUT_SEED_OFFSET, recipe.workers, frames_made
    )
    teacher: Qwen2VLForConditionalGeneration | None = None
    for name, shape, phases in (
        ("target", TARGET, recipe.target_phases()),
        ("draft", DRAFT, recipe.draft_phases()),
    ):
        model = build_model(**vars(shape), seed=recipe.seed).to(device)
        heads = Heads(shape.width).to(device)
        folder = recipe.out / name

        def keep(model: Qwen2VLForConditionalGeneration = model, folder: Path = folder) -> None:
            save(model, folder)

        for number, phase in enumerate(phases):
            fit(model, heads, data, phase, recipe.seed + number, report, teacher, held_out, keep)
        keep()
        report(f"{name}: against the expert", 1.0, accuracy(model, held_out))
        if teacher is not None:
            report(f"{name}: against the target", 1.0, accuracy(model, held_out, teacher))
        teacher = teacher or model


def save(model: Qwen2VLForConditionalGeneration, folder: Path) -> None:
    """Write an ordinary checkpoint folder: half-precision weights, configuration, tokenizer, image processor."""
    half = type(model)._from_config(model.config, dtype=torch.float16)
    half.load_state_dict(model.state_dict())
    half.generation_config = model.generation_config
    half.save_pretrained(folder)
    save_processor(folder)
