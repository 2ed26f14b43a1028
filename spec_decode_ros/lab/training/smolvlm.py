"""The shapes of the small pair, and batched passes for training through transformers' SmolVLM.

The target is a vision tower before a language model that exists already and gets adapters; the draft a small SmolVLM with
a reduced table over the same vocabulary. Both see a frame as 8 x 8 visual tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from spec_decode_ros.actions.phrasings import say
from spec_decode_ros.lab.training.dataset import Layout
from spec_decode_ros.lab.training.described import draw_spoken
from spec_decode_ros.lab.training.frames import PairView
from spec_decode_ros.lab.training.low_rank import attach
from spec_decode_ros.lab.training.network import Pointer, initialise
from spec_decode_ros.models import assembled
from spec_decode_ros.models.assembled import Assembly
from spec_decode_ros.models.reduced_vision import ReducedSmolVLM, ReducedSmolVLMConfig

SIDE, PATCH, MERGE = 192, 12, 2
"""Pixels of the square that a frame is resized to and of a patch, and patches along each side of a visual token."""

GRID = (SIDE // PATCH // MERGE,) * 2
CELLS = GRID[0] * GRID[1]

LONGEST_EDGE = 384
"""Of the camera's frame, pixels; a larger one is made as large as this first."""

TOKENS = {
    "image_token": "<empty_output>",
    "fake_image_token": "<jupyter_output>",
    "global_image_token": "<file_sep>",
}
"""Special tokens that SmolLM2 has and nothing here uses otherwise stand where SmolVLM has some of its own."""

BEFORE_ANSWER, AFTER_ANSWER = "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    + TOKENS["image_token"]
    + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

PROMPT_TOKENS, ANSWER_TOKENS = 96, 28
FORGOTTEN = 0.65

SETTING = PairView((SIDE, SIDE), GRID, Image.Resampling.LANCZOS, draw_spoken, say, FORGOTTEN)


@dataclass(frozen=True)
class TargetShape:
    """Vision tower and adapters of the target."""

    vision_layers: int = 6
    vision_width: int = 256
    rank: int = 16

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1 or self.vision_width % 32:
            raise ValueError(f"nothing may be zero and a vision width has to be a multiple of 32: {self}")


@dataclass(frozen=True)
class DraftShape:
    """Size of the draft; ``rows`` tokens have an embedding of ``table_width`` dimensions of their own."""

    layers: int = 4
    width: int = 256
    inner: int = 704
    vision_layers: int = 4
    vision_width: int = 192
    rows: int = 4096
    table_width: int = 192

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1 or self.vision_width % 32 or self.width % 64:
            raise ValueError(f"nothing may be zero, widths are multiples of 64 and of 32: {self}")


@dataclass(frozen=True)
class Language:
    """The language model that the target speaks with.

    Attributes:
        location: as in ``assembled.json``: ``module:<package>/<file>.gguf``, or a folder.
    """

    location: str

    @property
    def folder(self) -> Path:
        """Its checkpoint; a packaged one is converted first."""
        return self.assembly.folder(Path())

    @property
    def assembly(self) -> Assembly:
        return Assembly(self.location, TOKENS)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Its tokenizer, with the small pair's template."""
        return _tokenizer(self.location)

    def layout(self) -> Layout:
        """How examples are written down for it."""
        return Layout(
            SETTING,
            partial(_tokenizer, self.location),
            BEFORE_ANSWER,
            AFTER_ANSWER,
            PROMPT_TOKENS,
            ANSWER_TOKENS,
            np.int32,
        )


@cache
def _tokenizer(location: str) -> PreTrainedTokenizerFast:
    assembly = Assembly(location, TOKENS)
    found = assembled.language_tokenizer(assembly, assembly.folder(Path()), CHAT_TEMPLATE)
    assert isinstance(found, PreTrainedTokenizerFast)
    return found


def build_target(language: Language, shape: TargetShape, seed: int) -> SmolVLMForConditionalGeneration:
    """The language model, frozen and with new adapters, behind a new vision tower; the weights are float32."""
    torch.manual_seed(seed)
    spoken = AutoModelForCausalLM.from_pretrained(language.folder, dtype=torch.float32)
    text = AutoConfig.from_pretrained(language.folder).to_dict()
    config = SmolVLMConfig(text_config=text, **_shared(language, shape.vision_layers, shape.vision_width))
    model = SmolVLMForConditionalGeneration._from_config(
        config, attn_implementation="sdpa", dtype=torch.float32
    )
    model.model.text_model = spoken.model
    model.model.text_model.config._attn_implementation = "sdpa"
    model.lm_head.weight = spoken.model.embed_tokens.weight
    for part in (model.model.vision_model, model.model.connector):
        initialise(part)
    attach(model.model.text_model, shape.rank)
    model.lm_head.requires_grad_(False)
    return model


def build_draft(language: Language, shape: DraftShape, used: torch.Tensor, seed: int) -> ReducedSmolVLM:
    """A draft with random weights but for its table, which holds what matters of the language model's embedding.

    Args:
        used: ids of the tokens in the training texts; the vocabulary's most frequent ones are added to them.
    """
    torch.manual_seed(seed)
    text = AutoConfig.from_pretrained(language.folder).to_dict()
    rows = min(shape.rows, text["vocab_size"])
    width = min(shape.table_width, text["hidden_size"], rows)
    kept = frequent(used, rows)
    heads = shape.width // 32
    text |= {
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "head_dim": 32,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "table_rows": rows,
        "table_width": width,
    }
    text.pop("layer_types", None)
    config = ReducedSmolVLMConfig(
        text_config=text, **_shared(language, shape.vision_layers, shape.vision_width)
    )
    model = ReducedSmolVLM._from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    initialise(model)
    embedding = AutoModelForCausalLM.from_pretrained(
        language.folder, dtype=torch.float32
    ).get_input_embeddings()
    _fill_table(model, embedding.weight.detach(), kept)
    end = text["eos_token_id"]
    model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = text.get("pad_token_id")
    return model


def frequent(used: torch.Tensor, rows: int) -> torch.Tensor:
    """Rising ids of the tokens that are used and, up to so many, of those with the lowest ids, which merge earliest."""
    used = used.unique()
    if len(used) > rows:
        raise ValueError(
            f"the training texts use {len(used)} tokens, more than the draft's table has rows ({rows})"
        )
    others = torch.arange(len(used) + rows)
    others = others[~torch.isin(others, used)][: rows - len(used)]
    return torch.cat([used, others]).sort().values


@torch.no_grad()
def _fill_table(model: ReducedSmolVLM, embedding: torch.Tensor, kept: torch.Tensor) -> None:
    """Singular vectors of the kept tokens' embeddings; every other token stands for the most similar of these."""
    table: Any = model.model.text_model.embed_tokens
    own = embedding[kept]
    _, _, directions = torch.linalg.svd(own, full_matrices=False)
    reduced = own @ directions[: table.table.shape[1]].T
    table.table.copy_(reduced / reduced.std())
    table.table.mul_(0.05)
    head: Any = model.lm_head
    head.tokens.copy_(kept)
    directed = F.normalize(own, dim=-1).T
    near = [(F.normalize(part, dim=-1) @ directed).argmax(-1) for part in embedding.split(4096)]
    stands_for = torch.cat(near)
    stands_for[kept] = torch.arange(len(kept))
    table.rows.copy_(stands_for)


def _shared(language: Language, layers: int, width: int) -> dict[str, Any]:
    return {
        "vision_config": {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 32,
            "image_size": SIDE,
            "patch_size": PATCH,
        },
        "scale_factor": MERGE,
        "image_token_id": language.tokenizer().convert_tokens_to_ids(TOKENS["image_token"]),
        "tie_word_embeddings": True,
    }


class SmolVLMPasses:
    """Batched passes of target and draft alike, around the prompt that the chat template makes."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        around, whole = TOKENS["fake_image_token"], TOKENS["global_image_token"]
        self._before = tokenizer(f"<|im_start|>user\n{around}{whole}", add_special_tokens=False).input_ids
        self._after = tokenizer(around, add_special_tokens=False).input_ids
        self._prefix = len(self._before) + CELLS + len(self._after)

    def see(self, model: Any, frames: torch.Tensor) -> torch.Tensor:
        """Visual tokens (B, 64, width) of frames (B, 192, 192, 3) uint8."""
        pixels = (frames.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        return model.model.connector(model.model.vision_model(pixel_values=pixels).last_hidden_state)

    def think(
        self,
        model: Any,
        visual: torch.Tensor,
        tokens: torch.Tensor,
        question: torch.Tensor,
        position: torch.Tensor,
    ) -> torch.Tensor:
        """Hidden states (B, T, width) of the text tokens; see :func:`spec_decode_ros.lab.training.network.think`."""
        decoder = model.get_decoder()
        batch = len(tokens)
        fixed = torch.tensor([*self._before, *self._after], device=tokens.device)
        ends = decoder.embed_tokens(fixed)[None].expand(batch, -1, -1)
        start = len(self._before)
        embeds = torch.cat(
            [ends[:, :start], visual.to(ends.dtype), ends[:, start:], decoder.embed_tokens(tokens)], 1
        )
        own = torch.cat([question.new_full((batch, self._prefix), -2), question], 1)
        length = embeds.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        mask = causal & ((own[:, :, None] == own[:, None, :]) | (own[:, None, :] == -2))
        before = torch.arange(self._prefix, device=tokens.device).expand(batch, -1)
        hidden = decoder(
            inputs_embeds=embeds,
            attention_mask=mask[:, None],
            position_ids=torch.cat([before, position + self._prefix], 1),
            use_cache=False,
        ).last_hidden_state
        return hidden[:, self._prefix :]

    def pointer(self, model: Any, layer: int) -> Pointer:
        """Watches a decoder layer."""
        return Pointer(model, layer, len(self._before), CELLS, self._prefix)


def build_image_processor() -> SmolVLMImageProcessorPil:
    """SmolVLM's image processor, set so that every frame becomes one picture of 192 x 192."""
    return SmolVLMImageProcessorPil(
        size={"longest_edge": LONGEST_EDGE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )


def save_draft(model: ReducedSmolVLM, language: Language, folder: Path) -> None:
    """Write an ordinary checkpoint folder in half precision, its tokenizer in as few bytes as it needs."""
    half = ReducedSmolVLM._from_config(model.config, dtype=torch.float16)
    half.load_state_dict(model.state_dict())
    half.generation_config = model.generation_config
    half.save_pretrained(folder)
    language.tokenizer().save_pretrained(folder)
    build_image_processor().save_pretrained(folder)
    file = folder / "tokenizer.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
