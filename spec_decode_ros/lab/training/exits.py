"""Training early exits: adapters behind inner layers of a frozen target learn to predict its final tokens.

First the target runs on answers and its hidden states are recorded. Then the adapters are fitted to its final
distributions (distillation). At last they are measured on answers that the target generates itself. See
:mod:`spec_decode_ros.models.exits`.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch.nn import functional as F

from spec_decode_ros.actions.action import format_action
from spec_decode_ros.actions.prompt import PromptStyle, build_prompt
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training.batches import Batch, batches
from spec_decode_ros.lab.training.dataset import Dataset, load, make
from spec_decode_ros.lab.training.fit import Report
from spec_decode_ros.lab.training.frames import Example, examples
from spec_decode_ros.lab.training.network import encode_frames, text_hidden_states
from spec_decode_ros.lab.training.optimizer import warmup_cosine
from spec_decode_ros.lab.training.processor import MERGE, PATCH, build_tokenizer
from spec_decode_ros.models.cached_sequence import CachedSequence
from spec_decode_ros.models.decoder import LayerHooks
from spec_decode_ros.models.exits import ExitAdapter, Exits
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.interfaces import ExitFigures
from spec_decode_ros.models.prompts import prepare
from spec_decode_ros.models.vocabulary import fingerprint
from spec_decode_ros.sim.render import to_jpeg

SURE = 0.98
"""Least agreement with the final token at which an exit counts as sure: ten such tokens in a row hold in 4 of 5 cases."""

WIDEST = 512
"""Largest number of inner units of an adapter."""

FRAMES_A_BATCH = 16
ROWS_A_STEP = 512
PEAK_LR, WARM_UP = 2e-3, 0.04
REPORT_S = 10.0

HELD_OUT_SEED_OFFSET = 98
FRAMES_SEED_FACTOR = 1_000_003  # far from the seeds of the held-out frames


@dataclass(frozen=True)
class ExitTraining:
    """Settings for training a target's exits.

    Attributes:
        work: folder for frames; those that `spec-decode train` left there are reused.
        layers: the layers that get an exit; empty for the default ones.
        frames: number of training frames, with four questions each.
        minutes: training time, after the target has run on the frames.
        measured: number of further frames to measure on.
        agreement: agreement with the final token, among the tokens of which an exit counts as sure.
        workers: rendering processes.
        style: prompt style.
        max_tokens: longest answer.
    """

    work: Path
    layers: tuple[int, ...] = ()
    frames: int = 3000
    minutes: float = 2.0
    measured: int = 100
    agreement: float = SURE
    workers: int = 2
    seed: int = 1
    style: PromptStyle = "trained"
    max_tokens: int = 32

    def __post_init__(self) -> None:
        if self.frames < FRAMES_A_BATCH or self.measured < 1 or self.workers < 1 or self.seed < 0:
            raise SpecDecodeError(
                f"Exits need at least {FRAMES_A_BATCH} frames to learn from, one to be measured on, one worker and a "
                "seed from 0."
            )
        if not 0 < self.minutes < math.inf:
            raise SpecDecodeError(f"minutes must be a positive number, not {self.minutes}.")
        if not 0 < self.agreement <= 1:
            raise SpecDecodeError(f"agreement must be above 0 and at most 1, not {self.agreement}.")


@dataclass(frozen=True)
class Rows:
    """Hidden states of the target at the N positions that predict an answer token.

    Attributes:
        hidden: by layer, its output (N, width).
        final: the input of the output head, (N, width).
    """

    hidden: Mapping[int, torch.Tensor]
    final: torch.Tensor

    def __len__(self) -> int:
        return len(self.final)


def make_exits(
    model: HfModel, recipe: ExitTraining, report: Report
) -> tuple[list[ExitAdapter], list[ExitFigures]]:
    """Train and measure a target's exits. Raises SpecDecodeError if it lacks one of the layers."""
    layers = usable_layers(model, recipe.layers or default_layers(model))
    if in_batches(model):
        stream = batches([_frames(recipe)], FRAMES_A_BATCH, recipe.seed)
        count = recipe.frames // FRAMES_A_BATCH
        rows = batched_rows(model, _counted(stream, count, "look", report), layers)
    else:
        stream = examples(recipe.seed * FRAMES_SEED_FACTOR, recipe.frames)
        seen = _counted(stream, recipe.frames, "look", report)
        rows = generated_rows(model, seen, layers, recipe.style, recipe.max_tokens)
    adapters = train_exits(model, rows, recipe.minutes, recipe.seed, report)
    stream = examples(recipe.seed + HELD_OUT_SEED_OFFSET, recipe.measured)
    held_out = _counted(stream, recipe.measured, "measure", report)
    rows = generated_rows(model, held_out, layers, recipe.style, recipe.max_tokens)
    return adapters, measure(model, adapters, rows, recipe.agreement)


def _frames(recipe: ExitTraining) -> Dataset:
    """The frames of the pair's training if there are enough, else new ones."""
    made = recipe.work / "train"
    if (made / "recipe.json").exists():
        data = load(made)
        if len(data) >= recipe.frames:
            return data
    return make(recipe.work / "exits", recipe.frames, recipe.seed, recipe.workers)


Item = TypeVar("Item")


def _counted(items: Iterable[Item], count: int, name: str, report: Report) -> Iterator[Item]:
    """The first `count` items, with a report from time to time."""
    shown = time.monotonic()
    for index, item in enumerate(itertools.islice(items, count)):
        yield item
        if time.monotonic() - shown > REPORT_S:
            shown = time.monotonic()
            report(name, (index + 1) / count, {})
    report(name, 1.0, {})


def usable_layers(model: HfModel, layers: Sequence[int]) -> tuple[int, ...]:
    """The layers in ascending order. Raises SpecDecodeError for a layer that the target lacks, and for its last one."""
    last = model.layer_count - 1
    if not last:
        raise SpecDecodeError("This target has one decoder layer only, so there is nothing to leave early.")
    chosen = tuple(sorted(set(layers)))
    if not chosen or chosen[0] < 0 or chosen[-1] >= last:
        raise SpecDecodeError(
            f"Exits go after layers 0 to {last - 1} of this target, whose last layer is {last}, not after "
            f"{', '.join(map(str, chosen)) or 'none'}: choose others."
        )
    return chosen


def default_layers(model: HfModel) -> tuple[int, ...]:
    """After the second fifth of the layers and after the last but one fifth."""
    depth = model.layer_count
    return tuple(sorted({max(0, 2 * depth // 5 - 1), max(0, 4 * depth // 5 - 1)}))


def in_batches(model: HfModel) -> bool:
    """Whether the target has the shipped pair's architecture, which :mod:`~spec_decode_ros.lab.training.network` batches."""
    images = getattr(model.model.config, "vision_config", None)
    return (
        model.model.config.model_type == "qwen2_vl"
        and (getattr(images, "patch_size", 0), getattr(images, "spatial_merge_size", 0)) == (PATCH, MERGE)
        and model.text.vocabulary == fingerprint(build_tokenizer())
    )


@torch.no_grad()
def batched_rows(model: HfModel, stream: Iterable[Batch], layers: Sequence[int]) -> Rows:
    """Rows for the expert's answers, one batch of frames at a time; only for the shipped pair's architecture."""
    decoder = model.model.get_decoder()
    seen: dict[int, torch.Tensor] = {}
    kept: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    final = []
    hooks = [
        decoder.layers[layer].register_forward_hook(
            lambda module, inputs, output, layer=layer: seen.update({layer: output})
        )
        for layer in layers
    ]
    try:
        for batch in stream:
            batch = Batch(**{name: value.to(model.device) for name, value in vars(batch).items()})
            visual = encode_frames(model.model, batch.frames)
            last = text_hidden_states(model.model, visual, batch.tokens, batch.question, batch.position)
            asked = batch.target >= 0
            final.append(last[asked])
            for layer in layers:
                kept[layer].append(seen[layer][:, -last.shape[1] :][asked])
    finally:
        for hook in hooks:
            hook.remove()
    return _rows(kept, final)


@torch.no_grad()
def generated_rows(
    model: HfModel,
    examples: Iterable[Example],
    layers: Sequence[int],
    style: PromptStyle = "trained",
    max_tokens: int = 32,
) -> Rows:
    """Rows for answers that the target generates token by token, through the code that serves robots.

    Works with any target; a text-only target gets the questions without the frames.
    """
    last = model.layer_count - 1
    kept: dict[int, list[torch.Tensor]] = {layer: [] for layer in (*layers, last)}
    # Cloned: a slice would keep the whole prompt's hidden states in memory.
    keep: LayerHooks = {
        layer: lambda rows, box=box: box.append(rows.clone())  # type: ignore[misc]
        for layer, box in kept.items()
    }
    for example in examples:
        images = [to_jpeg(example.frame)] if model.images else []
        for question in example.questions:
            text = build_prompt(question.instruction, question.last and format_action(question.last), style)
            answer = CachedSequence(model, prepare(model, text, images))
            tokens: list[int] = []
            while len(tokens) < max_tokens and not (tokens and tokens[-1] in model.text.eos_ids):
                tokens.append(int(answer.logits(tokens, 1, hooks=keep)[0].argmax()))
    final = [model.final_norm(rows) for rows in kept[last]]
    return _rows({layer: kept[layer] for layer in layers}, final)


def _rows(kept: Mapping[int, Sequence[torch.Tensor]], final: Sequence[torch.Tensor]) -> Rows:
    if not final:
        raise SpecDecodeError("Exits cannot be trained or measured on no answers: ask for more frames.")
    return Rows({layer: torch.cat(list(rows)) for layer, rows in kept.items()}, torch.cat(list(final)))


def train_exits(
    model: HfModel,
    rows: Rows,
    minutes: float,
    seed: int,
    report: Report,
    steps: int = 0,
) -> list[ExitAdapter]:
    """Train an adapter for each layer of `rows`, for some minutes, or where `steps` is given for so many; in their order."""
    size = min(ROWS_A_STEP, len(rows))
    torch.manual_seed(seed)
    width = rows.final.shape[1]
    adapters = [ExitAdapter(width, min(width, WIDEST)).to(model.device) for _ in rows.hidden]
    optimizer = torch.optim.AdamW(
        [p for a in adapters for p in a.parameters()], lr=PEAK_LR, weight_decay=0.01
    )
    model.model.requires_grad_(False)
    norm = model.final_norm
    start = shown = time.monotonic()
    for step, index in enumerate(_shuffled(len(rows), size, seed)):
        fraction = step / steps if steps else (time.monotonic() - start) / (60 * minutes)
        if fraction >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(PEAK_LR, fraction, WARM_UP)
        wanted = _log_probabilities(model, rows.final[index])
        losses = [
            F.kl_div(
                _log_probabilities(model, norm(adapter(hidden[index].float()).to(rows.final.dtype))),
                wanted,
                log_target=True,
                reduction="batchmean",
            )
            for adapter, hidden in zip(adapters, rows.hidden.values(), strict=True)
        ]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        if time.monotonic() - shown > REPORT_S:
            shown = time.monotonic()
            named = {f"loss {layer}": loss.item() for layer, loss in zip(rows.hidden, losses, strict=True)}
            report("learn", fraction, {"step": step, **named})
    return [adapter.eval() for adapter in adapters]


def _log_probabilities(model: HfModel, final: torch.Tensor) -> torch.Tensor:
    """Log probabilities (N, vocabulary) for inputs (N, width) of the output head."""
    return model.head(final)[:, : model.text.size].float().log_softmax(-1)


def _shuffled(count: int, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Endless batches of indices; every epoch is reshuffled."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator)[: count // size * size].split(size)


@torch.no_grad()
def measure(
    model: HfModel, adapters: Sequence[ExitAdapter], rows: Rows, wanted: float = SURE
) -> list[ExitFigures]:
    """Each exit's agreement with the target's final tokens, and the confidence threshold above which it is sure.

    Args:
        wanted: agreement that the tokens above the threshold have at least. The threshold is the lowest confidence with
            that agreement, and 1 if there is none.
    """
    unmeasured = [ExitFigures(layer, 1.0, 0.0, 0.0, 0.0) for layer in rows.hidden]
    exits = Exits(model, adapters, unmeasured)
    truth = _log_probabilities(model, rows.final).argmax(-1)
    figures = []
    for layer, hidden in rows.hidden.items():
        sure, choice = exits.logits(layer, hidden).float().softmax(-1).max(-1)
        figures.append(calibrate(layer, sure, choice == truth, wanted))
    return figures


def calibrate(layer: int, sure: torch.Tensor, right: torch.Tensor, wanted: float) -> ExitFigures:
    """The figures of an exit, from the confidence `sure` (N,) of its choices and whether they were `right` (N,)."""
    order = sure.argsort(descending=True)
    sure, right = sure[order].double().cpu(), right[order].double().cpu()
    share_right = right.cumsum(0) / torch.arange(1, len(right) + 1)
    ends = torch.ones(len(sure), dtype=torch.bool)
    ends[:-1] = sure[:-1] != sure[1:]  # equal confidences are on the same side of the threshold
    good = (ends & (share_right >= wanted)).nonzero()
    if not len(good):
        return ExitFigures(layer, 1.0, float(right.mean()), 0.0, 0.0)
    last = int(good[-1])
    threshold = min(1.0, float(sure[last]))
    return ExitFigures(
        layer, threshold, float(right.mean()), float(share_right[last]), (last + 1) / len(sure)
    )
