"""Distillation of a text draft: it learns what its target would have said next, on answers that the target gave.

What counts is that the target agrees, so the loss is the cross entropy against the target's own likeliest tokens and
not the text, and what is measured is acceptance: how often the draft's choice is the target's on answers to prompts from
templates that it has not seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from spec_decode_ros.lab.training.resume import restore, store
from spec_decode_ros.lab.training.teacher import Lesson
from spec_decode_ros.models.reduced import ReducedLlamaForCausalLM

REPORT_S = 30.0
STORE_S = 120.0

Report = Callable[[float, dict[str, float]], None]
"""Called with the fraction done and figures to show."""


@dataclass(frozen=True)
class TextBatch:
    """Lessons side by side, filled up at the end.

    Attributes:
        tokens: (rows, length).
        places: (N,) indices into the flattened `tokens` behind which a token of an answer is predicted.
        choices: rows of the draft's table, (N, K); -1 for tokens that the draft cannot say.
        chances: their probabilities, (N, K).
    """

    tokens: torch.Tensor
    places: torch.Tensor
    choices: torch.Tensor
    chances: torch.Tensor


def make_batch(lessons: Sequence[Lesson], row_of: torch.Tensor) -> TextBatch:
    """A batch; `row_of` says for every token its row in the draft's table, or -1."""
    length = max(len(lesson.tokens) for lesson in lessons) - 1
    tokens = torch.zeros(len(lessons), length, dtype=torch.long)
    places, choices, chances = [], [], []
    for number, lesson in enumerate(lessons):
        inputs = lesson.tokens[:-1]
        tokens[number, : len(inputs)] = inputs
        places.append(number * length + torch.arange(lesson.start - 1, len(inputs)))
        answered = slice(lesson.start - 1 - lesson.first, None)
        choices.append(lesson.choices[answered])
        chances.append(lesson.chances[answered])
    likely = row_of[torch.cat(choices).long()]
    return TextBatch(tokens, torch.cat(places), likely, torch.cat(chances).float().exp())


def batches(lessons: Sequence[Lesson], rows: int, seed: int) -> Iterator[list[Lesson]]:
    """Lessons of about the same length together, in random order, without end."""
    chance = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(lessons), generator=chance).tolist()
        for start in range(0, len(order), 16 * rows):
            some = sorted(order[start : start + 16 * rows], key=lambda index: len(lessons[index].tokens))
            groups = [some[first : first + rows] for first in range(0, len(some), rows)]
            for number in torch.randperm(len(groups), generator=chance).tolist():
                yield [lessons[index] for index in groups[number]]


def table_rows(draft: ReducedLlamaForCausalLM) -> torch.Tensor:
    """For every token its row in the draft's table, or -1 if the draft cannot say it."""
    rows = torch.full((draft.config.vocab_size,), -1)
    tokens = draft.lm_head.tokens.long()
    rows[tokens] = torch.arange(len(tokens))
    return rows


def loss_of(draft: ReducedLlamaForCausalLM, batch: TextBatch, sharpness: float) -> torch.Tensor:
    """Cross entropy against the target's distribution, made `sharpness` times as sharp."""
    hidden = draft.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
    logits = draft.lm_head.frequent(hidden.flatten(0, 1)[batch.places]).float()
    known = batch.choices >= 0
    wanted = torch.where(known, batch.chances, 0.0)
    if sharpness != 1:
        wanted = wanted.pow(sharpness)
        wanted = wanted / wanted.sum(dim=-1, keepdim=True).clamp_min(1e-6)
    scores = logits.gather(1, batch.choices.clamp_min(0))
    losses = wanted.sum(dim=-1) * logits.logsumexp(dim=-1) - (wanted * scores).sum(dim=-1)
    return losses.mean()


@dataclass(frozen=True)
class Course:
    """How a draft learns, bounded by time, so that it ends when it was told to on any machine."""

    minutes: float
    peak_lr: float = 1e-3
    rows: int = 10
    warmup: float = 0.03
    sharpness: float = 1.0
    seed: int = 0

    def learning_rate(self, fraction: float) -> float:
        """Linear warm-up, then a cosine to a hundredth."""
        if fraction < self.warmup:
            return self.peak_lr * max(fraction / self.warmup, 0.01)
        done = min(1.0, (fraction - self.warmup) / (1 - self.warmup))
        return self.peak_lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def fit(
    draft: ReducedLlamaForCausalLM,
    lessons: Sequence[Lesson],
    course: Course,
    report: Report,
    held_out: Sequence[Lesson] = (),
    state: Path | None = None,
) -> None:
    """Train `draft` in place.

    Args:
        held_out: lessons that acceptance is measured on now and then.
        state: a file from which a run that was cut off goes on, and where it leaves its state.
    """
    row_of = table_rows(draft)
    parameters = list(draft.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.02},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=course.peak_lr, betas=(0.9, 0.98), fused=True)
    draft.train()
    used = restore(state, draft, optimizer) if state else 0.0
    begun = shown = stored = time.monotonic()
    start = begun - used
    tokens = 0
    # Another order after a break, so that the same lessons are not taken twice.
    for chosen in batches(lessons, course.rows, course.seed + round(used)):
        fraction = (time.monotonic() - start) / (60 * course.minutes)
        if fraction >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = course.learning_rate(fraction)
        batch = make_batch(chosen, row_of)
        with _attention(), torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(draft, batch, course.sharpness)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        tokens += len(batch.places)
        now = time.monotonic()
        if state and now - stored > STORE_S:
            store(state, draft, optimizer, now - start)
            stored = now
        if now - shown > REPORT_S:
            figures = {"tokens/s": tokens / (now - begun), "loss": loss.item()}
            if held_out:
                figures |= acceptance(draft, held_out)
            report(fraction, figures)
            shown = time.monotonic()
    if state:
        store(state, draft, optimizer, time.monotonic() - start)
    draft.eval()


def _attention() -> AbstractContextManager[object]:
    # On a CPU the fused attention's backward pass costs more than all matrix products together.
    return sdpa_kernel(SDPBackend.MATH) if not torch.cuda.is_available() else nullcontext()


@torch.no_grad()
def agreement(draft: ReducedLlamaForCausalLM, lessons: Sequence[Lesson]) -> list[torch.Tensor]:
    """For each lesson, at which tokens of the answer the draft's first choice is what was said."""
    was_training = draft.training
    draft.eval()
    found = []
    for lesson in lessons:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = draft.model(input_ids=lesson.tokens[None, :-1], use_cache=False).last_hidden_state
            scores = draft.lm_head.frequent(hidden[0, lesson.start - 1 :])
        found.append(draft.lm_head.tokens.long()[scores.argmax(dim=-1)] == lesson.tokens[lesson.start :])
    draft.train(was_training)
    return found


def accepted_length(agreed: Sequence[torch.Tensor], drafted: int) -> float:
    """Tokens that a pass of the target commits, if each pass gets `drafted` tokens: those that hold and its own one."""
    passes = tokens = 0
    for row in agreed:
        place, flags = 0, row.tolist()
        while place < len(flags):
            held = 0
            while held < drafted and place + held < len(flags) and flags[place + held]:
                held += 1
            place += held + 1
            passes += 1
        tokens += len(flags)
    return tokens / max(1, passes)


def acceptance(draft: ReducedLlamaForCausalLM, lessons: Sequence[Lesson]) -> dict[str, float]:
    """Share of tokens at which the draft says what the target said, and tokens a pass with four drafted."""
    agreed = agreement(draft, lessons)
    flags = torch.cat(agreed).float()
    return {"acceptance": flags.mean().item(), "length_4": accepted_length(agreed, 4)}
