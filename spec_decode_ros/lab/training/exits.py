"""Training early exits: the target stays as it is, and small adapters learn to foretell its final choice.

First the target runs over answers and its hidden states are kept, then the adapters are fitted to its own final
distributions (distillation), which needs the target no more, and last they are measured on answers that the target
gives itself, as robots get them. See :mod:`spec_decode_ros.models.exits`.
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
from spec_decode_ros.lab.training import network
from spec_decode_ros.lab.training.batches import Batch, batches
from spec_decode_ros.lab.training.dataset import Dataset, load, make
from spec_decode_ros.lab.training.fit import Report, TrainingPhase
from spec_decode_ros.lab.training.frames import Example, examples
from spec_decode_ros.lab.training.passes import Passes
from spec_decode_ros.lab.training.processor import MERGE, PATCH, build_tokenizer
from spec_decode_ros.models.answer import CachedSequence
from spec_decode_ros.models.decoders import AfterLayer
from spec_decode_ros.models.exits import ExitAdapter, ExitFigures, Exits, final_norm, layer_count
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.vocabulary import fingerprint
from spec_decode_ros.sim.render import to_jpeg

SURE = 0.98
"""Agreement with the final choice from which on an exit counts as sure. Ten such tokens in a row hold in 4 of 5 cases."""

WIDEST = 512
"""Most inner units of an adapter."""

FRAMES_A_BATCH = 16
ROWS_A_STEP = 512
PEAK_LR = 2e-3
REPORT_S = 10.0

HELD_OUT_SEED_OFFSET = 98
FRAMES_SEED_FACTOR = 1_000_003  # far from the seeds of the held-out frames


@dataclass(frozen=True)
class ExitTraining:
    """How the exits of a target are made.

    Attributes:
        work: a folder for frames; those that `spec-decode train` left there are taken.
        layers: that exits come after; none for the default ones.
        frames: to learn from, with four questions each.
        minutes: of learning, after the target has run over the frames.
        measured: further frames, to measure on.
        agreement: with the final choice among the tokens of which an exit counts as sure.
        workers: processes that render.
        style: of the prompts.
        max_tokens: of an answer.
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
    """What the target computes where N answer tokens are predicted.

    Attributes:
        hidden: for some layers, the hidden states (N, width) that come out of them.
        final: those that go into the output head, (N, width).
    """

    hidden: Mapping[int, torch.Tensor]
    final: torch.Tensor

    def __len__(self) -> int:
        return len(self.final)


def make_exits(
    model: HfModel, plan: ExitTraining, report: Report
) -> tuple[list[ExitAdapter], list[ExitFigures]]:
    """Train and measure exits for a target; raises SpecDecodeError where it has no such layers."""
    layers = usable_layers(model, plan.layers or default_layers(model))
    if in_batches(model):
        stream = batches([_frames(plan)], FRAMES_A_BATCH, plan.seed)
        count = plan.frames // FRAMES_A_BATCH
        rows = batched_rows(model, _counted(stream, count, "look", report), layers)
    else:
        stream = examples(plan.seed * FRAMES_SEED_FACTOR, plan.frames)
        seen = _counted(stream, plan.frames, "look", report)
        rows = spoken_rows(model, seen, layers, plan.style, plan.max_tokens)
    adapters = train_exits(model, rows, plan.minutes, plan.seed, report)
    stream = examples(plan.seed + HELD_OUT_SEED_OFFSET, plan.measured)
    held_out = _counted(stream, plan.measured, "measure", report)
    rows = spoken_rows(model, held_out, layers, plan.style, plan.max_tokens)
    return adapters, measure(model, adapters, rows, plan.agreement)


def _frames(plan: ExitTraining) -> Dataset:
    """The frames of the pair's own training if there are enough, else new ones."""
    made = plan.work / "train"
    if (made / "recipe.json").exists():
        data = load(made)
        if len(data) >= plan.frames:
            return data
    return make(plan.work / "exits", plan.frames, plan.seed, plan.workers)


Item = TypeVar("Item")


def _counted(items: Iterable[Item], count: int, name: str, report: Report) -> Iterator[Item]:
    """The first `count` items, with a report now and then."""
    shown = time.monotonic()
    for index, item in enumerate(itertools.islice(items, count)):
        yield item
        if time.monotonic() - shown > REPORT_S:
            shown = time.monotonic()
            report(name, (index + 1) / count, {})
    report(name, 1.0, {})


def usable_layers(model: HfModel, layers: Sequence[int]) -> tuple[int, ...]:
    """The layers in rising order. Raises SpecDecodeError for one that the target lacks, or that is its last."""
    last = layer_count(model) - 1
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
    depth = layer_count(model)
    return tuple(sorted({max(0, 2 * depth // 5 - 1), max(0, 4 * depth // 5 - 1)}))


def in_batches(model: HfModel) -> bool:
    """Whether the target is of the kind that :mod:`~spec_decode_ros.lab.training.network` runs in batches."""
    images = getattr(model.model.config, "vision_config", None)
    return (
        model.model.config.model_type == "qwen2_vl"
        and (getattr(images, "patch_size", 0), getattr(images, "spatial_merge_size", 0)) == (PATCH, MERGE)
        and model.text.vocabulary == fingerprint(build_tokenizer())
    )


@torch.no_grad()
def batched_rows(
    model: HfModel, stream: Iterable[Batch], layers: Sequence[int], passes: Passes = network
) -> Rows:
    """Rows for the expert's answers, a batch of frames at a time, for targets of the architecture of ``passes``."""
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
            visual = passes.see(model.model, batch.frames)
            last = passes.think(model.model, visual, batch.tokens, batch.question, batch.position)
            asked = batch.target >= 0
            final.append(last[asked])
            for layer in layers:
                kept[layer].append(seen[layer][:, -last.shape[1] :][asked])
    finally:
        for hook in hooks:
            hook.remove()
    return _rows(kept, final)


@torch.no_grad()
def spoken_rows(
    model: HfModel,
    examples: Iterable[Example],
    layers: Sequence[int],
    style: PromptStyle = "trained",
    max_tokens: int = 32,
) -> Rows:
    """Rows for the answers that the target itself gives, token by token, on the way that robots' questions take.

    Works with any target. One that takes text only gets the questions without the frames.
    """
    last = layer_count(model) - 1
    kept: dict[int, list[torch.Tensor]] = {layer: [] for layer in (*layers, last)}
    # Clones, as a row of its own would keep the whole prompt's in memory.
    keep: AfterLayer = {
        layer: lambda rows, box=box: box.append(rows.clone())  # type: ignore[misc]
        for layer, box in kept.items()
    }
    for example in examples:
        images = [to_jpeg(example.frame)] if model.images else []
        for question in example.questions:
            text = build_prompt(question.instruction, question.last and format_action(question.last), style)
            answer = CachedSequence(model, model.prepare(text, images))
            tokens: list[int] = []
            while len(tokens) < max_tokens and not (tokens and tokens[-1] in model.text.eos_ids):
                tokens.append(int(answer.logits(tokens, 1, after_layer=keep)[0].argmax()))
    final = [final_norm(model)(rows) for rows in kept[last]]
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
    inner: int | None = None,
    steps: int | None = None,
) -> list[ExitAdapter]:
    """An adapter for each layer of `rows`, in their order, after so many minutes of learning from the target.

    Args:
        inner: units inside each adapter; by default as many as the target is wide, at most 512.
        steps: learn no longer than that either.
    """
    phase = TrainingPhase("exits", minutes, PEAK_LR, batch=min(ROWS_A_STEP, len(rows)))
    torch.manual_seed(seed)
    width = rows.final.shape[1]
    adapters = [ExitAdapter(width, inner or min(width, WIDEST)).to(model.device) for _ in rows.hidden]
    optimizer = torch.optim.AdamW(
        [p for a in adapters for p in a.parameters()], lr=PEAK_LR, weight_decay=0.01
    )
    model.model.requires_grad_(False)
    norm = final_norm(model)
    start = shown = time.monotonic()
    for step, index in enumerate(_shuffled(len(rows), phase.batch, seed)):
        fraction = max((time.monotonic() - start) / (60 * minutes), step / steps if steps else 0.0)
        if fraction >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = phase.learning_rate(fraction)
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
    """(N, vocabulary) of what goes into the output head, (N, width)."""
    return model.head(final)[:, : model.text.size].float().log_softmax(-1)


def _shuffled(count: int, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Indices without end, every pass over them in a new order."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator)[: count // size * size].split(size)


@torch.no_grad()
def measure(
    model: HfModel, adapters: Sequence[ExitAdapter], rows: Rows, wanted: float = SURE
) -> list[ExitFigures]:
    """How each of the exits of `rows` agrees with the target's final choices, and from which confidence on it is sure.

    Args:
        wanted: agreement among the tokens of which it counts as sure. The threshold is the lowest confidence with
            that, and 1 if there is none.
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
    """The figures of an exit that was `sure` (N,) of its choices, of which some were `right` (N,)."""
    order = sure.argsort(descending=True)
    sure, right = sure[order].double().cpu(), right[order].double().cpu()
    share_right = right.cumsum(0) / torch.arange(1, len(right) + 1)
    ends = torch.ones(len(sure), dtype=torch.bool)
    ends[:-1] = sure[:-1] != sure[1:]  # all of one confidence or none
    good = (ends & (share_right >= wanted)).nonzero()
    if not len(good):
        return ExitFigures(layer, 1.0, float(right.mean()), 0.0, 0.0)
    last = int(good[-1])
    threshold = min(1.0, float(sure[last]))
    return ExitFigures(
        layer, threshold, float(right.mean()), float(share_right[last]), (last + 1) / len(sure)
    )
