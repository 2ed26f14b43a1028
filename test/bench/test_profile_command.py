"""Published shapes with random weights, what their times are made into, and the command that measures them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spec_decode_ros import cli
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.comparison import Spread
from spec_decode_ros.lab.bench.profile import measure as measuring
from spec_decode_ros.lab.bench.profile import random_model
from spec_decode_ros.lab.bench.profile.measure import (
    WIDTHS,
    MeasurementPlan,
    PassCost,
    SideTimes,
    extrapolated,
    measure,
)
from spec_decode_ros.lab.bench.profile.measured_profile import Assumed, profile_text
from spec_decode_ros.lab.bench.profile.profile import load_profile
from spec_decode_ros.lab.bench.profile.random_model import make_model, parameter_count
from spec_decode_ros.lab.bench.profile.shapes import SHAPES
from spec_decode_ros.models.cpu_decoder import CpuDecoder
from spec_decode_ros.models.packed_decoder import PackedDecoder

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Several threads on a busy machine wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("qwen2-vl-2b", 2_208_985_600),
        ("qwen2-vl-7b", 8_291_375_616),
        ("llama-68m", 68_030_208),
        ("llama2-7b", 6_738_415_616),
        ("llama3-1b", 1_235_814_400),
        ("llama3-70b", 70_553_706_496),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-32b", 32_762_123_264),
    ],
)
def test_a_shape_has_the_published_number_of_weights(name: str, count: int) -> None:
    assert parameter_count(SHAPES[name]) == count


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2-vl"])
def test_random_weights_leave_out_nothing_that_a_model_needs(name: str) -> None:
    made = make_model(SHAPES[name], CPU, torch.float32).model
    usual = type(made)._from_config(SHAPES[name].config(), dtype=torch.float32)
    tables = dict(usual.named_buffers())
    assert tables and all(torch.equal(table, tables[key]) for key, table in made.named_buffers())
    assert all(bool(weight.isfinite().all()) for weight in made.parameters())
    spread = [float(weight.detach().std()) for weight in made.parameters() if weight.dim() > 1]
    assert min(spread) > 0.01 and max(spread) < 0.03
    assert made.get_output_embeddings().weight is made.get_input_embeddings().weight


def test_a_pass_is_over_as_many_tokens_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[tuple[int, int]] = []
    honest = CpuDecoder.run

    def run(self, embeddings, positions, segments, *more, **also):  # type: ignore[no-untyped-def]
        (segment,) = segments
        lengths.append((segment.past, embeddings.shape[1]))
        return honest(self, embeddings, positions, segments, *more, **also)

    monkeypatch.setattr(CpuDecoder, "run", run)
    times = measure(SHAPES["tiny-llama"], MeasurementPlan(CPU, torch.float32, prompt_tokens=30, repeats=1))
    assert times.prompt_tokens == 30
    assert set(lengths) == {(0, 30), *((30, width) for width in WIDTHS)}
    assert not times.extrapolated


def test_half_precision_takes_the_way_that_a_gpu_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = []
    honest = PackedDecoder.run

    def run(self, *given, **also):  # type: ignore[no-untyped-def]
        ways.append(sorted(also.get("hooks", given[3] if len(given) > 3 else ())))
        return honest(self, *given, **also)

    monkeypatch.setattr(PackedDecoder, "run", run)
    times = measure(
        SHAPES["tiny-qwen2-vl"],
        MeasurementPlan(CPU, torch.float16, prompt_tokens=9, image=(84, 56), repeats=1),
    )
    assert times.prompt_tokens == 9 + 3 * 2
    assert [1] in ways  # the exit after the second of four layers
    way_out = times.exits["in the pass"]
    assert 0 < way_out.known.median < way_out.passing.median
    assert 0 < way_out.fraction < 1


def test_what_is_outside_the_layers_is_not_multiplied() -> None:
    assert extrapolated([2.0, 4.0], [3.0, 5.0], 14) == [2 * 14 + 3, 4 * 14 + 5]
    assert extrapolated([2.0], [3.0], 14, heads=2) == [2 * 14 + 2 * 3]


def test_where_layers_are_left_out_the_head_is_timed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the clock counting layers and rows of the output head, the extrapolated time is that of the whole model."""
    shape, clock = SHAPES["tiny-llama"], [0.0]
    made = random_model.make_model

    def counting(*given):  # type: ignore[no-untyped-def]
        model = made(*given)
        depth, logits, run = len(model.model.model.layers), model.logits, CpuDecoder.run

        def counted_run(self, embeddings, *more, **also):  # type: ignore[no-untyped-def]
            clock[0] += depth * embeddings.shape[1] / 1e3
            return run(self, embeddings, *more, **also)

        def counted_head(hidden):  # type: ignore[no-untyped-def]
            clock[0] += 10 * len(hidden) / 1e3
            return logits(hidden)

        model.logits = counted_head
        monkeypatch.setattr(type(model.decoder), "run", counted_run)
        return model

    monkeypatch.setattr(measuring, "make_model", counting)
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: clock[0])
    honest = CpuDecoder.run
    for layers in (None, 2):
        monkeypatch.setattr(CpuDecoder, "run", honest)
        times = measure(
            shape, MeasurementPlan(CPU, torch.float32, prompt_tokens=30, layers=layers, repeats=2)
        )
        assert times.extrapolated == (layers is not None)
        assert times.prefill.median == pytest.approx(4 * 30 + 10)
        for width, spread in times.passes.items():
            assert spread.median == pytest.approx((4 + 10) * width)
        assert times.exits["in the pass"].passing.median == pytest.approx((4 + 20) * 4)


def test_a_line_through_passes_is_exact_for_one_token_and_never_falls() -> None:
    line = PassCost.through({1: 10.0, 2: 10.5, 16: 17.5})
    assert (line.step_ms, line.per_token_ms, line.off) == pytest.approx((10.0, 0.5, 0.0), abs=1e-9)
    assert PassCost.through({1: 12.0, 16: 8.0}) == PassCost(12.0, 0.0, 0.5)
    bent = PassCost.through({1: 10.0, 2: 30.0, 4: 30.0})
    assert bent.step_ms == 10 and 0.3 < bent.off < 0.6


def _side(passes: dict[int, float]) -> SideTimes:
    taken = {width: Spread(time, time, time) for width, time in passes.items()}
    return SideTimes(SHAPES["tiny-llama"], 180_000, 4, 9, taken[1], taken[1], taken, {})


def test_a_profile_warns_where_passes_are_not_on_a_line() -> None:
    straight, bent = _side({1: 10.0, 2: 10.5, 16: 17.5}), _side({1: 10.0, 2: 30.0, 4: 30.0})
    assert "CAUTION" in profile_text({}, [straight, bent], Assumed())
    assert "CAUTION" not in profile_text({}, [bent, straight], Assumed())


def test_a_profile_can_be_simulated_and_says_what_was_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made" / "here.yaml"
    threads = torch.get_num_threads()
    asked = ["--draft", "tiny-llama", "--target", "tiny-qwen2-vl", "--device", "cpu", "--threads", "1"]
    few = ["--layers", "2", "--repeats", "2", "--image", "112x84", "--acceptance", "0.6", "--rtt-ms", "30"]
    assert cli.main(["profile", *asked, *few, "--prompt-tokens", "20", "--out", str(out), "--json", "-"]) == 0
    assert torch.get_num_threads() == threads
    found = json.loads(capsys.readouterr().out)
    assert found["target"]["layers_measured"] == 2 and found["target"]["extrapolated"]
    assert found["target"]["prompt_tokens"] == 20 + 4 * 3
    assert found["draft"]["prompt_tokens"] == 20

    profile, text = load_profile(str(out)), out.read_text()
    assert (
        "1 thread, float32, torch " in profile.source
        and "random weights, acceptance imposed" in profile.source
    )
    assert "tiny-qwen2-vl (2 of 4 layers, extrapolated) verifies" in profile.source
    assert "EXTRAPOLATED" in text and "Imposed" in text and "Assumed" in text
    world = profile.world
    assert profile.draft_ms == pytest.approx(found["draft"]["passes_ms"]["1"]["median"], rel=1e-3)
    assert world.prefill_ms == pytest.approx(found["target"]["prefill_ms"]["median"], rel=1e-3)
    assert world.prepare_ms == pytest.approx(found["target"]["prepare_ms"]["median"], rel=1e-3)
    assert world.step_ms == pytest.approx(found["target"]["line"]["step_ms"], rel=1e-3)
    assert world.upload_ms == pytest.approx(112 * 84 * 0.2 * 8 / 20e3, rel=1e-3)
    assert [cell.acceptance for cell in profile.cells()] == [0.6]

    assert cli.main(["simulate", "--profile", str(out), "--actions", "2", "--json", "-"]) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert cell["rtt_ms"] == 30 and cell["methods"]["auto"]["ttva_ms"] > 30


def test_the_time_of_a_robots_draft_can_be_given(tmp_path: Path) -> None:
    out = tmp_path / "given.yaml"
    pair = [
        "--draft",
        "tiny-llama",
        "--target",
        "tiny-llama",
        "--device",
        "cpu",
        "--threads",
        "1",
        "--repeats",
        "1",
    ]
    assert cli.main(["profile", *pair, "--prompt-tokens", "8", "--draft-ms", "17.5", "--out", str(out)]) == 0
    profile = load_profile(str(out))
    assert profile.draft_ms == 17.5 and "draft time given" in profile.source
    assert "extrapolated" not in out.read_text().lower()


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="an exit beside a pass on a GPU cannot be tried without a CUDA GPU"
)
def test_on_a_gpu_an_exit_runs_beside_the_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ["--draft", "tiny-llama", "--target", "tiny-qwen2-vl", "--device", "cuda", "--repeats", "2"]
    assert cli.main(["profile", *pair, "--out", str(tmp_path / "gpu.yaml"), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert torch.cuda.get_device_name() in found["machine"] and "bfloat16" in found["machine"]
    assert set(found["target"]["exits"]) == {"in the pass", "beside the pass"}


def test_what_does_not_fit_is_refused_before_any_memory_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(random_model, "free_bytes", lambda device: 20 * 10**9)
    monkeypatch.setattr(measuring, "make_model", lambda *given: pytest.fail("a model was made"))
    pair = ["--draft", "tiny-llama", "--target", "llama3-70b", "--device", "cpu"]
    assert cli.main(["profile", *pair, "--out", str(tmp_path / "p.yaml")]) == 2
    said = capsys.readouterr().err.strip()
    assert "llama3-70b needs 324.5 GB in float32 and 20.0 GB are free on cpu" in said
    assert "--layers" in said and len(said.splitlines()) == 1
    assert not (tmp_path / "p.yaml").exists()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (["--draft", "gpt"], "no shape 'gpt': choose one of qwen2-vl-2b"),
        (["--out", "profile"], "has to end in .yaml"),
        (["--layers", "3"], "even number of layers"),
        (["--image", "large"], "width and a height"),
        (["--image", "8x8"], "at least 28 pixels"),
        (["--repeats", "0"], "at least once"),
        (["--acceptance", "1.5"], "from 0 to 1"),
        (["--threads", "-1"], "--threads"),
        (["--draft-ms", "0"], "above 0"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    changed: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--draft", "tiny-llama", "--target", "tiny-llama", "--out", str(tmp_path / "p.yaml"), *changed]
    assert cli.main(["profile", *asked]) == 2
    said = capsys.readouterr().err.strip()
    assert reason in said and len(said.splitlines()) == 1


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="this machine has a CUDA GPU, so that asking for one is not refused"
)
def test_without_a_gpu_cuda_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["profile", "--draft", "llama-68m", "--target", "llama-68m", "--device", "cuda"]) == 2
    assert "no usable CUDA GPU" in capsys.readouterr().err


def test_a_vision_tower_is_cut_only_with_its_decoder() -> None:
    shape = SHAPES["qwen2-vl-2b"]
    assert (shape.depths(), shape.depths(28), shape.depths(2)) == ((28, 32), (28, 32), (2, 2))
    assert shape.config(28).vision_config.depth == 32 and shape.config(2).vision_config.depth == 2


def test_a_profile_needs_a_bandwidth() -> None:
    with pytest.raises(SpecDecodeError, match="bandwidth"):
        Assumed(mbit=0)


def test_times_know_whether_they_are_of_all_layers() -> None:
    times = measure(
        SHAPES["tiny-llama"], MeasurementPlan(CPU, torch.float32, prompt_tokens=4, layers=8, repeats=1), False
    )
    assert isinstance(times, SideTimes)
    assert times.layers == 4 and not times.extrapolated and not times.exits
