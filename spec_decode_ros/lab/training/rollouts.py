"""Training data from where the model itself goes: it drives, and the expert says what would have been right.

A model that learned from chosen poses alone does not know how to get out of its own mistakes. This is DAgger (Ross,
Gordon, Bagnell: A reduction of imitation learning and structured prediction to no-regret online learning, 2011).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, Qwen2VLForConditionalGeneration

from spec_decode_ros.actions.action import ACTION_PERIOD_S, Action, ActionError, parse_action
from spec_decode_ros.actions.commands import Command
from spec_decode_ros.lab.training import dataset, network
from spec_decode_ros.lab.training.batches import pack
from spec_decode_ros.lab.training.dataset import PAD, Layout, Source
from spec_decode_ros.lab.training.frames import (
    COMBINATIONS,
    TINY,
    Example,
    PairView,
    Question,
    View,
    ask,
    example,
    look,
)
from spec_decode_ros.lab.training.passes import Passes
from spec_decode_ros.sim.expert import Pose, collides, decide, move
from spec_decode_ros.sim.scene import Scene, random_scene
from spec_decode_ros.sim.stage import Stage

AT_ONCE = 8
MOST_STEPS = 75
STILL_STEPS = 4
ABSENT = 0.08
"""Share of the rollouts that ask for something that is not there."""

LAG = 0.35
"""How much of a period passes before the legs follow a new command."""


def driven_by(checkpoint: Path) -> Source:
    """Examples from rollouts of the model in a checkpoint folder."""
    return partial(_drive, checkpoint)


def _drive(checkpoint: Path, seed: int, count: int) -> Iterator[Example]:
    torch.set_num_threads(1)
    model = Qwen2VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    return rollouts(model, seed, count)


@dataclass
class Rollout:
    """A robot on its way: where it is and was, how it moves, what it was told and what it said last."""

    scene: Scene
    command: Command
    instruction: str
    gain: float
    pose: Pose
    before: Pose
    last: Action | None = None
    velocity: tuple[float, float] = (0.0, 0.0)
    steps: int = 0
    still: int = 0

    @classmethod
    def begin(cls, rng: np.random.Generator, setting: PairView = TINY) -> Rollout:
        """In a random room, on the way to one of its objects."""
        scene = random_scene(rng)
        names = [thing.name for thing in scene.objects]
        absent = [name for name in COMBINATIONS if name not in names]
        color, _, kind = str(rng.choice(absent if rng.random() < ABSENT else names)).partition(" ")
        command = Command("goto", color, kind)
        return cls(
            scene, command, setting.say(command, rng), rng.uniform(0.75, 1.05), scene.start, scene.start
        )

    def obey(self, action: Action) -> None:
        """Move as the robot would in one period."""
        wanted = (self.gain * action.vx, self.gain * action.wz)
        vx, wz = (LAG * old + (1 - LAG) * new for old, new in zip(self.velocity, wanted, strict=True))
        self.before, self.pose = self.pose, move(self.pose, vx, wz, ACTION_PERIOD_S)
        self.velocity, self.last = wanted, action
        self.steps += 1
        self.still = 0 if action.moves else self.still + 1

    @property
    def over(self) -> bool:
        return self.steps >= MOST_STEPS or self.still >= STILL_STEPS or collides(self.scene, self.pose)


def rollouts(
    model: Any,
    seed: int,
    count: int,
    backend: str = "auto",
    layout: Layout = dataset.TINY,
    passes: Passes = network,
) -> Iterator[Example]:
    """Yield ``count`` examples from where ``model`` goes; the first question of each is its own."""
    rng = np.random.default_rng(seed)
    stage, tokenizer, setting = Stage(backend), layout.tokenizer(), layout.setting
    running: list[Rollout] = [Rollout.begin(rng, setting) for _ in range(AT_ONCE)]
    made = 0
    while made < count:
        views, own = [], []
        for run in running:
            stage.lay_out(run.scene)
            view = look(stage, run.pose, rng, setting)
            right = decide(run.command, run.scene, run.pose, view.visible, run.last)
            question = Question(run.command, run.instruction, run.last, right)
            views.append(view)
            own.append(question)
            if made < count:
                others = _others(stage, run, view, rng, setting)
                yield example(run.scene, view, [question, *others], setting.grid)
            made += 1
        said = answers(model, tokenizer, views, own, layout, passes)
        for i, (run, text) in enumerate(zip(running, said, strict=True)):
            try:
                run.obey(parse_action(text))
            except ActionError:
                run.steps = MOST_STEPS
            if run.over:
                running[i] = Rollout.begin(rng, setting)


def _others(
    stage: Stage, run: Rollout, view: View, rng: np.random.Generator, setting: PairView
) -> list[Question]:
    focus = max(0, run.scene.find(run.command.target))
    commands = setting.draw(run.scene, focus, view, rng)[1:]
    return ask(stage, run.scene, view, run.before, commands, rng, setting)


@torch.no_grad()
def answers(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    views: list[View],
    questions: list[Question],
    layout: Layout = dataset.TINY,
    passes: Passes = network,
) -> list[str]:
    """What ``model`` itself says to one question about each view, greedily.

    The expert's answer is taken for a draft: what agrees with it costs one pass for all tokens.
    """
    device = next(model.parameters()).device
    end = tokenizer.eos_token_id
    visual = passes.see(model, torch.from_numpy(np.stack([view.frame for view in views])).to(device))
    prompts = np.stack([layout.prompt_ids(tokenizer, q.instruction, q.last) for q in questions])[:, None]
    said = np.stack([layout.answer_ids(tokenizer, q.answer) for q in questions])
    said[said == PAD] = end
    rows = np.arange(len(said))
    for _ in range(layout.answer_tokens):
        fields = pack(prompts, said[:, None])
        tokens, question, position = (fields[name].to(device) for name in ("tokens", "question", "position"))
        logits = model.lm_head(passes.think(model, visual, tokens, question, position))
        logits[..., PAD] = float("-inf")
        place, choice = fields["place_in_answer"].numpy(), logits.argmax(-1).cpu().numpy()
        row, column = np.nonzero(place >= 0)
        chosen = said.copy()
        chosen[row, place[row, column]] = choice[row, column]
        ended = np.cumsum(said == end, 1) - (said == end) > 0
        wrong = (chosen != said) & ~ended
        if not wrong.any():
            break
        first = wrong.argmax(1)
        said[rows, first] = chosen[rows, first]
    texts = []
    for ids in said:
        stop = int(np.argmax(ids == end)) if (ids == end).any() else len(ids)
        texts.append(tokenizer.decode(ids[:stop]))
    return texts
