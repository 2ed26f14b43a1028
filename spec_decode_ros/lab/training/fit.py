"""Training one model of the shipped pair: first its vision encoder alone, then the whole model on the expert's answers.

The draft is trained the same way and then on the target's own distributions (distillation), because a draft is as good as
the target's agreement with it.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import Qwen2VLForConditionalGeneration

from spec_decode_ros.lab.training.batches import VELOCITY_PLACES, Batch, batches, make_batch, prefetched
from spec_decode_ros.lab.training.dataset import Dataset
from spec_decode_ros.lab.training.network import (
    AttentionLoss,
    CellHead,
    GoalHead,
    PositionHead,
    encode_frames,
    text_hidden_states,
)
from spec_decode_ros.lab.training.optimizer import adamw, attention_kernel, mixed_precision, warmup_cosine
from spec_decode_ros.lab.training.processor import build_tokenizer
from spec_decode_ros.lab.training.resume import restore, store

REPORT_S = 20.0
CHECKPOINT_S = 300.0
STORED_STEPS = 100
"""Steps after which the state of a phase is stored."""

MEASURED = 640
"""Held-out frames, with four questions each, that accuracy is measured on."""

Report = Callable[[str, float, dict[str, float]], None]
"""Called with the phase's name, the fraction done and figures to show."""


@dataclass(frozen=True)
class TrainingPhase:
    """One part of a training run: how many images it learns from, its learning rate and the weight of each loss."""

    name: str
    images: int
    peak_lr: float
    batch: int = 16
    warmup: float = 0.04
    cell_weight: float = 0.0
    goal_weight: float = 0.0
    attention_weight: float = 0.0
    position_weight: float = 0.0
    answer_weight: float = 0.0
    distill_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.images < 1 or self.batch < 1 or not 0 < self.peak_lr < 1:
            raise ValueError(
                f"phase {self.name}: images, batch and learning rate have to be positive: {asdict(self)}"
            )

    @property
    def steps(self) -> int:
        """Batches that it takes."""
        return math.ceil(self.images / self.batch)

    def learning_rate(self, fraction: float) -> float:
        """Linear warm-up, then a cosine to zero."""
        return warmup_cosine(self.peak_lr, fraction, self.warmup)


class Student(nn.Module):
    """A model in training with its auxiliary heads, which are discarded afterwards."""

    def __init__(self, model: Qwen2VLForConditionalGeneration):
        super().__init__()
        width = model.config.text_config.hidden_size
        self.model = model
        self.cells = CellHead(width)
        self.goal = GoalHead(width)
        self.position = PositionHead(width)


def fit(
    student: Student,
    data: Sequence[Dataset],
    phase: TrainingPhase,
    seed: int,
    report: Report,
    teacher: Qwen2VLForConditionalGeneration | None = None,
    checkpoint: Callable[[], dict[str, float]] = lambda: {},
    state: Path | None = None,
) -> None:
    """Train ``student`` in place for one phase; a resumed one ends with the weights of one that was not interrupted.

    Args:
        data: where batches come from, see :func:`~spec_decode_ros.lab.training.batches.batches`.
        teacher: the model whose distributions are learned if ``distill_weight`` is positive.
        checkpoint: called from time to time to save the model; returns figures to report, such as :func:`accuracy` on
            held-out examples.
        state: a file that the phase's state is written to, and resumed from if it exists.
    """
    optimizer = adamw(student.parameters(), weight_decay=0.05)
    first = round(restore(state, student, optimizer)) if state else 0
    middle = student.model.config.text_config.num_hidden_layers // 2
    attention = AttentionLoss(student.model, middle) if phase.attention_weight else None
    student.train()
    reported, shown = first, time.monotonic()
    saved = shown
    for done, batch in enumerate(_batches(student, data, phase, seed, first), first + 1):
        for group in optimizer.param_groups:
            group["lr"] = phase.learning_rate((done - 1) / phase.steps)
        loss = _step(student, optimizer, partial(_loss, student, batch, phase, teacher, attention))
        if state and (done % STORED_STEPS == 0 or done == phase.steps):
            store(state, student, optimizer, done)
        now = time.monotonic()
        if now - shown >= REPORT_S:
            speed = (done - reported) / (now - shown)
            left = (phase.steps - done) / speed / 60
            figures = {"images/s": speed * phase.batch, "minutes left": left, "loss": loss.item()}
            report(phase.name, done / phase.steps, figures)
            reported, shown = done, now
        if now - saved >= CHECKPOINT_S:
            figures = checkpoint()
            if figures and phase.answer_weight + phase.distill_weight > 0:
                report(phase.name, done / phase.steps, figures)
            saved = time.monotonic()
    if attention is not None:
        attention.close()
    student.eval()


def _batches(
    student: Student, data: Sequence[Dataset], phase: TrainingPhase, seed: int, first: int
) -> Iterator[Batch]:
    """The phase's batches without the first so many, on the student's device."""
    if first >= phase.steps:
        return
    device = next(student.parameters()).device
    # Those before are drawn, too: a batch depends on them.
    stream = itertools.islice(batches(data, phase.batch, seed), first, phase.steps)
    for batch in prefetched(stream, 4) if device.type == "cuda" else stream:
        yield _to(batch, device)


def _step(
    student: Student, optimizer: torch.optim.Optimizer, loss_of: Callable[[], torch.Tensor]
) -> torch.Tensor:
    """One step of the optimizer; returns the loss before it."""
    device = next(student.parameters()).device
    with attention_kernel(device):
        with mixed_precision(device):
            loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step()
    return loss


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(**{name: value.to(device) for name, value in vars(batch).items()})


def _loss(
    student: Student,
    batch: Batch,
    phase: TrainingPhase,
    teacher: Qwen2VLForConditionalGeneration | None,
    attention: AttentionLoss | None,
) -> torch.Tensor:
    """The weighted sum of the phase's losses."""
    visual = encode_frames(student.model, batch.frames)
    loss = visual.new_zeros((), dtype=torch.float32)
    if phase.cell_weight:
        loss = loss + phase.cell_weight * student.cells.loss(visual.float(), batch.presence, batch.place)
    if not (phase.answer_weight or phase.distill_weight):
        return loss
    hidden = _answer_states(student.model, visual, batch)
    logits = student.model.lm_head(hidden).float()
    asked = batch.target >= 0
    begins = batch.place_in_answer == 0
    if phase.goal_weight:
        first = hidden[begins[asked]].float()
        loss = loss + phase.goal_weight * student.goal.loss(first, batch.goal.reshape(-1, 2))
    if attention is not None:
        cells = batch.goal_cells.reshape(begins.sum(), -1)
        loss = loss + phase.attention_weight * attention.loss(begins, cells)
        if phase.position_weight:
            loss = loss + phase.position_weight * student.position.loss(attention.visual)
    weight = batch.weight[asked] / batch.weight[asked].sum()
    if phase.answer_weight:
        losses = F.cross_entropy(logits, batch.target[asked], reduction="none")
        loss = loss + phase.answer_weight * (losses * weight).sum()
    if phase.distill_weight and teacher is not None:
        with torch.no_grad():
            wanted = _answer_logits(teacher, batch).float().log_softmax(-1)
        losses = F.kl_div(logits.log_softmax(-1), wanted, log_target=True, reduction="none").sum(-1)
        loss = loss + phase.distill_weight * (losses * weight).sum()
    return loss


def _answer_states(
    model: Qwen2VLForConditionalGeneration, visual: torch.Tensor, batch: Batch
) -> torch.Tensor:
    """Last hidden states (N, width) at the N tokens that an answer token follows."""
    hidden = text_hidden_states(model, visual, batch.tokens, batch.question, batch.position)
    return hidden[batch.target >= 0]


def _answer_logits(model: Qwen2VLForConditionalGeneration, batch: Batch) -> torch.Tensor:
    """Logits (N, vocabulary) at the same tokens."""
    return model.lm_head(_answer_states(model, encode_frames(model, batch.frames), batch))


@torch.no_grad()
def accuracy(
    model: Qwen2VLForConditionalGeneration,
    data: Dataset,
    teacher: Qwen2VLForConditionalGeneration | None = None,
) -> dict[str, float]:
    """Shares of held-out answer tokens that the model predicts correctly, given the correct tokens before them.

    ``vx`` and ``wz`` count the questions whose answer moves toward an object in view; ``wz_near`` accepts a deviation of
    0.2 rad/s; ``all`` counts every token of every answer. With a teacher, the teacher's choice is what is correct.
    """
    device = next(model.parameters()).device
    numbers, toward = _word_tables()
    was_training = model.training
    model.eval()
    sums: dict[str, list[float]] = {"vx": [], "wz": [], "wz_near": [], "all": []}
    for start in range(0, min(len(data), MEASURED), 64):
        index = np.arange(start, min(start + 64, len(data), MEASURED))
        batch = _to(make_batch(data, index, np.zeros(len(index), bool)), device)
        asked = (batch.target >= 0).cpu()
        targets = batch.target.cpu()[asked]
        with mixed_precision(device):
            choice = _answer_logits(model, batch).argmax(-1).cpu()
            right = targets if teacher is None else _answer_logits(teacher, batch).argmax(-1).cpu()
        place, question = batch.place_in_answer.cpu()[asked], batch.question.cpu()[asked]
        row = torch.arange(len(index))[:, None].expand(asked.shape)[asked]
        group = row * 100 + question
        relevant = torch.isin(group, group[torch.isin(targets, toward)])
        sums["all"] += (choice == right).tolist()
        for name, where in zip(("vx", "wz"), VELOCITY_PLACES, strict=True):
            mine = relevant & (place == where)
            sums[name] += (choice[mine] == right[mine]).tolist()
            if name == "wz":
                sums["wz_near"] += ((numbers[choice[mine]] - numbers[right[mine]]).abs() < 0.25).tolist()
    model.train(was_training)
    return {name: sum(values) / max(1, len(values)) for name, values in sums.items()}


def _word_tables() -> tuple[torch.Tensor, torch.Tensor]:
    """The number that each token is, NaN for none; and the tokens of answers that go toward an object in view."""
    tokenizer = build_tokenizer()
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    numbers = torch.full((len(words),), float("nan"))
    for i, word in enumerate(words):
        try:
            numbers[i] = float(word)
        except ValueError:
            continue
    return numbers, torch.tensor(tokenizer.convert_tokens_to_ids(["left", "right", "ahead", "reached"]))
