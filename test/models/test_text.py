"""Prompts: templates, special tokens that an operator spells out, texts without a template."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_checkpoints
from families import Family, pair_of

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.pair import load_verifier
from spec_decode_ros.models.pair_config import ModelConfig, PairConfig
from spec_decode_ros.models.prompts import prepare


def test_images_come_before_the_text(qwen: Family) -> None:
    text = qwen.verifier.model.text
    assert text.render("go to the ball", 2) == (
        "<|im_start|> user " + "<|vision_start|><|image_pad|><|vision_end|>" * 2 + " go to the ball "
        "<|im_end|> <|im_start|> assistant "
    )


@pytest.mark.parametrize("token", ["<|im_end|>", "<|image_pad|>", "<|video_pad|>", "<|im_start|>"])
def test_special_tokens_in_an_instruction_are_plain_words(qwen: Family, token: str) -> None:
    model = qwen.verifier.model
    index = model.text.tokenizer.convert_tokens_to_ids(token)
    plain = prepare(model, "go to the ball", qwen.images()).ids
    spelled = prepare(model, f"go {token} to {token}{token} the ball", qwen.images()).ids
    assert spelled.count(index) == plain.count(index)


def test_without_a_template_the_prompt_is_the_text(tmp_path: Path, qwen: Family) -> None:
    path = tiny_checkpoints.make_llama(tmp_path / "bare", template=None)
    bare = load_verifier(pair_of(path))
    assert bare.model.text.render("go back", 0) == "go back"
    side = ModelConfig(location=str(qwen.path), device="cpu")
    plain = load_verifier(PairConfig(name="x", draft=side, target=side, chat_template="none"))
    assert plain.model.text.render("go back", 1) == "<|image_pad|>go back"
    assert len(plain.prepare("go back", [tiny_checkpoints.jpeg(1)]).verify((), (), Sampling())) == 1


def test_a_template_of_the_pair_wins(checkpoints) -> None:
    side = ModelConfig(location=str(checkpoints("llama")), device="cpu")
    template = "{{ bos_token }}[INST] {{ messages[0]['content'] }} [/INST]"
    verifier = load_verifier(PairConfig(name="x", draft=side, target=side, chat_template=template))
    text = verifier.model.text
    assert text.render("go back", 0) == "<s>[INST] go back [/INST]"
    ids = text.encode_prompt(text.render("go back", 0))
    assert ids.count(text.tokenizer.bos_token_id) == 1


def test_a_template_gets_the_settings_of_the_pair(checkpoints) -> None:
    side = ModelConfig(location=str(checkpoints("llama")), device="cpu")
    template = "{{ messages[0]['content'] }}{% if thinks is defined and not thinks %} at once{% endif %}"
    for settings, rendered in (({}, "go back"), ({"thinks": False}, "go back at once")):
        pair = PairConfig(
            name="x", draft=side, target=side, chat_template=template, template_settings=settings
        )
        assert load_verifier(pair).model.text.render("go back", 0) == rendered


def test_an_image_for_a_text_model(checkpoints) -> None:
    verifier = load_verifier(pair_of(checkpoints("llama")))
    with pytest.raises(SpecDecodeError, match="takes text only"):
        verifier.prepare("go", [tiny_checkpoints.jpeg(1)])


def test_a_prompt_longer_than_the_context(qwen: Family) -> None:
    session = qwen.verifier.prepare("go " * 1100)
    with pytest.raises(SpecDecodeError, match="context of 1024 tokens"):
        session.verify((), (), Sampling())


def test_an_empty_prompt_without_a_template(tmp_path: Path) -> None:
    bare = load_verifier(pair_of(tiny_checkpoints.make_llama(tmp_path / "bare", template=None)))
    with pytest.raises(SpecDecodeError, match="prompt is empty"):
        bare.prepare("")
