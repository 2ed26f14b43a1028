"""A small dataset and a small model, made once a session."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import spec_decode_ros.sim  # noqa: F401  # MuJoCo reads MUJOCO_GL, which this sets, when it is imported

from transformers import Qwen2VLForConditionalGeneration  # isort: skip

sys.path.insert(0, str(Path(__file__).parent))

from small_data import COUNT, SEED, InThisProcess

from spec_decode_ros.lab.training import dataset
from spec_decode_ros.lab.training.network import build_model
from spec_decode_ros.lab.training.recipe import DRAFT


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "ProcessPoolExecutor", InThisProcess)
        dataset.make(path, COUNT, SEED, 1)
    return path


@pytest.fixture(scope="session")
def data(folder: Path) -> dataset.Dataset:
    return dataset.load(folder)


@pytest.fixture(scope="session")
def model() -> Qwen2VLForConditionalGeneration:
    """Random weights, never trained."""
    return build_model(**vars(DRAFT), seed=0).eval()
