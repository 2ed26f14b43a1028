"""Distillation of a text draft: it learns the target's next-token distributions on answers that the target generated.

A draft is as good as the target's agreement with it. So the loss is the cross entropy against the target's likeliest tokens,
not against the text, and the measure is acceptance: how often the draft's first choice is the target's token, on answers to
held-out prompts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from spec_decode_ros.lab.training.optimizer import adamw, attention_kernel, mixed_precision, warmup_cosine
from spec_decode_ros.lab.training.resume import restore, store
from spec_decode_ros.lab.training.teacher import TeacherExample
from spec_decode_ros.models.reduced_vocabulary import ReducedLlamaForCausalLM

REPORT_S = 30.0
STORE_S = 120.0

Report = Callable[[float, dict[str, float]], None]
"""Called with the fraction done and figures to show."""


@dataclass(frozen=True)
class TextBatch:
    """Examples side by side, padded at the end.

    Attributes:
        tokens: (rows, length).
        places: (N,) indices into the flattened `tokens` whose next token belongs to an answer.
        wanted_rows: rows of the draft's table for the target's likeliest tokens, (N, K); -1 for tokens that it lacks.
        probabilities: of these tokens, (N, K).
    """

    tokens: torch.Tensor
    places: torch.Tensor
    wanted_rows: torch.Tensor
    probabilities: torch.Tensor


def make_batch(examples: Sequence[TeacherExample], row_of: torch.Tensor) -> TextBatch:
    """A batch; `row_of` holds for every token its row in the draft's table, or -1."""
    length = max(len(example.tokens) for example in examples) - 1
    tokens = torch.zeros(len(examples), length, dtype=torch.long)
    places, top_tokens, logprobs = [], [], []
    for number, example in enumerate(examples):
        inputs = example.tokens[:-1]
        tokens[number, : len(inputs)] = inputs
        places.append(number * length + torch.arange(example.start - 1, len(inputs)))
        answered = slice(example.start - 1 - example.first, None)
        top_tokens.append(example.top_tokens[answered])
        logprobs.append(example.top_logprobs[answered])
    wanted_rows = row_of[torch.cat(top_tokens).long()]
    return TextBatch(tokens, torch.cat(places), wanted_rows, torch.cat(logprobs).float().exp())


def batches(data: Sequence[TeacherExample], rows: int, seed: int) -> Iterator[list[TeacherExample]]:
    """Endless batches of examples of similar length, in random order."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(data), generator=generator).tolist()
        for start in range(0, len(order), 16 * rows):
            some = sorted(order[start : start + 16 * rows], key=lambda index: len(data[index].tokens))
            groups = [some[first : first + rows] for first in range(0, len(some), rows)]
            for number in torch.randperm(len(groups), generator=generator).tolist():
                yield [data[index] for index in groups[number]]


def table_rows(draft: ReducedLlamaForCausalLM) -> torch.Tensor:
    """For every token its row in the draft's table, or -1 if the draft cannot generate it."""
    rows = torch.full((draft.config.vocab_size,), -1)
    tokens = draft.lm_head.tokens.long()
    rows[tokens] = torch.arange(len(tokens))
    return rows


def loss_of(draft: ReducedLlamaForCausalLM, batch: TextBatch) -> torch.Tensor:
    """Mean cross entropy against the target's distributions."""
    hidden = draft.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
    logits = draft.lm_head.frequent(hidden.flatten(0, 1)[batch.places]).float()
    wanted = torch.where(batch.wanted_rows >= 0, batch.probabilities, 0.0)
    scores = logits.gather(1, batch.wanted_rows.clamp_min(0))
    losses = wanted.sum(dim=-1) * logits.logsumexp(dim=-1) - (wanted * scores).sum(dim=-1)
    return losses.mean()


@dataclass(frozen=True)
class DistillationPhase:
    """Settings of a training run, which ends after some minutes, or where `examples` is given after so many examples."""

    minutes: float = 0.0
    peak_lr: float = 1e-3
    rows: int = 10
    warmup: float = 0.03
    seed: int = 0
    examples: int = 0

    def learning_rate(self, fraction: float) -> float:
        """Linear warm-up, then a cosine to a hundredth."""
        return warmup_cosine(self.peak_lr, fraction, self.warmup, floor=0.01)


def fit(
    draft: ReducedLlamaForCausalLM,
    data: Sequence[TeacherExample],
    phase: DistillationPhase,
    report: Report,
    held_out: Sequence[TeacherExample] = (),
    state: Path | None = None,
) -> None:
    """Train `draft` in place.

    Args:
        held_out: examples that acceptance is measured on from time to time.
        state: a file that the run's state is written to, and resumed from if it exists.
    """
    row_of = table_rows(draft)
    optimizer = adamw(draft.parameters(), weight_decay=0.02)
    draft.train()
    used = restore(state, draft, optimizer) if state else 0.0
    begun = shown = stored = time.monotonic()
    tokens, done = 0, used
    # A resumed run draws in another order, so that it does not repeat the same examples.
    for chosen in batches(data, phase.rows, phase.seed + round(used)):
        fraction = done / (phase.examples or 60 * phase.minutes)
        if fraction >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = phase.learning_rate(fraction)
        batch = make_batch(chosen, row_of)
        with attention_kernel(batch.tokens.device), mixed_precision(batch.tokens.device):
            loss = loss_of(draft, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(draft.parameters(), 1.0)
        optimizer.step()
        tokens += len(batch.places)
        now = time.monotonic()
        done = done + len(chosen) if phase.examples else used + now - begun
        if state and now - stored > STORE_S:
            store(state, draft, optimizer, done)
            stored = now
        if now - shown > REPORT_S:
            figures = {"tokens/s": tokens / (now - begun), "loss": loss.item()}
            if held_out:
                figures |= acceptance(draft, held_out)
            report(fraction, figures)
            shown = time.monotonic()
    if state:
        store(state, draft, optimizer, done)
    report(1.0, acceptance(draft, held_out) if held_out else {})
    draft.eval()


@torch.no_grad()
def agreement(draft: ReducedLlamaForCausalLM, data: Sequence[TeacherExample]) -> list[torch.Tensor]:
    """For each example, at which answer tokens the draft's first choice is the target's token."""
    was_training = draft.training
    draft.eval()
    found = []
    for example in data:
        with mixed_precision(draft.device):
            hidden = draft.model(input_ids=example.tokens[None, :-1], use_cache=False).last_hidden_state
            scores = draft.lm_head.frequent(hidden[0, example.start - 1 :])
        found.append(draft.lm_head.tokens.long()[scores.argmax(dim=-1)] == example.tokens[example.start :])
    draft.train(was_training)
    return found


def accepted_length(agreed: Sequence[torch.Tensor], drafted: int) -> float:
    """Tokens committed per target pass with `drafted` tokens a pass: the accepted ones and the target's own."""
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


def acceptance(draft: ReducedLlamaForCausalLM, data: Sequence[TeacherExample]) -> dict[str, float]:
    """Share of the tokens at which the draft agrees with the target, and the accepted length with four drafted tokens."""
    agreed = agreement(draft, data)
    flags = torch.cat(agreed).float()
    return {"acceptance": flags.mean().item(), "length_4": accepted_length(agreed, 4)}
