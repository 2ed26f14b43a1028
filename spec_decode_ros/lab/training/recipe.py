"""The training recipe of the shipped pair: model shapes, training phases and their order."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2VLForConditionalGeneration

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training.dataset import make
from spec_decode_ros.lab.training.fit import Report, Student, TrainingPhase, accuracy, fit
from spec_decode_ros.lab.training.network import build_model
from spec_decode_ros.lab.training.processor import save_processor
from spec_decode_ros.lab.training.rollouts import driven_by

HELD_OUT_SEED_OFFSET = 98
HELD_OUT = 2000
DRIVEN_SEED_OFFSET = 57


@dataclass(frozen=True)
class ModelShape:
    """Size of one model: layers and width of its decoder and of its vision encoder."""

    layers: int
    width: int
    vision_layers: int
    vision_width: int

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1 or self.width % 64 or self.vision_width % 32:
            raise ValueError(
                f"a width has to be a multiple of 64, a vision width of 32, and nothing zero: {self}"
            )


TARGET = ModelShape(layers=5, width=192, vision_layers=4, vision_width=128)
DRAFT = ModelShape(layers=2, width=128, vision_layers=2, vision_width=96)

VISION: dict[str, Any] = {"peak_lr": 1.5e-3, "cell_weight": 1.0}
AUXILIARY: dict[str, Any] = {
    "cell_weight": 0.2,
    "goal_weight": 2.0,
    "attention_weight": 0.6,
    "position_weight": 2.0,
}


@dataclass(frozen=True)
class TrainingRun:
    """Settings of a training run.

    Attributes:
        out: folder for the pair.
        work: folder for the frames and the state of an interrupted run.
        frames: how many are rendered: about 12 ms of one core each, and 20 ms for one of a rollout.
        images: how many all phases together learn from; a frame counts each time that it is learned from.
        workers: processes that render.
        seed: of frames, batches and initial weights.
    """

    out: Path
    work: Path
    frames: int = 64_000
    images: int = 640_000
    workers: int = 2
    seed: int = 1

    def __post_init__(self) -> None:
        if self.frames < 100 or self.images < 100 or self.workers < 1:
            raise SpecDecodeError("training needs at least 100 frames, 100 images and one worker")

    def target_phases(self) -> tuple[TrainingPhase, ...]:
        """The vision encoder alone, then the whole target, then the target on frames of its own rollouts."""
        return (
            TrainingPhase("target: vision encoder", self._share(0.10), **VISION),
            *(
                TrainingPhase(f"target: {name}", self._share(share), 1e-3, answer_weight=1.0, **AUXILIARY)
                for name, share in (
                    ("expert's answers", 0.20),
                    ("rollouts, 1st round", 0.10),
                    ("rollouts, 2nd round", 0.20),
                )
            ),
        )

    @property
    def rollouts(self) -> int:
        """Frames of the target's own rollouts, made before each of the two rounds."""
        return max(100, self.frames // 5)

    @property
    def state(self) -> Path:
        """Folder for the states of the phases; a run with other settings has another one."""
        return self.work / f"learning-{self.frames}-{self.images}-{self.seed}"

    def draft_phases(self) -> tuple[TrainingPhase, ...]:
        """The vision encoder alone, then distillation from the target, with a smaller weight on the expert's answers."""
        return (
            TrainingPhase("draft: vision encoder", self._share(0.22), **VISION),
            TrainingPhase(
                "draft: distillation",
                self._share(0.18),
                1.5e-3,
                answer_weight=0.2,
                distill_weight=1.0,
                **AUXILIARY,
            ),
        )

    def _share(self, share: float) -> int:
        return round(share * self.images)


def train(
    recipe: TrainingRun, device: torch.device, report: Report, frames_made: Callable[[int, int], None]
) -> None:
    """Train the pair, or go on training it, and write the checkpoint folders ``target`` and ``draft`` to ``recipe.out``."""
    data = [make(recipe.work / "train", recipe.frames, recipe.seed, recipe.workers, frames_made)]
    held_out = make(
        recipe.work / "held_out", HELD_OUT, recipe.seed + HELD_OUT_SEED_OFFSET, recipe.workers, frames_made
    )
    shuffles = itertools.count(recipe.seed)
    recipe.state.mkdir(exist_ok=True)

    def learn(
        name: str,
        student: Student,
        phases: Sequence[TrainingPhase],
        teacher: Qwen2VLForConditionalGeneration | None = None,
    ) -> None:
        def keep() -> dict[str, float]:
            save(student.model, recipe.out / name)
            return accuracy(student.model, held_out)

        for phase in phases:
            shuffle = next(shuffles)
            state = recipe.state / f"{shuffle - recipe.seed}.safetensors"
            fit(student, data, phase, shuffle, report, teacher, keep, state)
        report(f"{name}: against the expert", 1.0, keep())

    target = _new_student(TARGET, recipe.seed, device)
    vision, answers, *rounds = recipe.target_phases()
    learn("target", target, [vision, answers])
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
    draft = _new_student(DRAFT, recipe.seed, device)
    learn("draft", draft, recipe.draft_phases(), target.model)
    report("draft: against the target", 1.0, accuracy(draft.model, held_out, target.model))
    shutil.rmtree(recipe.state)


def _new_student(shape: ModelShape, seed: int, device: torch.device) -> Student:
    return Student(build_model(**vars(shape), seed=seed)).to(device)


def _fingerprint(checkpoint: Path) -> str:
    return hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()[:16]


def save(model: Qwen2VLForConditionalGeneration, folder: Path) -> None:
    """Write a checkpoint folder with weights in half precision, configuration, tokenizer and image processor."""
    half = type(model)._from_config(model.config, dtype=torch.float16)
    half.load_state_dict(model.state_dict())
    half.generation_config = model.generation_config
    half.save_pretrained(folder)
    save_processor(folder)
