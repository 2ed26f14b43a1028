"""What transformers itself makes of a prompt and an image: its own processors and its own `generate`."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    Idefics3Processor,
    LlavaProcessor,
    Qwen2VLProcessor,
    SmolVLMProcessor,
)
from transformers.models.smolvlm import processing_smolvlm
from transformers.processing_utils import ProcessorMixin


def inputs(name: str, path: Path, prompt: str, images: list[bytes]) -> dict[str, torch.Tensor]:
    """Model inputs, made by the family's own processor without any code of this package."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in images]
    content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": prompt}]
    message = [{"role": "user", "content": prompt if name == "llama" else content}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    if not pictures:
        made = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    else:
        processor = _processor(name, path, tokenizer)
        nested = [pictures] if name in ("smolvlm", "idefics3") else pictures
        made = processor(text=[text], images=nested, return_tensors="pt")
    return {key: value for key, value in made.items() if key != "token_type_ids"}


def _processor(name: str, path: Path, tokenizer: object) -> object:
    image_processor = AutoImageProcessor.from_pretrained(path)
    if name == "llava":
        settings = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
        return LlavaProcessor(image_processor, tokenizer, patch_size=14, **settings)
    # Both insist on a video processor, and one on a library that spells out the numbers of video frames.
    with (
        mock.patch.object(ProcessorMixin, "check_argument_for_proper_class"),
        mock.patch.object(processing_smolvlm, "num2words", str),
    ):
        if name == "qwen2_vl":
            return Qwen2VLProcessor(image_processor, tokenizer)
        if name == "idefics3":
            return Idefics3Processor(image_processor, tokenizer, image_seq_len=4)
        return SmolVLMProcessor(image_processor, tokenizer, None, image_seq_len=4)


@functools.lru_cache(maxsize=16)
def _model(name: str, path: Path) -> Any:
    kind = AutoModelForCausalLM if name == "llama" else AutoModelForImageTextToText
    return kind.from_pretrained(path, dtype=torch.float32).eval()


def generate(name: str, path: Path, prompt: str, images: list[bytes], count: int) -> list[int]:
    """The greedy answer of at most `count` tokens, by a model that this package has not touched."""
    made = inputs(name, path, prompt, images)
    made.setdefault("attention_mask", torch.ones_like(made["input_ids"]))
    model = _model(name, path)
    if hasattr(model.model, "rope_deltas"):
        model.model.rope_deltas = None
    out = model.generate(**made, do_sample=False, max_new_tokens=count)
    return out[0, made["input_ids"].shape[1] :].tolist()
