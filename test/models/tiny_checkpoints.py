"""Random checkpoints of a few hundred kilobytes, in the folder layout of the real ones, made without any hub.

Each `make_*` writes an ordinary checkpoint folder (configuration, weights, tokenizer, image processor, chat template)
that the package loads like any other. The weights are scaled so that the answers vary from position to position and
from image to image; they mean nothing. `make_qwen2_vl_pair` makes a target, and a draft that is the same
network with noise on its weights, so that part of every draft is accepted, and a pair file that names both.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    Idefics3Config,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SmolVLMConfig,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.utils import logging as transformers_logging

transformers_logging.disable_progress_bar()

WORDS = (
    "vx wz | - searching reached not found turning walking done stopped stand sit up down left right ahead understood "
    "red green blue yellow white black orange purple chair ball box cone table go to the find a stop turn walk around "
    "degrees metres forward back slowly please towards last action none instruction : . , "
    "0 0.0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 -0.2 -0.4 -0.6 -0.8 1 1.5 2 2.5 3 10 20 30 45 90 180"
).split()

QWEN2_VL_TEMPLATE = (
    "{% for message in messages %}<|im_start|> {{ message['role'] }} "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %} {{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
SMOLVLM_TEMPLATE = (
    "<|im_start|> {% for message in messages %}{{ message['role'] }} : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}{% endfor %} "
    "<end_of_utterance> {% endfor %}{% if add_generation_prompt %}assistant :{% endif %}"
)
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)
LLAMA_TEMPLATE = "{{ bos_token }} user : {{ messages[0]['content'].strip() }} assistant :"


def jpeg(seed: int = 0, width: int = 84, height: int = 56) -> bytes:
    """A JPEG of random coloured blocks, different for every seed."""
    rng = np.random.default_rng(seed)
    blocks = Image.fromarray(rng.integers(0, 256, (height // 14, width // 14, 3), dtype=np.uint8))
    with io.BytesIO() as out:
        blocks.resize((width, height), Image.Resampling.NEAREST).save(out, "JPEG", quality=85)
        return out.getvalue()


def make_tokenizer(
    path: Path,
    special: Sequence[str],
    words: Sequence[str] = WORDS,
    template: str | None = None,
    bos: bool = False,
) -> PreTrainedTokenizerFast:
    """A word-level tokenizer over `words`; `special[0]` pads and stands for unknown words, `special[1]` ends an answer."""
    tokens = [*special, "user", "assistant", *words]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(tokens))}, special[0])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=special[0],
        pad_token=special[0],
        eos_token=special[1],
        bos_token=special[2] if bos else None,
        extra_special_tokens=list(special[2:]),
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = template
    wrapped.save_pretrained(path)
    return wrapped


def scramble(model: torch.nn.Module, seed: int, gain: float = 1.6) -> None:
    """Random weights with enough spread that the most likely token changes with every input."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() < 2:
                continue
            fan_in = math.prod(weight.shape[1:])
            scale = 1.0 if "embed_tokens" in name else gain / math.sqrt(fan_in)
            weight.normal_(0.0, scale, generator=generator)


def add_noise(model: torch.nn.Module, seed: int, noise: float) -> None:
    """Disturb every weight matrix by `noise` times its own spread."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() >= 2:
                weight.add_(torch.randn(weight.shape, generator=generator) * weight.std() * noise)


def _save(model: torch.nn.Module, path: Path, eos: Sequence[int], pad: int) -> Path:
    model.generation_config.eos_token_id = list(eos)
    model.generation_config.pad_token_id = pad
    model.save_pretrained(path)
    return path


def _text_config(vocabulary: int, width: int, layers: int) -> dict:
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }


def make_qwen2_vl(
    path: str | Path,
    *,
    seed: int = 0,
    width: int = 64,
    layers: int = 2,
    vision_width: int = 32,
    words: Sequence[str] = WORDS,
    padded_head: int = 0,
    eos_words: Sequence[str] = (),
    noise: float = 0.0,
    noise_seed: int = 1,
) -> Path:
    """A Qwen2-VL checkpoint. `padded_head` rows are added to the head beyond the tokenizer's vocabulary (and get the
    largest logits of all); `eos_words` also end an answer; `noise` disturbs the weights that `seed` gave."""
    path = Path(path)
    special = [
        "<|endoftext|>",
        "<|im_end|>",
        "<|im_start|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ]
    tokenizer = make_tokenizer(path, special, words, QWEN2_VL_TEMPLATE)
    text = _text_config(len(tokenizer) + padded_head, width, layers)
    half = width // 4 // 2
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [half - 2 * (3 * half // 8), 3 * half // 8, 3 * half // 8],
    }
    config = Qwen2VLConfig(
        text_config=text,
        vision_config={
            "depth": 1,
            "embed_dim": vision_width,
            "hidden_size": width,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 14,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    model = Qwen2VLForConditionalGeneration(config).eval()
    scramble(model, seed)
    if noise:
        add_noise(model, noise_seed, noise)
    if padded_head:
        with torch.no_grad():
            model.lm_head.weight[len(tokenizer) :] *= 3.0
    Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=384 * 192).save_pretrained(path)
    return _save(model, path, [1, *tokenizer.convert_tokens_to_ids(list(eos_words))], 0)


def make_qwen2_vl_pair(
    root: str | Path, *, seed: int = 0, noise: float = 0.05, prompt: str = "trained", **kwargs: object
) -> Path:
    """A draft and a target in `root`, and the pair file `root/pair.yaml`, whose path is returned."""
    root = Path(root)
    make_qwen2_vl(root / "target", seed=seed, **kwargs)
    make_qwen2_vl(root / "draft", seed=seed, noise=noise, **kwargs)
    return write_pair(root, prompt=prompt)


def write_pair(root: Path, *, draft: str = "draft", target: str = "target", **settings: object) -> Path:
    """Write `root/pair.yaml` for two folders inside `root`."""
    document = {
        "name": "random",
        "prompt": "trained",
        "max_tokens": 24,
        "draft": {"location": draft},
        "target": {"location": target},
        **settings,
    }
    file = root / "pair.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def make_smolvlm(
    path: str | Path,
    *,
    seed: int = 0,
    width: int = 64,
    layers: int = 2,
    words: Sequence[str] = WORDS,
    splitting: bool = True,
    kind: type[SmolVLMConfig] | type[Idefics3Config] = SmolVLMConfig,
) -> Path:
    """A SmolVLM checkpoint: image cut into tiles of 32 x 32 when `splitting`, four visual tokens a tile."""
    path = Path(path)
    special = ["<|endoftext|>", "<end_of_utterance>", "<|im_start|>", "<fake_token_around_image>", "<image>"]
    special += ["<global-img>", *(f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5))]
    tokenizer = make_tokenizer(path, special, words, SMOLVLM_TEMPLATE)
    config = kind(
        text_config={"model_type": "llama", **_text_config(len(tokenizer), width, layers)},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    model = AutoModelForImageTextToText.from_config(config).eval()
    scramble(model, seed)
    processor = SmolVLMImageProcessorPil if kind is SmolVLMConfig else Idefics3ImageProcessorPil
    processor(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, do_image_splitting=splitting
    ).save_pretrained(path)
    return _save(model, path, [1], 0)


def make_idefics3(path: str | Path, **kwargs: Any) -> Path:
    """The same shapes as an Idefics3 checkpoint, which the first generation of SmolVLM is by its configuration."""
    return make_smolvlm(path, kind=Idefics3Config, **kwargs)


def make_llava(
    path: str | Path, *, seed: int = 0, width: int = 64, layers: int = 2, words: Sequence[str] = WORDS
) -> Path:
    """A LLaVA 1.5 checkpoint: CLIP tower at 28 x 28, four visual tokens."""
    path = Path(path)
    tokenizer = make_tokenizer(path, ["<unk>", "</s>", "<s>", "<image>"], words, LLAVA_TEMPLATE)
    config = LlavaConfig(
        text_config=LlamaConfig(**_text_config(len(tokenizer), width, layers)),
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=4,
    )
    model = LlavaForConditionalGeneration(config).eval()
    scramble(model, seed)
    LlavaImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(
        path
    )
    return _save(model, path, [1], 0)


def make_llama(
    path: str | Path,
    *,
    seed: int = 0,
    width: int = 64,
    layers: int = 2,
    words: Sequence[str] = WORDS,
    template: str | None = LLAMA_TEMPLATE,
    noise: float = 0.0,
    tied: bool = False,
) -> Path:
    """A text-only Llama checkpoint; if `tied`, its output head is its embedding, as in SmolLM2."""
    path = Path(path)
    tokenizer = make_tokenizer(path, ["<unk>", "</s>", "<s>"], words, template, bos=True)
    config = LlamaConfig(**_text_config(len(tokenizer), width, layers), tie_word_embeddings=tied)
    model = LlamaForCausalLM(config).eval()
    scramble(model, seed)
    if noise:
        add_noise(model, 1, noise)
    return _save(model, path, [1], 0)
