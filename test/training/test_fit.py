"""Fitting: schedule, one short stretch of it, accuracy, and the folder that comes out."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_data import InThisProcess
from transformers import Qwen2VLForConditionalGeneration

from spec_decode_ros import cli
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.lab.training import dataset, recipe
from spec_decode_ros.lab.training import fit as fitting
from spec_decode_ros.lab.training.dataset import Dataset
from spec_decode_ros.lab.training.fit import Student, TrainingPhase, accuracy, fit
from spec_decode_ros.lab.training.frames import to_model_size
from spec_decode_ros.lab.training.network import encode_frames, text_hidden_states
from spec_decode_ros.lab.training.processor import build_tokenizer
from spec_decode_ros.lab.training.recipe import ModelShape, TrainingRun, save
from spec_decode_ros.models.pair import load_drafter, load_verifier
from spec_decode_ros.models.pair_config import ModelConfig, PairConfig
from spec_decode_ros.sim.render import to_jpeg


def silent(phase: str, fraction: float, figures: dict[str, float]) -> None:
    pass


def test_learning_rate_rises_and_falls_to_zero() -> None:
    phase = TrainingPhase("x", 1, 1e-3, warmup=0.1)
    rates = [phase.learning_rate(f) for f in np.linspace(0, 1, 101)]
    peak = int(np.argmax(rates))
    assert peak == 10
    assert max(rates) == pytest.approx(1e-3)
    assert rates[0] > 0
    assert all(step > 0 for step in np.diff(rates)[:peak])
    assert all(step < 0 for step in np.diff(rates)[peak:])
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert phase.learning_rate(1.5) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "wrong", [{"images": 0}, {"images": -1}, {"batch": 0}, {"peak_lr": 0.0}, {"peak_lr": 1.0}]
)
def test_phases_refuse_nonsense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="phase x: images, batch and learning rate"):
        TrainingPhase(**{"name": "x", "images": 1, "peak_lr": 1e-3, **wrong})  # type: ignore[arg-type]


def test_the_recipes_phases_share_its_images(tmp_path: Path) -> None:
    for images in (100, 640_000):
        plan = TrainingRun(tmp_path, tmp_path, images=images)
        phases = [*plan.target_phases(), *plan.draft_phases()]
        assert sum(p.images for p in phases) == images
        assert all(p.batch * (p.steps - 1) < p.images <= p.batch * p.steps for p in phases)
        assert any(p.distill_weight for p in plan.draft_phases())
        assert not any(p.distill_weight for p in plan.target_phases())


@pytest.mark.parametrize("distil", [False, True])
def test_a_short_fit_moves_every_weight_to_a_finite_value(
    model: Qwen2VLForConditionalGeneration, data: Dataset, distil: bool
) -> None:
    student, teacher = Student(copy.deepcopy(model)), copy.deepcopy(model)
    phase = TrainingPhase(
        "x", 64, 1e-3, batch=16, cell_weight=1.0, answer_weight=1.0, distill_weight=float(distil)
    )
    fit(student, [data], phase, 1, silent, teacher if distil else None)
    assert not student.training
    unmoved = []
    for (name, new), old in zip(student.model.named_parameters(), model.parameters(), strict=True):
        assert new.isfinite().all(), name
        if torch.equal(new, old):
            unmoved.append(name)
    assert not unmoved
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), model.parameters(), strict=True))


def test_a_resumed_phase_ends_as_one_that_was_not_interrupted(
    model: Qwen2VLForConditionalGeneration, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "REPORT_S", 0.0)
    monkeypatch.setattr(fitting, "STORED_STEPS", 2)
    phase = TrainingPhase("x", 7 * 16, 1e-3, cell_weight=1.0, answer_weight=1.0)
    rates: list[tuple[float, float]] = []

    def fitted(state: Path | None, until: float = 2.0) -> Student:
        torch.manual_seed(0)
        student = Student(copy.deepcopy(model))

        def report(name: str, fraction: float, figures: dict[str, float]) -> None:
            rates.append((fraction, figures["loss"]))
            if fraction >= until:
                raise KeyboardInterrupt

        fit(student, [data], phase, 1, report, state=state)
        return student

    whole = fitted(None)
    wanted, rates = rates, []
    assert [fraction for fraction, _ in wanted] == pytest.approx([(n + 1) / 7 for n in range(7)])
    state = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fitted(state, until=0.7)
    assert rates == wanted[:5]
    rates = []
    resumed = fitted(state)
    assert rates == wanted[4:], "the state was stored after four steps"
    assert same(whole, resumed)
    rates = []
    assert same(whole, fitted(state))
    assert not rates, "nothing was left to do"


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_accuracy_counts_shares(model: Qwen2VLForConditionalGeneration, data: Dataset) -> None:
    figures = accuracy(model, data)
    assert set(figures) == {"vx", "wz", "wz_near", "all"}
    assert all(0 <= value <= 1 for value in figures.values())
    assert figures["wz_near"] >= figures["wz"]
    assert figures["all"] < 0.5, "random weights know nothing"
    itself = accuracy(model, data, model)
    assert itself["all"] == itself["vx"] == itself["wz"] == 1.0


@pytest.fixture(scope="module")
def saved(model: Qwen2VLForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save(model, folder)
    return folder


def pair(draft: Path, target: Path) -> PairConfig:
    sides = [ModelConfig(location=str(path), device="cpu") for path in (draft, target)]
    return PairConfig(name="random", draft=sides[0], target=sides[1])


def test_a_saved_folder_holds_half_precision_and_the_end_token(
    model: Qwen2VLForConditionalGeneration, saved: Path
) -> None:
    weights = load_file(saved / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float16}
    assert sum(w.numel() for w in weights.values()) == sum(p.numel() for p in model.parameters())
    end = build_tokenizer().eos_token_id
    assert json.loads((saved / "generation_config.json").read_text())["eos_token_id"] == end
    config = json.loads((saved / "config.json").read_text())
    assert config["model_type"] == "qwen2_vl"
    assert next(model.parameters()).dtype == torch.float32, "saving leaves the model as it was"
    assert not list(saved.glob("*.bin")) + list(saved.glob("*.pt")) + list(saved.glob("*.pkl"))


def test_the_product_says_what_the_trained_model_says(
    model: Qwen2VLForConditionalGeneration, saved: Path
) -> None:
    """From camera JPEG and prompt to the first tokens, through loading and decoding as robots use them."""
    verifier = load_verifier(pair(saved, saved))
    rng = np.random.default_rng(0)
    rgb = np.repeat(np.repeat(rng.integers(0, 256, (24, 48, 3), np.uint8), 8, 0), 8, 1)
    prompt = "go to the red chair | last none"
    half = copy.deepcopy(model).half().float()
    tokenizer = build_tokenizer()
    text = tokenizer(prompt + "<answer>").input_ids
    answer = tokenizer("vx 0.4 wz 0.2 | red chair left 1.5").input_ids
    tokens = torch.tensor([text + answer])
    with torch.no_grad():
        visual = encode_frames(half, torch.from_numpy(to_model_size(rgb).copy())[None])
        hidden = text_hidden_states(
            half, visual, tokens, torch.zeros_like(tokens), torch.arange(tokens.shape[1])[None]
        )
        logits = half.lm_head(hidden)[0, len(text) - 1 :]
    session = verifier.prepare(prompt, [to_jpeg(rgb)])
    choices = session.verify([], answer, Sampling())
    session.close()
    first, second = logits.topk(2).values.T
    clear = first - second > 1e-3
    assert clear.sum() > 5
    assert [c for c, ok in zip(choices, clear, strict=True) if ok] == logits.argmax(-1)[clear].tolist()
    assert verifier.eos_ids == {tokenizer.eos_token_id}


def test_jpegs_of_training_and_camera_agree() -> None:
    rgb = np.full((192, 384, 3), (10, 200, 90), np.uint8)
    with Image.open(io.BytesIO(to_jpeg(rgb))) as image:
        assert np.abs(np.asarray(image).astype(int) - rgb).max() <= 3
    assert np.abs(to_model_size(rgb).astype(int) - (10, 200, 90)).max() <= 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_train_from_nothing_leaves_a_pair_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe, "HELD_OUT", 20)
    numbers = "--frames 100 --images 100 --workers 1 --threads 1 --device cpu".split()
    command = ["train", *numbers, "--out", str(tmp_path / "pair"), "--work", str(tmp_path / "frames")]
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "against the expert" in said.err
    assert "against the target" in said.err
    sides = pair(tmp_path / "pair" / "draft", tmp_path / "pair" / "target")
    drafter, verifier = load_drafter(sides), load_verifier(sides)
    assert drafter.vocabulary == verifier.vocabulary
    jpeg = to_jpeg(np.full((192, 384, 3), 120, np.uint8))
    prompt = "go to the red chair | last none"
    session = verifier.prepare(prompt, [jpeg])
    assert len(session.verify([], [20, 21], Sampling())) == 3
    session.close()
    drafted = drafter.open(prompt, [jpeg])
    assert next(iter(drafted.draft([], Sampling()))) < len(build_tokenizer())
    drafted.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_interrupted_run_is_resumed_in_the_phase_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "HELD_OUT", 20)
    monkeypatch.setattr(fitting, "REPORT_S", 0.0)
    monkeypatch.setattr(fitting, "STORED_STEPS", 1)
    monkeypatch.setattr(dataset, "ProcessPoolExecutor", InThisProcess)
    for shape in ("TARGET", "DRAFT"):
        monkeypatch.setattr(recipe, shape, ModelShape(1, 64, 1, 32))
    work, phases = tmp_path / "work", []

    def made(out: str, interrupted: str = "") -> list[str]:
        """Train; returns the names of the phases that steps were made in."""
        phases.clear()

        def report(phase: str, fraction: float, figures: dict[str, float]) -> None:
            phases.append(phase)
            if phase == interrupted and fraction < 1:
                raise KeyboardInterrupt

        plan = TrainingRun(tmp_path / out, work, frames=100, images=200, workers=1)
        recipe.train(plan, torch.device("cpu"), report, lambda done, total: None)
        return [phase for phase in phases if "against" not in phase]

    steps = made("whole")
    for interrupted in ("target: rollouts, 1st round", "draft: distillation"):
        with pytest.raises(KeyboardInterrupt):
            made("resumed", interrupted)
    left = made("resumed")
    assert set(left) == {"draft: distillation"}
    assert len(left) == steps.count("draft: distillation") - 1
    for name in ("target", "draft"):
        files = [tmp_path / out / name / "model.safetensors" for out in ("whole", "resumed")]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert not list(work.glob("learning*")), "a finished run leaves frames alone"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--frames", "10"], "at least 100 frames"),
        (["--images", "0"], "100 images"),
        (["--images", "-1"], "100 images"),
        (["--workers", "0"], "one worker"),
        (["--threads", "-1"], "--threads is -1"),
        (["--seed", "-1"], "--seed is -1"),
        (["--device", "tpu"], "no device 'tpu'"),
        (["--pair", "small"], "no recipe to train the pair 'small': choose tiny"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_is_not_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(["train", "--device", "cuda"]) == 2
    assert "there is no CUDA device here" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_found_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["train", "--out", str(tmp_path / "file" / "pair"), "--work", str(tmp_path / "w")]) == 2
    assert "cannot be written to" in capsys.readouterr().err
