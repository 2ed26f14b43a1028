"""Rollouts: the model's own answers, and what the expert says about where they lead."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from transformers import Qwen2VLForConditionalGeneration

from spec_decode_ros.actions.action import Action
from spec_decode_ros.actions.commands import Command
from spec_decode_ros.lab.episodes.stage import Stage
from spec_decode_ros.lab.training import rollouts as driving
from spec_decode_ros.lab.training.dataset import ANSWER_TOKENS, PAD, prompt_tokens
from spec_decode_ros.lab.training.frames import QUESTIONS, Question, View, look, mistaken
from spec_decode_ros.lab.training.network import encode_frames, text_hidden_states
from spec_decode_ros.lab.training.processor import build_tokenizer
from spec_decode_ros.lab.training.rollouts import Rollout, answers, rollouts
from spec_decode_ros.sim.scene import Scene, SceneObject, random_scene


def token_by_token(model: Qwen2VLForConditionalGeneration, view: View, question: Question) -> str:
    tokenizer = build_tokenizer()
    prompt = prompt_tokens(tokenizer, question.instruction, question.last)
    prompt, said = [int(t) for t in prompt if t != PAD], []
    with torch.no_grad():
        visual = encode_frames(model, torch.from_numpy(view.frame[None].copy()))
        while len(said) < ANSWER_TOKENS and tokenizer.eos_token_id not in said:
            tokens = torch.tensor([[*prompt, *said]])
            places = torch.arange(tokens.shape[1])[None]
            logits = model.lm_head(
                text_hidden_states(model, visual, tokens, torch.zeros_like(tokens), places)
            )[0, -1]
            logits[PAD] = float("-inf")
            said.append(int(logits.argmax()))
    return tokenizer.decode([t for t in said if t != tokenizer.eos_token_id])


def test_answers_are_the_models_own_whatever_was_guessed(model: Qwen2VLForConditionalGeneration) -> None:
    rng = np.random.default_rng(0)
    stage, command = Stage("ray"), Command("goto", "red", "chair")
    views, questions = [], []
    for seed in range(3):
        scene = random_scene(seed)
        stage.lay_out(scene)
        views.append(look(stage, scene.start, rng))
        last = Action(0.0, 0.8, "searching 15") if seed else None
        questions.append(
            Question(command, "go to the red chair", last, Action(0.2, 0.0, "red chair ahead 1.0"))
        )
    expected = [token_by_token(model, v, q) for v, q in zip(views, questions, strict=True)]
    assert answers(model, build_tokenizer(), views, questions) == expected
    others = [Question(q.command, q.instruction, q.last, Action(0.0, 0.0, "stopped")) for q in questions]
    assert answers(model, build_tokenizer(), views, others) == expected


def test_rollouts_go_where_the_model_says(model: Qwen2VLForConditionalGeneration, monkeypatch) -> None:
    said = itertools.cycle(("vx 0.0 wz 0.8 | searching 15", "vx 0.2 wz -0.2 | red chair right 1.5"))
    texts: list[str] = []

    def speak(*_: object) -> list[str]:
        texts.append(next(said))
        return [texts[-1]]

    monkeypatch.setattr(driving, "AT_ONCE", 1)
    monkeypatch.setattr(driving, "answers", speak)
    made = list(rollouts(model, 3, 6))
    assert len(made) == 6
    lasts = [example.questions[0].last for example in made]
    assert lasts[0] is None
    assert [f"vx {a.vx} wz {a.wz} | {a.note}" for a in lasts[1:] if a] == texts[:5]
    assert all(len(example.questions) == QUESTIONS for example in made)
    assert not np.array_equal(made[0].frame, made[1].frame)
    assert [e.questions for e in rollouts(model, 4, 3)] != [e.questions for e in made[:3]]


def test_a_text_that_is_no_action_ends_a_rollout(model: Qwen2VLForConditionalGeneration, monkeypatch) -> None:
    monkeypatch.setattr(driving, "AT_ONCE", 1)
    monkeypatch.setattr(driving, "answers", lambda *_: ["not an action"])
    made = list(rollouts(model, 3, 4))
    assert all(example.questions[0].last is None for example in made)


def test_a_rollout_ends_when_the_robot_stands_or_touches_something() -> None:
    rng = np.random.default_rng(1)
    run = Rollout.begin(rng)
    for step in range(1, 5):
        run.obey(Action(0.0, 0.0, "red chair reached"))
        assert run.over == (step == 4)
    scene = Scene((SceneObject("red", "chair", 1.0, 0.0),))
    run = Rollout(scene, Command("goto", "red", "chair"), "x", 1.0, scene.start, scene.start)
    for _ in range(10):
        run.obey(Action(0.6, 0.0, "red chair ahead 0.5"))
        if run.over:
            break
    assert run.over
    assert 0.2 < run.pose[0] < 0.8


def test_a_mistake_goes_to_something_alike_under_the_targets_name() -> None:
    things = (SceneObject("red", "cone", 2.0, 0.0), SceneObject("blue", "ball", 2.0, 1.0))
    scene, rng = Scene(things), np.random.default_rng(0)
    action = mistaken(Command("goto", "red", "chair"), scene, scene.start, {0, 1}, rng)
    assert action.note.startswith("red chair ahead")
    assert action.vx > 0
    action = mistaken(Command("goto", "green", "box"), scene, scene.start, {1}, rng)
    assert action.note.startswith("green box left")
