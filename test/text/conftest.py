"""A pair of small random Llamas, the draft a disturbed copy of its target, and teacher data from the target."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

import tiny_checkpoints
from questions import LENGTH, PROMPTS

from spec_decode_ros.lab.training.asking import preamble
from spec_decode_ros.lab.training.teacher import Teacher, TeacherExample, TeacherPrompt
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.pair import load_verifier


@pytest.fixture(scope="session")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("text-pair")
    tiny_checkpoints.make_llama(root / "target", seed=4, layers=3, tied=True)
    tiny_checkpoints.make_llama(root / "draft", seed=4, layers=3, noise=0.05, tied=True)
    return tiny_checkpoints.write_pair(root, prompt="instructed", lookup=3, colocated=True)


@pytest.fixture(scope="session")
def target(pair_file: Path) -> HfModel:
    return load_verifier(pair_file, device="cpu", threads=1).model


@pytest.fixture(scope="session")
def requests(target: HfModel) -> list[TeacherPrompt]:
    ids = [tuple(target.text.encode_prompt(target.text.render(prompt, 0))) for prompt in PROMPTS]
    return [TeacherPrompt(number, prompt, 0.0, LENGTH) for number, prompt in enumerate(ids)]


@pytest.fixture(scope="session")
def examples(target: HfModel, requests: list[TeacherPrompt]) -> list[TeacherExample]:
    teacher = Teacher(target.model, preamble(target.text), rows=3, length=64, top=12, dtype=torch.float32)
    return sorted(teacher.answer(iter(requests)), key=lambda example: example.index)
