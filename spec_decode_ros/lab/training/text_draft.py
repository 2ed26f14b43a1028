"""The training recipe of a text pair's draft: the target answers prompts, a draft is pruned out of it and distilled."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.text.prompts import held_out_prompts, training_prompts
from spec_decode_ros.lab.training.acceptance import Acceptance, measured
from spec_decode_ros.lab.training.asking import Questions, ask
from spec_decode_ros.lab.training.cutting import Cut, cut
from spec_decode_ros.lab.training.distil import DistillationPhase, Report, fit
from spec_decode_ros.lab.training.teacher import TeacherExample
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.models.pair import load_drafter, load_verifier
from spec_decode_ros.models.pair_config import PairConfig, load_pair_config

CUT = Cut(layers=(0, 1, 2), inner=576, tokens=10240, table_width=192)
"""For SmolLM2-135M with its 30 layers of width 576 and inner width 1536; layers 0, 1 and 29 learned more slowly."""

HELD_OUT = 48
"""Held-out prompts for the figures during training; the final figures come from decoding other prompts."""

MEASURED = 16
WATCHED_SEED = 11
MEASURED_SEED = 12


@dataclass(frozen=True)
class TextDraftRun:
    """Settings of a training run.

    Attributes:
        pair: name or file of a pair; its target answers, its draft need not exist yet.
        out: folder for the draft.
        work: folder for the answers and the state of an interrupted run.
        prompts: number of training prompts.
        minutes: training time, after the target has answered.
        workers: processes that generate answers, and training threads.
        cut: the parts of the target that the draft starts from.
        seed: of prompts, answers and their order.
    """

    pair: str
    out: Path
    work: Path
    prompts: int = 8000
    minutes: float = 25.0
    workers: int = 2
    cut: Cut = CUT
    seed: int = 7

    def __post_init__(self) -> None:
        if self.prompts < 1 or not 0 < self.minutes < 1e6 or self.workers < 1 or self.seed < 0:
            raise SpecDecodeError("a draft needs at least one prompt, some minutes and one worker")

    @property
    def state(self) -> Path:
        """File for the state of the training."""
        return self.work / "learning.safetensors"


def train_draft(
    recipe: TextDraftRun,
    report: Report,
    asked: Callable[[str, int, int], None],
) -> None:
    """Train the draft, or resume its training.

    Args:
        report: called with the progress of the training.
        asked: called with `training` or `held-out`, the number of answered prompts and of all prompts.
    """
    import torch

    data, held_out = answered(recipe, asked)
    torch.set_num_threads(recipe.workers)
    torch.manual_seed(recipe.seed)
    target = load_verifier(recipe.pair, device="cpu", threads=recipe.workers).model
    draft = cut(target.model, recipe.cut, data)
    fit(draft, data, DistillationPhase(recipe.minutes, seed=recipe.seed), report, held_out, recipe.state)
    draft.half().save_pretrained(recipe.out)
    save_text(target, recipe.out)
    recipe.state.unlink(missing_ok=True)


def answered(
    recipe: TextDraftRun, asked: Callable[[str, int, int], None]
) -> tuple[Sequence[TeacherExample], Sequence[TeacherExample]]:
    """Teacher data for training prompts and for held-out prompts; what an earlier run made is reused."""
    training = tuple(itertools.islice(training_prompts(recipe.seed), recipe.prompts))
    watched = tuple(held_out_prompts(HELD_OUT, WATCHED_SEED))
    questions = Questions(recipe.pair, training, temperature=0.8, seed=recipe.seed)
    # Answers of another target or another length are kept apart.
    answers = f"{Path(recipe.pair).stem}-{questions.length}-"
    # Every second answer is sampled; the held-out ones are all greedy.
    held_out = ask(
        replace(questions, prompts=watched, temperature=0.0),
        recipe.work / f"{answers}held-out",
        recipe.workers,
        lambda done, total: asked("held-out", done, total),
    )
    data = ask(
        questions,
        recipe.work / f"{answers}training-{recipe.seed}",
        recipe.workers,
        lambda done, total: asked("training", done, total),
    )
    return data, held_out


def save_text(target: HfModel, folder: Path) -> None:
    """Write the target's tokenizer and chat template, which the draft shares; without whitespace, to save space."""
    target.text.tokenizer.save_pretrained(folder)
    file = folder / "tokenizer.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def measure(config: PairConfig, prompts: int = MEASURED) -> dict[str, dict[str, Acceptance]]:
    """Acceptance on held-out prompts, by sampling and by drafter: the draft model, and prompt lookup before it."""
    verifier = load_verifier(config)
    model = load_drafter(replace(config, lookup=0))
    drafters: dict[str, Drafter] = {"the draft model": model}
    if config.lookup:
        drafters["lookup, then the draft model"] = load_drafter(config)
    asked = held_out_prompts(prompts, MEASURED_SEED)
    samplings = {"greedy": Sampling(), "temperature 0.8": Sampling(temperature=0.8, seed=1)}
    return {
        sampled: {name: measured(drafter, verifier, asked, sampling) for name, drafter in drafters.items()}
        for sampled, sampling in samplings.items()
    }


def with_draft(pair: str, folder: Path) -> PairConfig:
    """The pair with the draft in `folder`."""
    config = load_pair_config(pair)
    return replace(config, draft=replace(config.draft, location=str(folder.resolve())))
