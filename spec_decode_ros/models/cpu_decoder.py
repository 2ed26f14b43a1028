"""Llama and Qwen2 decoders on a CPU, faster than transformers' modules run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from spec_decode_ros.models.batch_decoder import BatchDecoder, sequences_disturb_each_other
from spec_decode_ros.models.decoder import NO_HOOKS, LayerHooks, Segment
from spec_decode_ros.models.kv_cache import CacheShape
from spec_decode_ros.models.onednn import product, supported
from spec_decode_ros.models.packed_attention import PackedAttention


class CpuDecoder(BatchDecoder):
    """The layers of Llama and Qwen2 on a CPU, without the calls that take longer than the arithmetic of a small model.

    The same operations on the same weights in the same order as transformers' modules, which it takes over: a fused
    projection for queries, keys and values and one for gate and up, one rotation for queries and keys, a cache that is
    written in place.
    """

    CLASSES = ("LlamaModel", "Qwen2Model", "Qwen2VLTextModel")

    @classmethod
    def fits(cls, module: Any) -> bool:
        """Whether this class knows the layers of `module`, which are on a CPU in a precision that it has, not quantised."""
        kind = type(module)
        if kind.__name__ not in cls.CLASSES or not kind.__module__.startswith("transformers."):
            return False
        kinds = getattr(module.config, "layer_types", None) or ()
        return (
            all(each == "full_attention" for each in kinds)
            and module.config._attn_implementation == "sdpa"
            and module.config.hidden_act == "silu"
            and not sequences_disturb_each_other(module)
            and all(cls._layer_fits(layer) for layer in module.layers)
        )

    @staticmethod
    def _layer_fits(layer: Any) -> bool:
        attention, mlp = layer.self_attn, layer.mlp
        inner = (attention.q_proj, attention.k_proj, attention.v_proj)
        plain = (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        return (
            all(type(part) is nn.Linear for part in (*inner, *plain))
            and all(part.bias is None for part in plain)
            and len({part.bias is None for part in inner}) == 1
            and all(
                type(part.weight) is nn.Parameter  # and not divided between processes
                and supported(part.weight)
                and part.weight.dtype == inner[0].weight.dtype
                for part in (*inner, *plain)
            )
            and attention.scaling == attention.head_dim**-0.5
            and not (layer._forward_hooks or layer._forward_pre_hooks)
        )

    def __init__(self, module: Any) -> None:
        config = module.config
        self._rotary, self._norm = module.rotary_emb, module.norm
        self._layers = [self._take_over(layer) for layer in module.layers]
        dtype = module.layers[0].mlp.up_proj.weight.dtype
        width = int(module.layers[0].self_attn.head_dim)
        shape = CacheShape(len(self._layers), int(config.num_key_value_heads), width, dtype)
        super().__init__(shape, int(config.num_attention_heads))

    @staticmethod
    def _take_over(layer: Any) -> tuple[Any, ...]:
        attention, mlp = layer.self_attn, layer.mlp
        inner = [attention.q_proj, attention.k_proj, attention.v_proj]
        before, after = layer.input_layernorm, layer.post_attention_layernorm
        return (
            (before.weight, before.variance_epsilon),
            product(
                _joined([part.weight for part in inner]),
                None if inner[0].bias is None else _joined([part.bias for part in inner]),
            ),
            product(attention.o_proj.weight),
            (after.weight, after.variance_epsilon),
            product(_joined([mlp.gate_proj.weight, mlp.up_proj.weight])),
            product(mlp.down_proj.weight),
        )

    def run(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        segments: Sequence[Segment],
        hooks: LayerHooks = NO_HOOKS,
        depth: int | None = None,
    ) -> torch.Tensor:
        attention = PackedAttention(self.heads, segments)
        hidden = embeddings[0]
        count, model_width = hidden.shape
        width, half = self.cache_shape.width, self.cache_shape.width // 2
        heads, rotated = self.heads.heads, self.heads.heads + self.heads.shared
        cos, sin = (part[0].unsqueeze(1) for part in self._rotary(embeddings, positions))
        sin = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
        for index, (before, inner, out, after, gate_up, down) in enumerate(self._layers[:depth]):
            x = inner(F.rms_norm(hidden, (model_width,), *before)).view(count, -1, width)
            qk = x[:, :rotated]
            qk = qk * cos + torch.cat((qk[..., half:], qk[..., :half]), dim=-1) * sin
            hidden = hidden + out(attention.attend(index, (qk[:, :heads], qk[:, heads:], x[:, rotated:])))
            gate, up = gate_up(F.rms_norm(hidden, (model_width,), *after)).chunk(2, dim=-1)
            hidden = hidden + down(F.silu(gate) * up)
            if index in hooks:
                hooks[index](hidden.unsqueeze(0))
        hidden = hidden.unsqueeze(0)
        return hidden if depth is not None else self._norm(hidden)


def _joined(parts: list[nn.Parameter]) -> torch.Tensor:
    """The parts in one tensor; each part becomes a view of it, so that the weights are in memory once."""
    with torch.no_grad():
        whole = torch.cat([part.data for part in parts])
        for part, piece in zip(parts, whole.split([len(part) for part in parts]), strict=True):
            part.data = piece
    return whole
