"""How the shipped pair is made: shapes, phases and the order of things."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2VLForConditionalGeneration

from spec_decode_ros.lab.training.dataset import make
from spec_decode_ros.lab.training.fit import Heads, Report, TrainingPhase, accuracy, fit
from spec_decode_ros.lab.training.network import build_model
from spec_decode_ros.lab.training.processor import save_processor
from spec_decode_ros.lab.training.rollouts import driven_by

HELD_OUT_SEED_OFFSET = 98
HELD_OUT = 2000
DRIVEN_SEED_OFFSET = 57


@dataclass(frozen=True)
class TowerShape:
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


TARGET = TowerShape(layers=5, width=192, vision_layers=4, vision_width=128)
DRAFT = TowerShape(layers=2, width=128, vision_layers=2, vision_width=96)

SEE: dict[str, Any] = {"peak_lr": 1.5e-3, "cell_weight": 1.0}
GROUNDED: dict[str, Any] = {
    "cell_weight": 0.2,
    "goal_weight": 2.0,
    "pointer_weight": 0.6,
    "compass_weight": 2.0,
}


@dataclass(frozen=True)
class TrainingRun:
    """What a training run does.

    ``minutes`` is the whole time of the phases; the frames come on top and take about 12 ms of one core each, those
    that the half-trained target drives to itself (``rollouts``) 20 ms.
    """

    out: Path
    work: Path
    frames: int = 64_000
    minutes: float = 120.0
    workers: int = 2
    seed: int = 1

    def __post_init__(self) -> None:
        if self.frames < 100 or self.minutes <= 0 or self.workers < 1:
            raise ValueError("training needs at least 100 frames, some minutes and one worker")

    def target_phases(self) -> tuple[TrainingPhase, ...]:
        """The target learns to see, then to act, then to act where its own actions take it."""
        return (
            TrainingPhase("target: see", 0.04 * self.minutes, **SEE),
            *(
                TrainingPhase(f"target: {name}", share * self.minutes, 1e-3, answer_weight=1.0, **GROUNDED)
                for name, share in (("act", 0.3), ("act, 1st round", 0.15), ("act, 2nd round", 0.3))
            ),
        )

    @property
    def rollouts(self) -> int:
        """Frames of the target's own driving, before each of the two rounds."""
        return max(100, self.frames // 5)

    def draft_phases(self) -> tuple[TrainingPhase, ...]:
        """The draft learns to see, then from the target's distributions and, less, from the expert."""
        return (
            TrainingPhase("draft: see", 0.04 * self.minutes, **SEE),
            TrainingPhase(
                "draft: distil",
                0.17 * self.minutes,
                1.5e-3,
                answer_weight=0.2,
                distill_weight=1.0,
                **GROUNDED,
            ),
        )


def train(
    recipe: TrainingRun, device: torch.device, report: Report, frames_made: Callable[[int, int], None]
) -> None:
    """Make the pair and write ``target`` and ``draft`` checkpoint folders in ``recipe.out``."""
    data = [make(recipe.work / "train", recipe.frames, recipe.seed, recipe.workers, frames_made)]
    held_out = make(
        recipe.work / "held_out", HELD_OUT, recipe.seed + HELD_OUT_SEED_OFFSET, recipe.workers, frames_made
    )
    shuffles = itertools.count(recipe.seed)

    def learn(
        name: str,
        pupil: _Pupil,
        phases: Sequence[TrainingPhase],
        teacher: Qwen2VLForConditionalGeneration | None = None,
    ) -> None:
        keep = partial(save, pupil.model, recipe.out / name)
        for phase in phases:
            measure = partial(accuracy, pupil.model, held_out)
            fit(pupil.model, pupil.heads, data, phase, next(shuffles), report, teacher, measure, keep)
        keep()
        report(f"{name}: against the expert", 1.0, accuracy(pupil.model, held_out))

    target = _Pupil.new(TARGET, recipe.seed, device)
    see, act, *rounds = recipe.target_phases()
    learn("target", target, [see, act])
    driver = recipe.out / "target"
    for number, phase in enumerate(rounds):
        data.append(
            make(
                recipe.work / f"driven_{number}",
                recipe.rollouts,
                recipe.seed + DRIVEN_SEED_OFFSET + number,
                recipe.workers,
                frames_made,
                driven_by(driver),
                f"rollouts of {_fingerprint(driver)}",
            )
        )
        learn("target", target, [phase])
    draft = _Pupil.new(DRAFT, recipe.seed, device)
    learn("draft", draft, recipe.draft_phases(), target.model)
    report("draft: against the target", 1.0, accuracy(draft.model, held_out, target.model))


@dataclass(frozen=True)
class _Pupil:
    model: Qwen2VLForConditionalGeneration
    heads: Heads

    @classmethod
    def new(cls, shape: TowerShape, seed: int, device: torch.device) -> _Pupil:
        model = build_model(**vars(shape), seed=seed).to(device)
        return cls(model, Heads(shape.width).to(device))


def _fingerprint(checkpoint: Path) -> str:
    return hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()[:16]


def save(model: Qwen2VLForConditionalGeneration, folder: Path) -> None:
    """Write an ordinary checkpoint folder: half-precision weights, configuration, tokenizer, image processor."""
    half = type(model)._from_config(model.config, dtype=torch.float16)
    half.load_state_dict(model.state_dict())
    half.generation_config = model.generation_config
    half.save_pretrained(folder)
    save_processor(folder)
