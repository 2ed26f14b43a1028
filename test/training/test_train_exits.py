"""Training exits: rows of the target, learning from them, calibration, and the command."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_data import SEED

from spec_decode_ros import cli
from spec_decode_ros.actions.action import format_action
from spec_decode_ros.actions.prompt import build_prompt
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training import exits
from spec_decode_ros.lab.training.batches import make_batch
from spec_decode_ros.lab.training.dataset import Dataset
from spec_decode_ros.lab.training.exits import (
    Rows,
    batched_rows,
    calibrate,
    default_layers,
    generated_rows,
    in_batches,
    measure,
    train_exits,
    usable_layers,
)
from spec_decode_ros.lab.training.frames import examples
from spec_decode_ros.lab.training.network import build_model
from spec_decode_ros.lab.training.recipe import DRAFT, save
from spec_decode_ros.models.cached_sequence import CachedSequence
from spec_decode_ros.models.exits import ExitAdapter, load_exits
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.pair import load_verifier
from spec_decode_ros.models.pair_config import EXITS_FILE, ModelConfig, PairConfig
from spec_decode_ros.models.prompts import prepare

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

import tiny_checkpoints


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes at every look at the clock: the number of training steps does not depend on the machine."""
    seconds = itertools.count()
    monkeypatch.setattr(exits, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))


def silent(phase: str, fraction: float, figures: dict[str, float]) -> None:
    pass


def target_of(folder: Path) -> HfModel:
    side = ModelConfig(location=str(folder), device="cpu")
    return load_verifier(PairConfig(name="random", draft=side, target=side)).model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target of the shipped kind with random weights and three layers."""
    path = tmp_path_factory.mktemp("exits") / "target"
    save(build_model(**{**vars(DRAFT), "layers": 3}, seed=0).eval(), path)
    return path


@pytest.fixture(scope="module")
def target(checkpoint: Path) -> HfModel:
    return target_of(checkpoint)


@pytest.fixture(scope="module")
def rows(target: HfModel, data: Dataset) -> Rows:
    batch = make_batch(data, np.arange(len(data)), np.zeros(len(data), bool))
    return batched_rows(target, [batch], [0, 1])


def test_rows_are_those_that_predict_answer_tokens(target: HfModel, rows: Rows, data: Dataset) -> None:
    batch = make_batch(data, np.arange(len(data)), np.zeros(len(data), bool))
    assert len(rows) == int((batch.target >= 0).sum())
    assert list(rows.hidden) == [0, 1]
    assert all(hidden.shape == rows.final.shape for hidden in rows.hidden.values())
    assert not target.model.get_decoder().layers[0]._forward_hooks


def test_rows_are_what_the_product_computes(target: HfModel, rows: Rows) -> None:
    """The first question of the data, asked as a robot asks it."""
    example = next(iter(examples(SEED * 1_000_003, 1)))
    question = example.questions[0]
    with io.BytesIO() as picture:
        Image.fromarray(example.frame).save(picture, "PNG")  # which, unlike JPEG, loses nothing
        last = format_action(question.last) if question.last else None
        prompt = prepare(target, build_prompt(question.instruction, last), [picture.getvalue()])
    tokens = target.text.encode(format_action(question.answer))
    seen: dict[int, torch.Tensor] = {}
    keep = {layer: lambda hidden, layer=layer: seen.update({layer: hidden}) for layer in rows.hidden}
    logits = CachedSequence(target, prompt).logits(tokens, len(tokens) + 1, hooks=keep)
    assert torch.allclose(target.head(rows.final[: len(tokens) + 1]), logits, atol=1e-3)
    for layer, hidden in seen.items():
        assert torch.allclose(rows.hidden[layer][: len(tokens) + 1], hidden, atol=1e-3)


def test_training_raises_agreement(target: HfModel, rows: Rows, clock: None) -> None:
    untrained = measure(target, [ExitAdapter(rows.final.shape[1], 8) for _ in rows.hidden], rows)
    before = [weight.clone() for weight in target.model.parameters()]
    trained = measure(target, train_exits(target, rows, 5.0, 0, silent), rows)
    for old, new in zip(untrained, trained, strict=True):
        assert new.agreement > old.agreement + 0.1
    assert all(torch.equal(a, b) for a, b in zip(before, target.model.parameters(), strict=True))


def test_an_untrained_adapter_after_the_last_layer_agrees_fully(target: HfModel) -> None:
    rows = generated_rows(target, examples(3, 2), [2], max_tokens=6)
    assert len(rows) <= 2 * 4 * 6
    figures = measure(target, [ExitAdapter(rows.final.shape[1], 8)], rows)[0]
    assert (figures.agreement, figures.sure_agreement, figures.sure_share) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("make", [tiny_checkpoints.make_llama, tiny_checkpoints.make_smolvlm])
def test_targets_of_other_kinds_learn_from_their_own_answers(
    make: Callable[..., Path], tmp_path: Path, clock: None
) -> None:
    other = target_of(make(tmp_path / "other"))
    assert not in_batches(other)
    rows = generated_rows(other, examples(3, 4), [0], "instructed", max_tokens=8)
    untrained = measure(other, [ExitAdapter(64, 8)], rows)[0]
    trained = measure(other, train_exits(other, rows, 4.0, 0, silent), rows)[0]
    assert trained.agreement > untrained.agreement


def test_the_threshold_is_the_lowest_with_enough_agreement() -> None:
    sure = torch.tensor([0.9, 0.3, 0.8, 0.5, 0.5, 0.2])
    right = torch.tensor([True, True, True, False, True, False])
    found = calibrate(4, sure, right, 0.75)
    assert found.layer == 4
    assert found.threshold == pytest.approx(0.3)
    assert found.agreement == pytest.approx(4 / 6)
    assert found.sure_agreement == pytest.approx(4 / 5)
    assert found.sure_share == pytest.approx(5 / 6)
    assert calibrate(4, sure, right, 0.9).threshold == pytest.approx(0.8)
    assert calibrate(4, sure, right, 0.1).sure_share == 1.0


def test_equal_confidences_are_taken_together() -> None:
    sure = torch.tensor([0.5, 0.5, 0.5, 0.4])
    assert calibrate(0, sure, torch.tensor([True, False, False, True]), 0.9).sure_share == 0.0
    assert calibrate(0, sure, torch.tensor([True, True, True, False]), 0.9).sure_share == 0.75


def test_an_exit_that_is_never_right_enough_is_never_sure() -> None:
    found = calibrate(0, torch.tensor([0.9, 0.8]), torch.tensor([False, True]), 0.9)
    assert (found.threshold, found.sure_share, found.agreement) == (1.0, 0.0, 0.5)


def test_layers_have_to_be_there_and_before_the_last(target: HfModel) -> None:
    assert usable_layers(target, [1, 0, 1]) == (0, 1)
    assert default_layers(target) == (0, 1)
    for wrong in ([2], [-1], [7, 0], []):
        with pytest.raises(SpecDecodeError, match="Exits go after layers 0 to 1"):
            usable_layers(target, wrong)


def test_a_target_of_one_layer_has_no_room(tmp_path: Path) -> None:
    flat = target_of(tiny_checkpoints.make_llama(tmp_path / "flat", layers=1))
    with pytest.raises(SpecDecodeError, match="one decoder layer"):
        usable_layers(flat, default_layers(flat))


def test_the_command_leaves_exits_beside_the_target(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = shutil.copytree(checkpoint, tmp_path / "target")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "train").symlink_to(folder)
    frames = ["--frames", "32", "--measured", "1", "--minutes", "0.02", "--work", str(tmp_path / "work")]
    assert (
        cli.main(["train-exits", "--checkpoint", str(target), "--layers", "1", *frames, "--json", "-"]) == 0
    )
    said = capsys.readouterr()
    written = json.loads(said.out)
    assert "agrees" in said.err
    loaded = load_exits(target / EXITS_FILE, target_of(target))
    assert loaded.layers == (1,)
    assert [vars(exit) for exit in loaded.figures] == written["exits"]
    assert not (tmp_path / "work" / "exits").exists(), "frames that were there are taken"
    side = ModelConfig(location=str(target), device="cpu")
    verifier = load_verifier(PairConfig(name="random", draft=side, target=side))
    session = verifier.prepare("go to the red chair | last none", [tiny_checkpoints.jpeg(1)])
    early: list[tuple[int, ...]] = []
    session.verify((), (20, 21), Sampling(), lambda choices, sure: early.append(choices))
    assert [len(choices) for choices in early] == [3]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--layers", "two"], "--layers must be layer numbers"),
        (["--layers", "2"], "Exits go after layers 0 to 1"),
        (["--frames", "3"], "at least 16 frames"),
        (["--minutes", "0"], "minutes must be a positive number"),
        (["--minutes", "nan"], "--minutes is nan"),
        (["--minutes", "inf"], "--minutes is inf"),
        (["--agreement", "1.5"], "agreement must be above 0"),
        (["--measured", "0"], "one to be measured on"),
        (["--out", "/proc/none/x"], "cannot be written to"),
        (["--pair", "smolvlm"], "say with --out where"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    arguments: list[str], sentence: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    which = [] if "--pair" in arguments else ["--checkpoint", str(checkpoint)]
    assert cli.main(["train-exits", *which, "--work", str(tmp_path), *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
    assert not (checkpoint / EXITS_FILE).exists()
