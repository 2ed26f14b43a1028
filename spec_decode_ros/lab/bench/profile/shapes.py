"""Shapes of published models, to time them without their weights: the cost of a pass follows from the shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spec_decode_ros.errors import SpecDecodeError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Tower:
    """The vision encoder of a Qwen2-VL."""

    blocks: int
    width: int
    heads: int


@dataclass(frozen=True)
class PublishedShape:
    """One model.

    `family` is `llama`, `qwen3` or `qwen2_vl`; `inner` are the units of an MLP, `heads` the query heads, `shared` the
    key-value heads. `tied` says that embedding and output head are one matrix. `head_width` 0 is `width` over `heads`.
    """

    name: str
    family: str
    layers: int
    width: int
    inner: int
    heads: int
    shared: int
    vocabulary: int
    tied: bool
    head_width: int = 0
    tower: Tower | None = None

    def depths(self, layers: int | None = None) -> tuple[int, int]:
        """Decoder layers and vision blocks, both cut to `layers` if that cuts the decoder."""
        blocks = self.tower.blocks if self.tower else 0
        if layers is None or layers >= self.layers:
            return self.layers, blocks
        return layers, min(layers, blocks)

    def config(self, layers: int | None = None) -> PreTrainedConfig:
        """The configuration for transformers, cut to `depths`."""
        from transformers import LlamaConfig, Qwen2VLConfig, Qwen3Config

        depth, blocks = self.depths(layers)
        head_width = self.head_width or self.width // self.heads
        common: dict[str, Any] = {
            "hidden_size": self.width,
            "intermediate_size": self.inner,
            "num_hidden_layers": depth,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.shared,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 32768,
            "bos_token_id": None,
            "eos_token_id": None,
        }
        if self.tower is None:
            kind = LlamaConfig if self.family == "llama" else Qwen3Config
            return kind(**common, head_dim=head_width, tie_word_embeddings=self.tied)
        rows = 3 * (head_width // 2) // 8  # rotary frequencies of time, rows and columns are as 2 : 3 : 3
        rope = {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [head_width // 2 - 2 * rows, rows, rows],
        }
        vision = {
            "depth": blocks,
            "embed_dim": self.tower.width,
            "num_heads": self.tower.heads,
            "hidden_size": self.width,
        }
        special = self.vocabulary - 8 if self.vocabulary < 1000 else 151652
        return Qwen2VLConfig(
            text_config={**common, "rope_parameters": rope, "tie_word_embeddings": self.tied},
            vision_config=vision,
            tie_word_embeddings=self.tied,
            vision_start_token_id=special,
            vision_end_token_id=special + 1,
            image_token_id=special + 3,
            video_token_id=special + 4,
        )


_QWEN2_VL_TOWER = Tower(32, 1280, 16)

_ALL = (
    PublishedShape("qwen2-vl-2b", "qwen2_vl", 28, 1536, 8960, 12, 2, 151936, True, tower=_QWEN2_VL_TOWER),
    PublishedShape("qwen2-vl-7b", "qwen2_vl", 28, 3584, 18944, 28, 4, 152064, False, tower=_QWEN2_VL_TOWER),
    PublishedShape("llama-68m", "llama", 2, 768, 3072, 12, 12, 32000, False),
    PublishedShape("llama2-7b", "llama", 32, 4096, 11008, 32, 32, 32000, False),
    PublishedShape("llama3-1b", "llama", 16, 2048, 8192, 32, 8, 128256, True),
    PublishedShape("llama3-70b", "llama", 80, 8192, 28672, 64, 8, 128256, False),
    PublishedShape("qwen3-0.6b", "qwen3", 28, 1024, 3072, 16, 8, 151936, True, 128),
    PublishedShape("qwen3-32b", "qwen3", 64, 5120, 25600, 64, 8, 151936, False, 128),
    # Made up, to try the command within seconds.
    PublishedShape("tiny-llama", "llama", 4, 64, 128, 4, 2, 256, True),
    PublishedShape("tiny-qwen2-vl", "qwen2_vl", 4, 64, 128, 4, 2, 256, True, tower=Tower(4, 32, 2)),
)

SHAPES = {shape.name: shape for shape in _ALL}
"""By name."""


def shape_named(name: str) -> PublishedShape:
    """The shape of that name. Raises SpecDecodeError."""
    if name not in SHAPES:
        raise SpecDecodeError(f"there is no shape {name!r}: choose one of {', '.join(SHAPES)}")
    return SHAPES[name]
