"""Pair files: what is shipped, what is refused and with which words, and the vocabularies of two sides."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_checkpoints
import yaml

from spec_decode_ros.actions.grammar import MAX_ACTION_LENGTH
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models import interfaces
from spec_decode_ros.models.checkpoint_checks import CheckpointError
from spec_decode_ros.models.onednn import has_bfloat16
from spec_decode_ros.models.pair import check_pair, load_drafter, load_pair, load_verifier
from spec_decode_ros.models.pair_config import (
    ModelConfig,
    PairConfig,
    PairError,
    load_pair_config,
    pair_names,
)
from spec_decode_ros.models.vocabulary import VocabularyMismatch

NAMES = ["llama3", "planner", "qwen2-vl", "qwen3", "smollm2", "smolvlm", "tiny", "vicuna-llama2"]


def test_shipped_pairs_can_be_read() -> None:
    assert pair_names() == NAMES
    pairs = {name: load_pair_config(name) for name in pair_names()}
    assert all(pair.name == name for name, pair in pairs.items())
    assert pairs["tiny"].prompt == "trained"
    assert pairs["tiny"].target.dtype == "float32"
    assert pairs["tiny"].goals == "named" and pairs["qwen2-vl"].goals == "any"
    assert pairs["qwen3"].chat.settings == {"enable_thinking": False}
    assert pairs["smollm2"].lookup == 2
    assert all(pair.grammar == "auto" for pair in pairs.values())
    assert all(pairs[name].max_tokens > MAX_ACTION_LENGTH for name in ("qwen2-vl", "smolvlm"))
    assert pairs["qwen2-vl"].draft.quantization == "4bit"
    assert pairs["vicuna-llama2"].chat_template.startswith("{{ bos_token }}")


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        PairError,
        match=rf"no pair 'huge': choose one of {', '.join(NAMES)}",
    ):
        load_pair_config("huge")


GOOD = {"name": "mine", "draft": {"location": "a/b"}, "target": {"location": "a/c"}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"draft": None}, "draft must be a mapping"),
        ({"draft": {}}, "draft: location is missing"),
        ({"draft": {"location": ""}}, "location must be"),
        ({"draft": {"location": "a/b", "dtype": "int3"}}, "dtype must be one of auto, float32"),
        ({"draft": {"location": "a/b", "device": "gpu"}}, "device must be auto, cpu"),
        ({"draft": {"location": "a/b", "threads": -1}}, "threads must be from 0"),
        ({"draft": {"location": "a/b", "threads": True}}, "threads must be a whole number"),
        ({"draft": {"location": "a/b", "quantization": "2bit"}}, "quantization must be one of none"),
        ({"draft": {"location": "a/b", "image_processor": 3}}, "image_processor must be a mapping"),
        (
            {"target": {"location": "a/b", "dtyp": "float32"}},
            "target: dtyp is not a setting; there are adapters, device",
        ),
        ({"prompt": "shouted"}, "prompt must be one of trained, instructed"),
        ({"chat_template": "mine"}, "chat_template must be own, none or a Jinja template"),
        ({"template_settings": "fast"}, "template_settings must be a mapping"),
        ({"grammar": " "}, "grammar must be action, none, auto or a file"),
        ({"goals": "some"}, "goals must be one of any, named"),
        ({"max_tokens": 0}, "max_tokens must be from 1"),
        ({"name": "a b"}, "name must be 1 to 64"),
        ({"folder": "x"}, "folder is not a setting"),
        ({"colour": "x"}, "colour is not a setting"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, change: dict, sentence: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(GOOD | change))
    with pytest.raises(PairError, match=sentence) as caught:
        load_pair_config(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a", "draft: [", "", "name: x"])
def test_what_is_not_a_pair_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pair.yaml"
    file.write_text(text)
    with pytest.raises(PairError, match=r"pair file .*pair\.yaml"):
        load_pair_config(file)
    with pytest.raises(PairError, match="cannot be read"):
        load_pair_config(tmp_path / "absent.yaml")


def test_name_defaults_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in GOOD.items() if key != "name"}))
    assert load_pair_config(file).name == "mine"


def test_a_pair_file_with_relative_folders_loads(tmp_path: Path) -> None:
    file = tiny_checkpoints.make_qwen2_vl_pair(tmp_path)
    config = load_pair_config(file)
    drafter, verifier = load_pair(config)
    assert isinstance(drafter, interfaces.Drafter)
    assert isinstance(verifier, interfaces.Verifier)
    assert drafter.vocabulary == verifier.vocabulary
    assert verifier.vocabulary.startswith(f"{verifier.model.text.size}-")
    assert drafter.eos_ids == verifier.eos_ids == {1}
    assert isinstance(drafter.open("go"), interfaces.DraftSession)
    assert isinstance(verifier.prepare("go"), interfaces.VerifySession)
    text = "vx 0.4 wz -0.6 | red chair right 1.5"
    assert verifier.decode([*verifier.encode(text), 1, -4, 10**7]) == text


def test_different_vocabularies_are_refused_with_what_differs(tmp_path: Path) -> None:
    words = list(tiny_checkpoints.WORDS)
    other = ["pink" if word == "red" else word for word in words] + ["sofa"]
    tiny_checkpoints.make_qwen2_vl(tmp_path / "target", words=words)
    tiny_checkpoints.make_qwen2_vl(tmp_path / "draft", words=other)
    pair = load_pair_config(tiny_checkpoints.write_pair(tmp_path))
    with pytest.raises(VocabularyMismatch) as caught:
        load_pair(pair)
    sentence = str(caught.value)
    assert "the draft has 91 tokens and the target 90" in sentence
    assert "is 'pink' in the draft but 'red' in the target" in sentence
    assert sentence.endswith("choose two models of one family.")


def test_a_longer_vocabulary_is_refused(tmp_path: Path) -> None:
    words = list(tiny_checkpoints.WORDS)
    tiny_checkpoints.make_qwen2_vl(tmp_path / "target", words=[*words, "sofa"])
    tiny_checkpoints.make_qwen2_vl(tmp_path / "draft", words=words)
    with pytest.raises(VocabularyMismatch, match="token 90 is nothing in the draft but 'sofa' in the target"):
        check_pair(load_pair_config(tiny_checkpoints.write_pair(tmp_path)))


def test_padded_heads_of_different_size_are_no_difference(tmp_path: Path) -> None:
    tiny_checkpoints.make_qwen2_vl(tmp_path / "target", padded_head=70)
    tiny_checkpoints.make_qwen2_vl(tmp_path / "draft", padded_head=6)
    drafter, verifier = load_pair(load_pair_config(tiny_checkpoints.write_pair(tmp_path)))
    assert drafter.vocabulary == verifier.vocabulary


def test_an_embedding_smaller_than_the_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tiny_checkpoints.make_llama(tmp_path / "a")
    tiny_checkpoints.make_tokenizer(
        path,
        ["<unk>", "</s>", "<s>"],
        [*tiny_checkpoints.WORDS, "one", "two"],
        tiny_checkpoints.LLAMA_TEMPLATE,
    )
    with pytest.raises(SpecDecodeError, match="embedding has 86 rows but its tokenizer 88 tokens"):
        load_drafter(_pair(str(path)))


def _pair(location: str, **settings: object) -> PairConfig:
    side = ModelConfig(location=location, device="cpu", **settings)
    return PairConfig(name="x", draft=side, target=side)


def test_missing_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(PairError, match="does not exist: correct the location"):
        load_drafter(_pair(str(tmp_path / "absent")))
    with pytest.raises(PairError, match=r"is not installed with this package"):
        load_verifier(_pair("package:checkpoints/absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_verifier(_pair(str(tmp_path / "empty")))


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    path = tiny_checkpoints.make_llama(tmp_path / "a")
    (path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(SpecDecodeError, match="cannot be loaded"):
        load_verifier(_pair(str(path)))


def test_a_checkpoint_that_lacks_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tiny_checkpoints.make_llama(tmp_path / "a")
    weights = load_file(path / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(SpecDecodeError, match=r"lacks 1 weights, such as model\.layers\.0\.mlp\.up_proj"):
        load_verifier(_pair(str(path)))


def test_hub_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"someone/nothing cannot be loaded .* network reaches the hub"):
        load_verifier(_pair("someone/nothing"))


def test_quantisation_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    path = tiny_checkpoints.make_llama(tmp_path / "a")
    with pytest.raises(CheckpointError, match="4bit needs bitsandbytes: run `pip install bitsandbytes"):
        load_verifier(_pair(str(path), quantization="4bit"))


def test_half_precision_loads(tmp_path: Path) -> None:
    import torch

    verifier = load_verifier(_pair(str(tiny_checkpoints.make_qwen2_vl(tmp_path / "a")), dtype="bfloat16"))
    assert verifier.model.model.dtype == (torch.bfloat16 if has_bfloat16() else torch.float32)
    from spec_decode_ros.decoding.messages import Sampling

    session = verifier.prepare("go", [tiny_checkpoints.jpeg(1)])
    assert len(session.verify((), (20, 21), Sampling(temperature=1.0))) == 3


def test_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = tiny_checkpoints.make_llama(tmp_path / "a")
    with pytest.raises(CheckpointError, match="no usable CUDA GPU"):
        load_verifier(_pair(str(path)), device="cuda")


def test_threads_are_set(tmp_path: Path) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        load_drafter(_pair(str(tiny_checkpoints.make_llama(tmp_path / "a"))), threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
