"""A pair of small random Llamas, the draft a disturbed copy of its target, and lessons that the target gave."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

import tiny_checkpoints
from questions import LENGTH, PROMPTS

from spec_decode_ros.lab.training.asking import preamble
from spec_decode_ros.lab.training.teacher import Lesson, Teacher, TeacherPrompt
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.pair import load_verifier


def tie(folder: Path) -> None:
    """Make the output head of a checkpoint its embedding, as in SmolLM2."""
    model = LlamaForCausalLM.from_pretrained(folder)
    config = LlamaConfig(**model.config.to_dict() | {"tie_word_embeddings": True})
    tied = LlamaForCausalLM(config)
    tied.model.load_state_dict(model.model.state_dict())
    tied.generation_config = model.generation_config
    tied.save_pretrained(folder)


@pytest.fixture(scope="session")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("text-pair")
    tiny_checkpoints.make_llama(root / "target", seed=4, layers=3)
    tiny_checkpoints.make_llama(root / "draft", seed=4, layers=3, noise=0.05)
    for side in ("target", "draft"):
        tie(root / side)
    return tiny_checkpoints.write_pair(root, prompt="instructed", lookup=3, colocated=True)


@pytest.fixture(scope="session")
def target(pair_file: Path) -> HfModel:
    return load_verifier(pair_file, device="cpu", threads=1).model


@pytest.fixture(scope="session")
def tasks(target: HfModel) -> list[TeacherPrompt]:
    ids = [tuple(target.text.encode_prompt(target.text.render(prompt, 0))) for prompt in PROMPTS]
    return [TeacherPrompt(number, prompt, 0.0, LENGTH) for number, prompt in enumerate(ids)]


@pytest.fixture(scope="session")
def lessons(target: HfModel, tasks: list[TeacherPrompt]) -> list[Lesson]:
    teacher = Teacher(target.model, preamble(target.text), rows=3, length=64, top=12, dtype=torch.float32)
    return sorted(teacher.answer(iter(tasks)), key=lambda lesson: lesson.index)
