"""The shapes of published models, for timing them without their weights: what a pass costs follows from the shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spec_decode_ros.errors import SpecDecodeError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Tower:
    """A Qwen2-VL vision tower: so many blocks of such a width."""

    blocks: int
    width: int
    heads: int

    def __post_init__(self) -> None:
        if min(self.blocks, self.width, self.heads) < 1 or self.width % (4 * self.heads):
            raise SpecDecodeError("a vision tower needs blocks, and heads whose width divides by 4")


@dataclass(frozen=True)
class PublishedShape:
    """One decoder.

    Attributes:
        name: what users call it.
        family: `llama`, `qwen3` or `qwen2_vl`.
        layers: decoder layers.
        width: of the hidden states.
        inner: units inside each MLP.
        heads: query heads.
        shared: key-value heads.
        vocabulary: rows of embedding and output head.
        tied: whether these two are one matrix.
        head_width: of one head; 0 for `width` over `heads`.
        tower: what `qwen2_vl` sees with.
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

    def __post_init__(self) -> None:
        if self.family not in _FAMILIES:
            raise SpecDecodeError(f"a shape's family is one of {', '.join(_FAMILIES)}, not {self.family!r}")
        if (self.family == "qwen2_vl") != (self.tower is not None):
            raise SpecDecodeError("a shape has a vision tower exactly if its family is qwen2_vl")
        sizes = (self.layers, self.width, self.inner, self.heads, self.shared, self.vocabulary)
        if min(sizes) < 1 or self.heads % self.shared or (not self.head_width and self.width % self.heads):
            raise SpecDecodeError(f"the sizes of the shape {self.name} do not fit each other")

    def depths(self, layers: int | None = None) -> tuple[int, int]:
        """Decoder layers and vision blocks of this shape where at most so many layers are wanted of it."""
        blocks = self.tower.blocks if self.tower else 0
        return (
            (self.layers, blocks)
            if layers is None or layers >= self.layers
            else (layers, min(layers, blocks))
        )

    def config(self, layers: int | None = None) -> PreTrainedConfig:
        """For transformers, cut to `depths`."""
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
            from transformers import LlamaConfig, Qwen3Config

            kind = LlamaConfig if self.family == "llama" else Qwen3Config
            return kind(**common, head_dim=head_width, tie_word_embeddings=self.tied)
        from transformers import Qwen2VLConfig

        half = head_width // 2  # frequencies, shared out to time, rows and columns as 2 : 3 : 3
        sections = [half - 2 * (3 * half // 8), 3 * half // 8, 3 * half // 8]
        vision = {
            "depth": blocks,
            "embed_dim": self.tower.width,
            "num_heads": self.tower.heads,
            "hidden_size": self.width,
        }
        special = self.vocabulary - 8 if self.vocabulary < 1000 else 151652
        return Qwen2VLConfig(
            text_config={**common, "rope_parameters": _rope(sections), "tie_word_embeddings": self.tied},
            vision_config=vision,
            tie_word_embeddings=self.tied,
            vision_start_token_id=special,
            vision_end_token_id=special + 1,
            image_token_id=special + 3,
            video_token_id=special + 4,
        )


def _rope(sections: list[int]) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}


_FAMILIES = ("llama", "qwen3", "qwen2_vl")
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
    # Nobody's models: to try the command within seconds.
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
