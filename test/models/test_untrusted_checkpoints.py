"""A checkpoint may come from anybody: no program in it is ever run."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.checkpoint_checks import CheckpointError
from spec_decode_ros.models.loading import load_model
from spec_decode_ros.models.pair_config import ModelConfig
from spec_decode_ros.models.weight_files import WeightFilesError


class Program:
    """A pickle that writes a file when it is read."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._trace,)


@pytest.fixture
def checkpoint(checkpoints, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints("qwen2_vl"), tmp_path / "checkpoint"))


def load(folder: Path, **settings: object) -> object:
    return load_model(ModelConfig(str(folder), dtype="float32", device="cpu", **settings), folder)


def as_pickle(folder: Path, name: str = "pytorch_model.bin") -> Path:
    """The folder's weights as a pickle that runs a program; returns the file that the program makes."""
    trace = folder.parent / "it ran"
    weights = load_file(folder / "model.safetensors")
    with (folder / name).open("wb") as file:
        pickle.dump({**weights, "program": Program(trace)}, file)
    return trace


def test_the_program_in_a_pickle_would_run(checkpoint: Path) -> None:
    trace = as_pickle(checkpoint)
    with (checkpoint / "pytorch_model.bin").open("rb") as file:
        pickle.load(file)
    assert trace.exists()


def test_weights_in_a_pickle_are_refused_with_the_remedy(checkpoint: Path) -> None:
    trace = as_pickle(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(WeightFilesError, match=r"pytorch_model\.bin, a pickle.*safetensors.*save_pretrained"):
        load(checkpoint)
    assert not trace.exists()


def test_a_pickle_beside_the_weights_is_not_looked_at(checkpoint: Path) -> None:
    trace = as_pickle(checkpoint)
    load(checkpoint)
    assert not trace.exists()


@pytest.mark.parametrize("target", ["pytorch_model.bin", "../elsewhere.safetensors", "/etc/x.safetensors"])
def test_an_index_leads_to_safetensors_of_its_folder_only(checkpoint: Path, target: str) -> None:
    trace = as_pickle(checkpoint)
    names = load_file(checkpoint / "model.safetensors")
    shutil.move(checkpoint / "model.safetensors", checkpoint / "other.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, target)}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightFilesError, match=r"leads to .*no safetensors file of this folder"):
        load(checkpoint)
    assert not trace.exists()


@pytest.mark.parametrize("index", ["", "[]", '{"weight_map": 3}', "[" * 100_000])
def test_a_damaged_index_is_one_sentence(checkpoint: Path, index: str) -> None:
    (checkpoint / "model.safetensors.index.json").write_text(index)
    with pytest.raises(WeightFilesError, match="is damaged"):
        load(checkpoint)


def with_code(folder: Path, file: str, entry: dict[str, str]) -> Path:
    trace = folder.parent / "it ran"
    (folder / "own_code.py").write_text(f"from pathlib import Path\nPath({str(trace)!r}).touch()\n")
    description = json.loads((folder / file).read_text())
    description["auto_map"] = entry
    description.pop("model_type", None)
    description.pop("tokenizer_class", None)
    description.pop("image_processor_type", None)
    if file == "config.json":
        description["model_type"] = "their_own"
    (folder / file).write_text(json.dumps(description))
    return trace


@pytest.mark.parametrize("answer", ["y\n", ""])
def test_program_code_of_a_checkpoint_is_never_run_nor_asked_for(
    checkpoint: Path, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = with_code(checkpoint, "config.json", {"AutoConfig": "own_code.Config"})
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or answer)
    with pytest.raises(CheckpointError, match=r"program code of its own, which is never run"):
        load(checkpoint)
    assert not trace.exists()
    assert asked == []


def test_not_even_if_the_pair_file_says_so(checkpoint: Path) -> None:
    file = "preprocessor_config.json"
    trace = with_code(checkpoint, file, {"AutoImageProcessor": "own_code.Images"})
    with contextlib.suppress(SpecDecodeError):
        load(checkpoint, image_processor={"trust_remote_code": True})
    assert not trace.exists()


def test_damaged_safetensors_are_one_sentence(checkpoint: Path) -> None:
    whole = (checkpoint / "model.safetensors").read_bytes()
    for damaged in (b"", b"\xff" * 8 + whole[8:], whole[: len(whole) // 2], pickle.dumps({"a": 1})):
        (checkpoint / "model.safetensors").write_bytes(damaged)
        with pytest.raises(CheckpointError, match="cannot be loaded"):
            load(checkpoint)


def test_torch_is_not_asked_to_unpickle(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("torch.load was called")

    monkeypatch.setattr(torch, "load", refuse)
    load(checkpoint)
