"""Training the planner's target: low-rank adapters of a frozen language model learn plans from sentences."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from spec_decode_ros.actions.prompt import build_plan_prompt
from spec_decode_ros.lab.training.low_rank import attach
from spec_decode_ros.lab.training.optimizer import adamw, attention_kernel, mixed_precision, warmup_cosine
from spec_decode_ros.lab.training.plan_sentences import PlannedSentence, examples
from spec_decode_ros.lab.training.resume import restore, store
from spec_decode_ros.models.hf_model import HfModel

ROWS = 8
"""Sentences in a batch."""

GROUPED = 8
"""Batches whose sentences are sorted by length together, so that little is padded."""

PEAK_LR = 1e-3
REPORT_S = 30.0
STORE_S = 300.0

Report = Callable[[float, dict[str, float]], None]
"""Called with the fraction done and figures to show."""


class Tokens(NamedTuple):
    """A sentence and its plan as token ids; the plan begins at `start` and ends with the end token."""

    ids: tuple[int, ...]
    start: int


def tokenized(model: HfModel, example: PlannedSentence) -> Tokens:
    """The prompt and the plan as the pair will see them."""
    prompt = model.text.encode_prompt(model.text.render(build_plan_prompt(example.sentence), 0))
    return Tokens((*prompt, *model.text.encode(example.plan), min(model.text.eos_ids)), len(prompt))


def batches(model: HfModel, stream: Iterable[PlannedSentence], rows: int = ROWS) -> Iterator[list[Tokens]]:
    """Batches of sentences of similar length."""
    stream = iter(stream)
    while group := list(itertools.islice(stream, rows * GROUPED)):
        tokens = sorted((tokenized(model, example) for example in group), key=lambda each: len(each.ids))
        cut = [tokens[at : at + rows] for at in range(0, len(tokens), rows)]
        # The longest are not always last.
        yield from cut[1::2] + cut[0::2]


def loss_of(model: HfModel, batch: Sequence[Tokens]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross entropy of the plans' tokens, and for each sentence whether every token was the likeliest, (rows,)."""
    length = max(len(each.ids) for each in batch) - 1
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    places, wanted, owner = [], [], []
    for row, each in enumerate(batch):
        ids[row, : len(each.ids) - 1] = torch.tensor(each.ids[:-1])
        places.append(row * length + torch.arange(each.start - 1, len(each.ids) - 1))
        wanted.append(torch.tensor(each.ids[each.start :]))
        owner.append(torch.full((len(each.ids) - each.start,), row))
    decoder: Any = model.model.get_decoder()
    hidden = decoder(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)
    logits = model.head(hidden[torch.cat(places)]).float()
    target = torch.cat(wanted)
    wrong = torch.zeros(len(batch)).index_add_(0, torch.cat(owner), (logits.argmax(-1) != target).float())
    return F.cross_entropy(logits, target), wrong == 0


def train_target(model: HfModel, sentences: int, rank: int, seed: int, state: Path, report: Report) -> None:
    """Attach adapters to the model's decoder and train them on so many sentences, none of them twice.

    Args:
        model: the language model, on a CPU.
        sentences: how many.
        rank: of the adapters.
        seed: of adapters and sentences.
        state: a file that the run's state is written to, and resumed from if it exists.
        report: called with the progress.
    """
    torch.manual_seed(seed)
    decoder: Any = model.model.get_decoder()
    model.model.requires_grad_(False)
    attach(decoder, rank)
    trained = [p for p in decoder.parameters() if p.requires_grad]
    optimizer = adamw(trained, weight_decay=0.01)
    done = begun_at = round(restore(state, decoder, optimizer))
    begun = shown = stored = time.monotonic()
    right: list[torch.Tensor] = []
    stream = itertools.islice(examples(seed), done, sentences)
    for batch in batches(model, stream):
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(PEAK_LR, done / sentences, 0.03, floor=0.02)
        with attention_kernel(model.device), mixed_precision(model.device):
            loss, whole = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        done += len(batch)
        right.append(whole)
        now = time.monotonic()
        if now - stored > STORE_S:
            store(state, decoder, optimizer, done)
            stored = now
        if now - shown > REPORT_S:
            speed = (done - begun_at) / (now - begun)
            share = torch.cat(right[-20:]).float().mean().item()
            report(
                done / sentences, {"sentences": done, "a second": speed, "loss": loss.item(), "right": share}
            )
            shown = now
    store(state, decoder, optimizer, done)
    report(1.0, {})
