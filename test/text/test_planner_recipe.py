"""The planner's recipe from end to end on a random checkpoint, and that an interrupted run goes on."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from test_distil import SMALL, InThisProcess

from spec_decode_ros.actions.plan import parse_plan
from spec_decode_ros.lab.training import asking, planner_target
from spec_decode_ros.lab.training.display import make_folders
from spec_decode_ros.lab.training.plan_sentences import PlannedSentence, examples
from spec_decode_ros.lab.training.planner_recipe import PlannerRun, train_planner
from spec_decode_ros.lab.training.planner_target import batches, loss_of, tokenized, train_target
from spec_decode_ros.models.loading import load_model
from spec_decode_ros.models.pair import load_drafter, load_verifier
from spec_decode_ros.models.pair_config import Chat, ModelConfig, load_pair_config


def language_model(pair_file: Path):  # type: ignore[no-untyped-def]
    side = ModelConfig(load_pair_config(pair_file).target.location, dtype="float32", device="cpu")
    return load_model(side, pair_file.parent, Chat("none"))


def test_the_whole_recipe(pair_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ProcessPoolExecutor", InThisProcess)
    base = load_pair_config(pair_file)
    location = str((base.folder / base.target.location).resolve())
    out, work = tmp_path / "out", tmp_path / "work"
    make_folders(out, work)
    sizes = {
        "sentences": 32,
        "plans": 6,
        "labels": 32,
        "epochs": 1,
        "exit_steps": 2,
        "workers": 1,
        "held_out": 2,
    }
    recipe = PlannerRun(out, work, **sizes, language_model=location, cut=SMALL, exit_layers=(0,))
    parts: set[str] = set()
    train_planner(recipe, lambda part, fraction, figures: parts.add(part))
    assert any(part.startswith("exit") for part in parts) and "the target's own plans" in parts
    config = load_pair_config(out / "pair.yaml")
    verifier, drafter = load_verifier(config), load_drafter(config)
    assert drafter.vocabulary == verifier.vocabulary
    assert [exit.layer for exit in verifier.exits] == [0]
    before = (out / "adapters.safetensors").stat().st_mtime_ns
    train_planner(recipe, lambda part, fraction, figures: None)
    assert (out / "adapters.safetensors").stat().st_mtime_ns == before, "what is there is not made again"


def test_an_interrupted_target_goes_on(
    pair_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after a part of the sentences, the run ends with the adapters of one that was not stopped."""
    monkeypatch.setattr(planner_target, "STORE_S", 0.0)
    whole = language_model(pair_file)
    train_target(whole, 256, 2, 3, tmp_path / "whole.safetensors", lambda fraction, figures: None)

    class Stopped(Exception):
        pass

    def stop_half_way(fraction: float, figures: dict[str, float]) -> None:
        if fraction >= 0.5:
            raise Stopped

    monkeypatch.setattr(planner_target, "REPORT_S", 0.0)
    with pytest.raises(Stopped):
        train_target(language_model(pair_file), 256, 2, 3, tmp_path / "part.safetensors", stop_half_way)
    again = language_model(pair_file)
    train_target(again, 256, 2, 3, tmp_path / "part.safetensors", lambda fraction, figures: None)
    decoders = (whole.model.get_decoder(), again.model.get_decoder())
    for (name, one), (_, other) in zip(*(decoder.named_parameters() for decoder in decoders), strict=True):
        assert torch.allclose(one, other, atol=1e-5), name


def test_the_loss_counts_the_plan_alone_and_whole_plans(pair_file: Path) -> None:
    model = language_model(pair_file)
    example = PlannedSentence("go to the red chair", "go to the red chair")
    tokens = tokenized(model, example)
    assert tokens.ids[tokens.start :] == (*model.text.encode(example.plan), min(model.text.eos_ids))
    alone, _ = loss_of(model, [tokens])
    longer = tokenized(model, PlannedSentence("please walk to the red chair slowly", example.plan))
    pair, whole = loss_of(model, [tokens, longer])
    assert whole.shape == (2,) and not whole.any()
    assert torch.allclose(pair, (alone + loss_of(model, [longer])[0]) / 2, atol=1e-5)


def test_batches_hold_every_sentence_once(pair_file: Path) -> None:
    model = language_model(pair_file)
    drawn = list(itertools.islice(examples(1), 300))
    assert all(parse_plan(example.plan) for example in drawn)
    cut = list(batches(model, drawn, 16))
    assert sorted(each.ids for batch in cut for each in batch) == sorted(
        tokenized(model, e).ids for e in drawn
    )
    assert max(len(batch) for batch in cut) == 16
