"""The small pair's training on a stand-in language model: it runs to the end, goes on after a break, and what comes out is
a pair like any other, whose methods all say what its target says."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_data import InThisProcess
from stand_in import make_language

from spec_decode_ros import cli
from spec_decode_ros.actions.prompt import build_prompt
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.edge.runtime import EdgeRuntime
from spec_decode_ros.lab.training import dataset, low_rank, small
from spec_decode_ros.lab.training.batches import make_batch
from spec_decode_ros.lab.training.fit import Paused
from spec_decode_ros.lab.training.small import PROGRESS, Plan, Progress, train_small, write_pair
from spec_decode_ros.lab.training.smolvlm import SETTING, DraftShape, Language, SmolVLMPasses, TargetShape
from spec_decode_ros.models import assembled
from spec_decode_ros.models.pair import check_pair, load_drafter, load_pair_config, load_verifier
from spec_decode_ros.server.verifier_server import VerifierServer
from spec_decode_ros.sim.render import to_jpeg
from spec_decode_ros.transport.client import Client

CPU = torch.device("cpu")
PHASES = ["target: see", "target: act", "target: act where it drives", "draft: see", "draft: distil", "exits"]
QUESTIONS = ("go to the red chair", "turn left 90 degrees")


def silent(*_: Any) -> None:
    pass


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    root = tmp_path_factory.mktemp("small")
    language = make_language(root / "language")
    made = Plan(
        root / "out",
        root / "work",
        str(language),
        frames=20,
        driven=8,
        held_out=8,
        minutes=0.02,
        batch=8,
        target=TargetShape(1, 32, 4),
        draft=DraftShape(1, 64, 64, 1, 32, 700, 32),
    )
    made.out.mkdir()
    made.work.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "ProcessPoolExecutor", InThisProcess)
        yield made


@pytest.fixture(scope="module")
def trained(plan: Plan) -> Plan:
    """Trained in pieces: a run that is paused at once again and again must come to the end too."""
    for _ in range(2):
        with pytest.raises(Paused):
            train_small(replace(plan, minutes=5.0), CPU, silent, silent, until=0.0)
    assert not (plan.out / PROGRESS).exists() and (plan.work / "target.safetensors").exists()
    (plan.work / "target.safetensors").unlink()
    train_small(plan, CPU, silent, silent)
    write_pair(plan)
    return plan


def test_every_phase_is_done_once(trained: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads((trained.out / PROGRESS).read_text()) == PHASES
    monkeypatch.setattr(small, "fit", None)
    train_small(trained, CPU, silent, silent)  # nothing left to do


def test_phases_fill_the_time(tmp_path: Path) -> None:
    for minutes in (0.5, 18.0):
        made = Plan(tmp_path, tmp_path, minutes=minutes)
        phases = [*made.target_phases(), *made.draft_phases()]
        assert math.fsum([*(phase.minutes for phase in phases), made.exit_minutes]) == pytest.approx(minutes)


def test_the_target_ships_eyes_and_adapters_only(trained: Plan) -> None:
    folder = trained.out / "target"
    vision, adapters = load_file(folder / "vision.safetensors"), load_file(folder / "adapters.safetensors")
    assert all(
        name.startswith(("model.vision_model.", "model.connector.", "language_mark")) for name in vision
    )
    assert len(adapters) == 2 * 7 * 2, "two matrices for seven layers in each of two blocks"
    assert {weight.dtype for name, weight in (vision | adapters).items() if name != "language_mark"} == {
        torch.float16
    }
    assert any(bool(weight.any()) for name, weight in adapters.items() if name.endswith(".up"))
    assert {file.suffix for file in folder.iterdir()} == {".safetensors", ".json", ".jinja"}


@torch.no_grad()
def test_the_product_computes_what_training_computed(trained: Plan) -> None:
    language = Language(trained.language)
    passes, data = (
        SmolVLMPasses(language.tokenizer()),
        dataset.load(trained.work / "held_out", language.layout()),
    )
    batch = make_batch(data, np.arange(2), np.zeros(2, bool))
    rgb = np.random.default_rng(1).integers(0, 255, (24, 48, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    batch.frames[1] = torch.from_numpy(SETTING.frame(rgb).copy())
    pair = load_pair_config(trained.out / "pair.yaml")
    check_pair(pair)
    for side in (load_verifier(pair).model, load_drafter(pair).model):
        whole = side.model
        hidden = passes.think(
            whole, passes.see(whole, batch.frames), batch.tokens, batch.question, batch.position
        )
        first = int((batch.question[1] == 0).sum())  # tokens of the second frame's first question
        ids = batch.tokens[1, :first].tolist()
        begin = int((batch.target[1] >= 0).nonzero()[0]) + 1
        prompt = side.text.tokenizer.decode(ids[:begin]).split("<|im_end|>")[0].strip()
        made = side.prepare(prompt, [to_jpeg(rgb)])
        assert list(made.ids[-begin:]) == ids[:begin], "the chat template writes what training has read"
        logits = side.head(
            side.decoder.run(made.embeddings, made.positions, side.decoder.new_cache(), 0)[0, -1]
        )
        expected = whole.lm_head(hidden[1, begin - 1])
        finite = expected.isfinite()
        torch.testing.assert_close(logits[finite], expected[finite], atol=2e-4, rtol=1e-3)


def test_a_run_goes_on_with_a_checkpoint_alone(trained: Plan, tmp_path: Path) -> None:
    """What came back from another machine is enough: the phases that it has done are not done again."""
    fetched = replace(trained, out=tmp_path / "out", work=trained.work)
    shutil.copytree(trained.out, fetched.out)
    (fetched.out / PROGRESS).write_text(json.dumps(PHASES[:2]))
    language = Language(trained.language)
    fresh = small._target(replace(fetched, work=tmp_path / "none"), language, CPU)
    fresh.recall(Progress(fetched.out / PROGRESS), fetched.target_phases())
    stored = load_file(trained.out / "target" / "adapters.safetensors")
    for name, matrix in low_rank.adapters(fresh.model.model.text_model).items():
        torch.testing.assert_close(matrix, stored[name].float(), atol=2e-3, rtol=2e-3)
    kernel = "model.vision_model.embeddings.patch_embedding.weight"
    own = load_file(trained.out / "target" / "vision.safetensors")[kernel]
    assert torch.equal(fresh.model.state_dict()[kernel].half(), own)


def test_every_method_says_what_the_target_says(trained: Plan) -> None:
    pair = load_pair_config(trained.out / "pair.yaml")
    drafter, verifier = load_drafter(pair, threads=1), load_verifier(pair, device="cpu", threads=1)
    assert verifier.can_verify_trees
    rng = np.random.default_rng(3)
    frames = [to_jpeg(rng.integers(0, 255, (192, 384, 3), dtype=np.uint8)) for _ in range(2)]
    said: dict[str, list[tuple[int, ...]]] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(VerifierServer(verifier, "small"))
        client = stack.enter_context(Client(server.endpoint, "small", drafter.vocabulary))
        client.wait_ready(30.0)
        for name, method in METHODS.items():
            if not method.uses_cloud:
                continue
            with EdgeRuntime(drafter, client, name, max_tokens=14, deadline_s=60.0) as runtime:
                for frame in frames:
                    for question in QUESTIONS:
                        result = runtime.act(build_prompt(question, None), [frame], ())
                        assert result.verified
                        said.setdefault(name, []).append(result.tokens)
    assert len(said) >= 6
    assert all(answers == said["cloud"] for answers in said.values()), said
    assert all(said["cloud"])


def test_the_command_pauses_when_it_is_told_to(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = tmp_path / "pair"
    words = [
        "train",
        "--pair",
        "small",
        "--out",
        str(pair),
        "--frames",
        "12",
        "--batch",
        "2",
        "--device",
        "cpu",
    ]
    words += ["--minutes", "100", "--language", plan.language, "--stop-after", "0.001"]
    assert cli.main(words) == 75
    assert "the same command goes on" in capsys.readouterr().err
    assert (pair / "work" / "target.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--pair", "small", "--resume", "nowhere"], "nothing to go on with in nowhere"),
        (["--pair", "small", "--frames", "3", "--batch", "8"], "at least a batch of 8 frames"),
        (["--pair", "small", "--stop-after", "-1"], "--stop-after must be some minutes"),
        (["--stop-after", "3"], "go with --pair small"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *words]) == 2
    said = capsys.readouterr().err
    assert sentence in said and len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_another_language_model_is_found_out(trained: Plan, tmp_path: Path) -> None:
    shutil.copytree(trained.out / "target", tmp_path / "target")
    other = make_language(tmp_path / "other", seed=5)
    description = json.loads((tmp_path / "target" / assembled.DESCRIPTION).read_text())
    (tmp_path / "target" / assembled.DESCRIPTION).write_text(
        json.dumps(description | {"language": str(other)})
    )
    with pytest.raises(assembled.AssembledError, match="trained with another language model"):
        assembled.weights(tmp_path / "target")


def test_adapters_merge_into_what_they_computed() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 4, bias=False)
    part = low_rank.LowRank(linear, 2)
    torch.nn.init.normal_(part.up)
    holder = torch.nn.ModuleDict({"layer": part})
    language = {"model.text_model.layer.weight": linear.weight.detach().clone()}
    assembled.merge(language, low_rank.adapters(holder), "nowhere")
    hidden = torch.randn(3, 6)
    torch.testing.assert_close(hidden @ language["model.text_model.layer.weight"].T, part(hidden))
    with pytest.raises(assembled.AssembledError, match="does not fit"):
        assembled.merge(language, {"layer.down": torch.ones(2, 5), "layer.up": torch.ones(4, 2)}, "nowhere")
