"""Training examples from rollouts of the model itself, with the expert's answers (DAgger).

A model that was trained on random poses only does not recover from its own mistakes. See Ross, Gordon, Bagnell: A reduction
of imitation learning and structured prediction to no-regret online learning, 2011.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, Qwen2VLForConditionalGeneration

from spec_decode_ros.actions.action import ACTION_PERIOD_S, Action, ActionError, parse_action
from spec_decode_ros.actions.commands import Command, phrase
from spec_decode_ros.lab.episodes.expert import Pose, collides, decide, move
from spec_decode_ros.lab.episodes.stage import Stage
from spec_decode_ros.lab.training.batches import pack
from spec_decode_ros.lab.training.dataset import ANSWER_TOKENS, PAD, Source, answer_tokens, prompt_tokens
from spec_decode_ros.lab.training.frames import (
    COMBINATIONS,
    Example,
    Question,
    View,
    ask,
    draw_commands,
    example,
    look,
)
from spec_decode_ros.lab.training.network import encode_frames, text_hidden_states
from spec_decode_ros.lab.training.processor import build_tokenizer
from spec_decode_ros.sim.scene import Scene, random_scene

AT_ONCE = 8
MOST_STEPS = 75
STILL_STEPS = 4
ABSENT = 0.08
"""Share of the rollouts that ask for an object that is not in the scene."""

LAG = 0.35
"""Share of an action period that passes before the legs follow a new command."""


def driven_by(checkpoint: Path) -> Source:
    """A source of examples from rollouts of the model in a checkpoint folder."""
    return partial(_drive, checkpoint)


def _drive(checkpoint: Path, seed: int, count: int) -> Iterator[Example]:
    torch.set_num_threads(1)
    model = Qwen2VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    return rollouts(model, seed, count)


@dataclass
class Rollout:
    """State of one simulated robot: its scene and instruction, its pose and the one before, its motion and last action."""

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
    def begin(cls, rng: np.random.Generator) -> Rollout:
        """A new rollout in a random scene, toward one of its objects."""
        scene = random_scene(rng)
        names = [thing.name for thing in scene.objects]
        absent = [name for name in COMBINATIONS if name not in names]
        color, _, kind = str(rng.choice(absent if rng.random() < ABSENT else names)).partition(" ")
        command = Command("goto", color, kind)
        return cls(scene, command, phrase(command, rng), rng.uniform(0.75, 1.05), scene.start, scene.start)

    def obey(self, action: Action) -> None:
        """Move for one action period, as the robot would."""
        wanted = (self.gain * action.vx, self.gain * action.wz)
        vx, wz = (LAG * old + (1 - LAG) * new for old, new in zip(self.velocity, wanted, strict=True))
        self.before, self.pose = self.pose, move(self.pose, vx, wz, ACTION_PERIOD_S)
        self.velocity, self.last = wanted, action
        self.steps += 1
        self.still = 0 if action.moves else self.still + 1

    @property
    def over(self) -> bool:
        """Whether the robot collided, has stood still for some actions or has used up its steps."""
        return self.steps >= MOST_STEPS or self.still >= STILL_STEPS or collides(self.scene, self.pose)


def rollouts(model: Qwen2VLForConditionalGeneration, seed: int, count: int) -> Iterator[Example]:
    """Yield ``count`` examples from rollouts of ``model``; the first question of each is the rollout's own."""
    rng = np.random.default_rng(seed)
    stage, tokenizer = Stage(), build_tokenizer()
    running: list[Rollout] = [Rollout.begin(rng) for _ in range(AT_ONCE)]
    made = 0
    while made < count:
        views, own = [], []
        for run in running:
            stage.lay_out(run.scene)
            view = look(stage, run.pose, rng)
            right = decide(run.command, run.scene, run.pose, view.visible, run.last)
            question = Question(run.command, run.instruction, run.last, right)
            views.append(view)
            own.append(question)
            if made < count:
                yield example(run.scene, view, [question, *_others(stage, run, view, rng)])
            made += 1
        said = answers(model, tokenizer, views, own)
        for i, (run, text) in enumerate(zip(running, said, strict=True)):
            try:
                run.obey(parse_action(text))
            except ActionError:
                run.steps = MOST_STEPS
            if run.over:
                running[i] = Rollout.begin(rng)


def _others(stage: Stage, run: Rollout, view: View, rng: np.random.Generator) -> list[Question]:
    focus = max(0, run.scene.find(run.command.target))
    commands = draw_commands(run.scene, focus, view.visible, rng)[1:]
    return ask(stage, run.scene, view, run.before, commands, rng)


@torch.no_grad()
def answers(
    model: Qwen2VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    views: list[View],
    questions: list[Question],
) -> list[str]:
    """The model's greedy answers to one question about each view.

    The expert's answer serves as a draft: all of its tokens that the model agrees with take one pass.
    """
    device = next(model.parameters()).device
    end = tokenizer.eos_token_id
    visual = encode_frames(model, torch.from_numpy(np.stack([view.frame for view in views])).to(device))
    prompts = np.stack([prompt_tokens(tokenizer, q.instruction, q.last) for q in questions])[:, None]
    said = np.stack([answer_tokens(tokenizer, q.answer) for q in questions])
    said[said == PAD] = end
    rows = np.arange(len(said))
    for _ in range(ANSWER_TOKENS):
        fields = pack(prompts, said[:, None])
        tokens, question, position = (fields[name].to(device) for name in ("tokens", "question", "position"))
        logits = model.lm_head(text_hidden_states(model, visual, tokens, question, position))
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
