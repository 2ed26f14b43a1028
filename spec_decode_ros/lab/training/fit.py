"""Training: first the vision tower alone on what stands where, then the whole model on the expert's answers.

The draft learns the same way and then from the target's own distributions (distillation), since what counts for a
draft is that the target agrees with it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import Qwen2VLForConditionalGeneration

from spec_decode_ros.lab.training import network
from spec_decode_ros.lab.training.batches import VELOCITY_PLACES, Batch, batches, make_batch
from spec_decode_ros.lab.training.dataset import Dataset
from spec_decode_ros.lab.training.network import CellHead, CompassHead, GoalHead, Pointer, see
from spec_decode_ros.lab.training.passes import Answers, Passes, ahead
from spec_decode_ros.lab.training.processor import build_tokenizer
from spec_decode_ros.lab.training.resume import restore, store

CHECKPOINT_S = 300.0
STATE_S = 60.0
MEASURED = 640
"""Held-out frames, with four questions each, that accuracy is measured on."""

Report = Callable[[str, float, dict[str, float]], None]
"""Called with the phase's name, the fraction done and figures to show."""


@dataclass(frozen=True)
class TrainingPhase:
    """One stretch of training, bounded by time, so that it ends when it was told to on any machine."""

    name: str
    minutes: float
    peak_lr: float
    batch: int = 16
    warmup: float = 0.04
    cell_weight: float = 0.0
    goal_weight: float = 0.0
    pointer_weight: float = 0.0
    compass_weight: float = 0.0
    answer_weight: float = 0.0
    distill_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.minutes <= 0 or self.batch < 1 or not 0 < self.peak_lr < 1:
            raise ValueError(
                f"phase {self.name}: minutes, batch and learning rate have to be positive: {asdict(self)}"
            )

    def learning_rate(self, fraction: float) -> float:
        """Linear warm-up, then a cosine to zero."""
        if fraction < self.warmup:
            return self.peak_lr * max(fraction, 0.01 * self.warmup) / self.warmup
        return (
            self.peak_lr
            * 0.5
            * (1 + math.cos(math.pi * min(1.0, (fraction - self.warmup) / (1 - self.warmup))))
        )


class Heads(nn.Module):
    """What reads from a model while it trains and is thrown away afterwards."""

    def __init__(self, width: int):
        super().__init__()
        self.cells = CellHead(width)
        self.goal = GoalHead(width)
        self.compass = CompassHead(width)


def _attention(device: torch.device) -> contextlib.AbstractContextManager:
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(**{name: value.to(device) for name, value in vars(batch).items()})


class Paused(Exception):
    """The time that a run was given is over before its training; its state is stored."""


def _hidden(passes: Passes, model: Any, visual: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Hidden states (N, width) at the N places whose next token belongs to an answer."""
    hidden = passes.think(model, visual, batch.tokens, batch.question, batch.position)
    return hidden[batch.target >= 0]


def _logits(model: Qwen2VLForConditionalGeneration, visual: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Logits (N, vocabulary) at the same N places."""
    return model.lm_head(_hidden(network, model, visual, batch))


def fit(
    model: Any,
    heads: Heads,
    data: Sequence[Dataset],
    phase: TrainingPhase,
    seed: int,
    report: Report,
    teacher: Any = None,
    measure: Callable[[], dict[str, float]] | None = None,
    checkpoint: Callable[[], None] = lambda: None,
    *,
    passes: Passes = network,
    state: Path | None = None,
    until: float = math.inf,
) -> None:
    """Train what of ``model`` (and ``heads``) is not frozen in place for one phase.

    Args:
        data: where batches come from, see :func:`~spec_decode_ros.lab.training.batches.batches`.
        teacher: the model whose distributions are learned where ``distill_weight`` is positive.
        measure: figures to report now and then, such as :func:`accuracy` on held-out examples.
        checkpoint: called whenever an intermediate state is worth keeping.
        passes: of the architecture.
        state: a file from which a run that was cut off goes on, and where it leaves its state every minute.
        until: the moment of ``time.monotonic`` at which to store the state and raise Paused.
    """
    device = next(model.parameters()).device
    trained = nn.ModuleDict({"model": model, "heads": heads})
    parameters = [p for p in trained.parameters() if p.requires_grad]
    decay = [p for p in parameters if p.dim() >= 2]
    rest = [p for p in parameters if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=phase.peak_lr, betas=(0.9, 0.98), fused=True)
    layers = model.config.text_config.num_hidden_layers
    pointer = passes.pointer(model, layers // 2) if phase.pointer_weight else None
    model.train()
    used = restore(state, trained, optimizer, phase.name) if state else 0.0
    begun = shown = saved = stored = time.monotonic()
    start = begun - used
    seen = 0
    # Another order after a break, so that the same examples are not taken twice.
    stream = batches(data, phase.batch, seed + 7919 * round(used))
    for step, cpu_batch in enumerate(ahead(stream, 4) if device.type == "cuda" else stream):
        fraction = (time.monotonic() - start) / (60 * phase.minutes)
        if fraction >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = phase.learning_rate(fraction)
        batch = _to(cpu_batch, device)
        # bfloat16 products are almost twice as fast as float32 ones, on CPUs that have them as on GPUs.
        # On a CPU the fused attention's backward pass costs more than all matrix products together.
        with _attention(device):
            with torch.autocast(device.type, torch.bfloat16):
                loss = _loss(passes, model, heads, batch, phase, teacher, pointer)
            optimizer.zero_grad()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        seen += phase.batch
        now = time.monotonic()
        if now - shown > 20:
            report(
                phase.name, fraction, {"step": step, "images/s": seen / (now - begun), "loss": loss.item()}
            )
            shown = now
        if state and now - stored > STATE_S:
            store(state, trained, optimizer, now - start, phase.name)
            stored = now
        if now - saved > CHECKPOINT_S:
            checkpoint()
            if measure is not None and phase.answer_weight + phase.distill_weight > 0:
                report(phase.name, fraction, measure())
            saved = time.monotonic()
        if now >= until:
            break
    if pointer is not None:
        pointer.close()
    model.eval()
    if state:
        store(state, trained, optimizer, time.monotonic() - start, phase.name)
    if fraction < 1:
        raise Paused


def _loss(
    passes: Passes,
    model: Any,
    heads: Heads,
    batch: Batch,
    phase: TrainingPhase,
    teacher: Any,
    pointer: Pointer | None,
) -> torch.Tensor:
    visual = passes.see(model, batch.frames)
    loss = visual.new_zeros((), dtype=torch.float32)
    if phase.cell_weight:
        loss = loss + phase.cell_weight * heads.cells.loss(visual.float(), batch.presence, batch.place)
    if not (phase.answer_weight or phase.distill_weight):
        return loss
    hidden = _hidden(passes, model, visual, batch)
    answers = Answers(model.lm_head)
    logits = answers.logits(hidden).float()
    asked = batch.target >= 0
    if phase.goal_weight:
        begins = batch.place_in_answer[asked] == 0
        loss = loss + phase.goal_weight * heads.goal.loss(hidden[begins].float(), batch.goal.reshape(-1, 2))
    if pointer is not None:
        begins = batch.place_in_answer == 0
        loss = loss + phase.pointer_weight * pointer.loss(begins, batch.goal_cells.reshape(begins.sum(), -1))
        if phase.compass_weight:
            loss = loss + phase.compass_weight * heads.compass.loss(pointer.visual)
    weight = batch.weight[asked] / batch.weight[asked].sum()
    if phase.answer_weight:
        losses = F.cross_entropy(logits, answers.columns(batch.target[asked]), reduction="none")
        loss = loss + phase.answer_weight * (losses * weight).sum()
    if phase.distill_weight and teacher is not None:
        with torch.no_grad():
            known = _hidden(passes, teacher, passes.see(teacher, batch.frames), batch)
            wanted = answers.of(teacher.lm_head(known)).float().log_softmax(-1)
        losses = F.kl_div(logits.log_softmax(-1), wanted, log_target=True, reduction="none").sum(-1)
        loss = loss + phase.distill_weight * (losses * weight).sum()
    return loss


@torch.no_grad()
def accuracy(
    model: Qwen2VLForConditionalGeneration,
    data: Dataset,
    teacher: Qwen2VLForConditionalGeneration | None = None,
) -> dict[str, float]:
    """Shares of held-out answers that are right, token by token given the right beginning.

    ``vx`` and ``wz`` count the questions whose answer moves toward an object in view; ``wz_near`` allows one step of
    0.2 rad/s; ``all`` is every token of every answer. With a teacher, the teacher's own choice is what is right.
    """
    device = next(model.parameters()).device
    tokenizer = build_tokenizer()
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    numbers = torch.full((len(words),), float("nan"))
    for i, word in enumerate(words):
        try:
            numbers[i] = float(word)
        except ValueError:
            continue
    toward = torch.tensor(tokenizer.convert_tokens_to_ids(["left", "right", "ahead", "reached"]))
    was_training = model.training
    model.eval()
    sums: dict[str, list[float]] = {"vx": [], "wz": [], "wz_near": [], "all": []}
    for start in range(0, min(len(data), MEASURED), 64):
        index = np.arange(start, min(start + 64, len(data), MEASURED))
        batch = _to(make_batch(data, index, np.zeros(len(index), bool)), device)
        with torch.autocast(device.type, torch.bfloat16):
            choice = _logits(model, see(model, batch.frames), batch).argmax(-1).cpu()
            asked = (batch.target >= 0).cpu()
            right = batch.target.cpu()[asked]
            if teacher is not None:
                right = _logits(teacher, see(teacher, batch.frames), batch).argmax(-1).cpu()
        place, question = batch.place_in_answer.cpu()[asked], batch.question.cpu()[asked]
        row = torch.arange(len(index))[:, None].expand(asked.shape)[asked]
        group = row * 100 + question
        goes = group[torch.isin(batch.target.cpu()[asked], toward)]
        relevant = torch.isin(group, goes)
        sums["all"] += (choice == right).tolist()
        for name, where in zip(("vx", "wz"), VELOCITY_PLACES, strict=True):
            mine = relevant & (place == where)
            sums[name] += (choice[mine] == right[mine]).tolist()
            if name == "wz":
                sums["wz_near"] += ((numbers[choice[mine]] - numbers[right[mine]]).abs() < 0.25).tolist()
    model.train(was_training)
    return {name: sum(values) / max(1, len(values)) for name, values in sums.items()}
