"""Adapters that a pair file names: merged into the weights of its model, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from spec_decode_ros.lab.training import low_rank
from spec_decode_ros.models import pair_config
from spec_decode_ros.models.adapters import AdaptersError, save_adapters
from spec_decode_ros.models.exits import ExitAdapter, save_exits
from spec_decode_ros.models.interfaces import ExitFigures
from spec_decode_ros.models.pair import check_pair, load_drafter, load_verifier
from spec_decode_ros.models.pair_config import (
    EXITS_FILE,
    ModelConfig,
    PairError,
    exits_file,
    load_pair_config,
)
from spec_decode_ros.models.verifier import HfVerifier

FILE = "adapters.safetensors"
LAYER = "layers.0.self_attn.q_proj"
WIDTH = 512  # so that oneDNN lays the weights out again


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapted")


@pytest.fixture(scope="module")
def trained(root: Path) -> Any:
    """A model with adapters beside its layers, as in training; its checkpoint and a file of the adapters are in `root`."""
    folder = tiny_checkpoints.make_llama(root / "target", width=WIDTH, layers=1, tied=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.manual_seed(0)
    low_rank.attach(model.get_decoder(), 4)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith((".down", ".up")):
                weight.copy_(torch.randn_like(weight).mul(0.02).half())  # so that saving loses nothing
    matrices = low_rank.adapters(model.get_decoder())
    save_adapters(root / FILE, matrices, model.get_input_embeddings().weight)
    return model


@pytest.fixture
def adapters(trained: Any, root: Path) -> dict[str, torch.Tensor]:
    return load_file(root / FILE)


def write_pair(folder: Path, root: Path, **settings: object) -> Path:
    """A pair file in `folder`, both of whose sides are the checkpoint in `root` with the adapters in `folder`."""
    side = {"location": str(root / "target"), "device": "cpu", "adapters": FILE, **settings}
    file = folder / "pair.yaml"
    file.write_text(yaml.safe_dump({"draft": side, "target": side}))
    return file


@torch.no_grad()
def logits(verifier: HfVerifier) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of a prompt, and the logits behind each of them."""
    sequence = verifier.prepare("go to the red chair").sequence
    ids = sequence.prompt.ids
    return torch.tensor([ids]), sequence.logits([], len(ids))


def test_merged_adapters_compute_what_they_did_beside_the_layers(
    trained: Any, root: Path, tmp_path: Path
) -> None:
    pair = write_pair(root, root)
    verifier = load_verifier(pair)
    ids, merged = logits(verifier)
    with torch.no_grad():
        expected = trained(input_ids=ids).logits[0]
    torch.testing.assert_close(merged, expected, atol=1e-6 * float(expected.abs().max()), rtol=1e-5)
    bare = load_verifier(write_pair(tmp_path, root, adapters=None))
    assert (logits(bare)[1] - expected).abs().max() > 0.1, "the adapters change something"
    assert bare.vocabulary == verifier.vocabulary, "the two sides of a link need not both have adapters"
    drafter = load_drafter(pair)
    assert torch.equal(
        drafter.model.model.get_decoder().get_submodule(LAYER).weight,
        verifier.model.model.get_decoder().get_submodule(LAYER).weight,
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "auto"])
def test_the_sum_is_rounded_once(
    adapters: dict[str, torch.Tensor], trained: Any, root: Path, dtype: str
) -> None:
    loaded = load_verifier(write_pair(root, root, dtype=dtype)).model.model
    kind = torch.float16 if dtype == "float16" else torch.float32
    assert {weight.dtype for weight in loaded.parameters()} == {kind}
    assert {buffer.dtype for buffer in loaded.buffers() if buffer.is_floating_point()} == {torch.float32}
    own = trained.get_decoder().get_submodule(LAYER).linear.weight
    expected = own + adapters[f"{LAYER}.up"].float() @ adapters[f"{LAYER}.down"].float()
    assert torch.equal(loaded.get_decoder().get_submodule(LAYER).weight, expected.to(kind))


def test_the_file_holds_half_precision_that_everybody_can_read(
    adapters: dict[str, torch.Tensor], root: Path
) -> None:
    assert (root / FILE).stat().st_mode & 0o777 == 0o644
    mark = adapters.pop("base")
    assert mark.shape == (WIDTH,)
    assert {matrix.dtype for matrix in adapters.values()} == {torch.float16}
    assert len(adapters) == 2 * 7, "two matrices for seven layers"


DOWN, UP = f"{LAYER}.down", f"{LAYER}.up"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({DOWN: None}, f"'{LAYER}' is no linear layer, or one of its two matrices is missing"),
        ({UP: None}, "one of its two matrices is missing"),
        ({f"{LAYER}.bias": torch.zeros(4)}, f"{LAYER}.bias belongs to no adapter"),
        ({"norm.down": torch.zeros(2, WIDTH), "norm.up": torch.zeros(WIDTH, 2)}, "'norm' is no linear layer"),
        ({"other.down": torch.zeros(2, WIDTH), "other.up": torch.zeros(WIDTH, 2)}, "'other' is no linear"),
        ({DOWN: torch.zeros(4, WIDTH - 1)}, "other shapes than its weight"),
        ({DOWN: torch.zeros(3, WIDTH)}, "other shapes"),
        ({UP: torch.zeros(WIDTH // 2, 4)}, "other shapes"),
        ({UP: torch.zeros(())}, "other shapes"),
        ({UP: torch.full((WIDTH, 4), torch.nan)}, f"the matrices of {LAYER} are not finite"),
        ({"base": None}, "trained with another model"),
        ({"base": torch.zeros(WIDTH)}, "trained with another model"),
        ({"base": torch.zeros(WIDTH // 2)}, "trained with another model"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(
    adapters: dict[str, torch.Tensor], root: Path, tmp_path: Path, change: dict, sentence: str
) -> None:
    changed = {name: matrix for name, matrix in (adapters | change).items() if matrix is not None}
    save_file(changed, tmp_path / FILE)
    with pytest.raises(AdaptersError, match=sentence) as caught:
        load_verifier(write_pair(tmp_path, root))
    said = str(caught.value)
    assert said.startswith(f"The adapters {tmp_path / FILE} cannot be used")
    assert "train them again" in said
    assert "\n" not in said


def test_adapters_of_another_model_of_the_same_shape_are_refused(
    trained: Any, root: Path, tmp_path: Path
) -> None:
    tiny_checkpoints.make_llama(tmp_path / "target", width=WIDTH, layers=1, tied=True, seed=5)
    with pytest.raises(AdaptersError, match="trained with another model"):
        load_verifier(write_pair(tmp_path, tmp_path, adapters=str(root / FILE)))


def test_what_is_no_safetensors_file_is_refused(trained: Any, root: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    with pytest.raises(AdaptersError, match="cannot be read"):
        load_verifier(write_pair(tmp_path, root))


@pytest.mark.parametrize("load", [load_verifier, check_pair])
def test_missing_adapters_are_noticed_before_anything_is_loaded(
    load: Any, trained: Any, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        PairError, match=r"none\.safetensors do not exist: .* `spec-decode train --pair mine`"
    ):
        load(write_pair(tmp_path, root, adapters="package:checkpoints/mine/none.safetensors"))


def test_a_file_inside_this_package(
    trained: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_config, "files", lambda package: root)
    plain, pair = write_pair(root, root), write_pair(tmp_path, root, adapters=f"package:{FILE}")
    assert torch.equal(logits(load_verifier(plain))[1], logits(load_verifier(pair))[1])


def test_exits_belong_beside_the_adapters_unless_they_are_named(
    trained: Any, root: Path, tmp_path: Path
) -> None:
    save_adapters(
        tmp_path / FILE, low_rank.adapters(trained.get_decoder()), trained.get_input_embeddings().weight
    )
    pair = write_pair(tmp_path, root)
    verifier = load_verifier(pair)
    assert verifier.exits == ()
    config = load_pair_config(pair)
    file = exits_file(config.target, config.folder)
    assert file == tmp_path / EXITS_FILE
    figures = ExitFigures(layer=0, agreement=0.5, threshold=0.9, sure_share=0.1, sure_agreement=0.9)
    save_exits(file, verifier.model, [ExitAdapter(WIDTH, 4)], [figures])
    assert load_verifier(pair).exits == (figures,)
    named = ModelConfig("a/b", exits="package:checkpoints/tiny/target/exits.safetensors")
    inside = exits_file(named, tmp_path)
    assert inside is not None and inside.is_file()


@pytest.mark.parametrize("setting", [{"quantization": "8bit"}, {"tensor_parallel": 2}, {"adapters": " "}])
def test_settings_that_do_not_go_together_are_refused(setting: dict) -> None:
    with pytest.raises(PairError, match=r"adapters (go together with neither|must be the path of a file)"):
        ModelConfig(**{"location": "a/b", "adapters": FILE, **setting})
