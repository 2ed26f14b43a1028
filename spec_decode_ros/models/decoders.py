"""Running a decoder over new tokens with a cache that can be rolled back: any decoder, or common ones with less ado."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache


class Decoder(Protocol):
    """A stack of decoder layers with its final norm, one sequence at a time."""

    def new_cache(self) -> Any:
        """An empty cache."""
        ...

    def roll_back(self, cache: Any, length: int, to: int) -> None:
        """Forget what a cache of `length` tokens holds behind the first `to`."""
        ...

    def run(self, embeddings: torch.Tensor, positions: torch.Tensor, cache: Any, past: int) -> torch.Tensor:
        """One pass over tokens (1, T, width) that follow `past` cached ones; hidden states of the same shape.

        Args:
            embeddings: (1, T, width).
            positions: (1, T), or (3, 1, T) for decoders with three-dimensional positions.
            cache: from `new_cache`, holding `past` tokens; it then holds `past + T`.
        """
        ...


class TransformersDecoder:
    """Any decoder of transformers, as it is."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def new_cache(self) -> DynamicCache:
        cache = DynamicCache(config=self._module.config)
        if any(cache.is_sliding):
            cache.activate_past_recording()  # else a window that has filled up cannot be rolled back
        return cache

    def roll_back(self, cache: DynamicCache, length: int, to: int) -> None:
        cache.crop(to - length)

    def run(
        self, embeddings: torch.Tensor, positions: torch.Tensor, cache: DynamicCache, past: int
    ) -> torch.Tensor:
        return self._module(
            inputs_embeds=embeddings, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state


class RowCache:
    """Keys and values (layers, key-value heads, capacity, head width); what lies behind the length is overwritten."""

    def __init__(self, layers: int, heads: int, width: int) -> None:
        self._shape = (layers, heads, width)
        self.keys = self.values = torch.empty((layers, heads, 0, width))

    def reserve(self, past: int, length: int) -> None:
        """Make room for `length` tokens, keeping the first `past`."""
        if length <= self.keys.shape[2]:
            return
        layers, heads, width = self._shape
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = torch.empty((layers, heads, max(128, 2 * length), width))
            new[:, :, :past] = old[:, :, :past]
            setattr(self, name, new)


class SmallDecoder:
    """The layers of Llama and Qwen2 on a CPU, without the calls that take longer than the arithmetic of a small model.

    The same operations on the same weights in the same order as transformers' modules, which it takes over: a fused
    projection for queries, keys and values and one for gate and up, one rotation for queries and keys, a cache that is
    written in place. Rolling back costs nothing.
    """

    CLASSES = ("LlamaModel", "Qwen2Model", "Qwen2VLTextModel")

    @classmethod
    def fits(cls, module: Any) -> bool:
        """Whether `module` is a decoder whose layers this class knows, in float32 on a CPU, not quantised."""
        if type(module).__name__ not in cls.CLASSES or not type(module).__module__.startswith(
            "transformers."
        ):
            return False
        kinds = getattr(module.config, "layer_types", None) or ()
        if any(kind != "full_attention" for kind in kinds) or module.config._attn_implementation != "sdpa":
            return False
        return all(cls._layer_fits(layer) for layer in module.layers) and module.config.hidden_act == "silu"

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
                part.weight.dtype == torch.float32 and part.weight.device.type == "cpu"
                for part in (*inner, *plain)
            )
            and attention.scaling == attention.head_dim**-0.5
            and not (layer._forward_hooks or layer._forward_pre_hooks)
        )

    def __init__(self, module: Any) -> None:
        config = module.config
        self._rotary, self._norm = module.rotary_emb, module.norm
        self._heads = int(config.num_attention_heads)
        self._shared = int(config.num_key_value_heads)
        self._width = int(module.layers[0].self_attn.head_dim)
        self._layers = [self._take_over(layer) for layer in module.layers]
        self._mask = torch.zeros((0, 0))

    @staticmethod
    def _take_over(layer: Any) -> tuple[Any, ...]:
        attention, mlp = layer.self_attn, layer.mlp
        inner = [attention.q_proj, attention.k_proj, attention.v_proj]
        before, after = layer.input_layernorm, layer.post_attention_layernorm
        return (
            (before.weight, before.variance_epsilon),
            _joined([part.weight for part in inner]),
            None if inner[0].bias is None else _joined([part.bias for part in inner]),
            attention.o_proj.weight,
            (after.weight, after.variance_epsilon),
            _joined([mlp.gate_proj.weight, mlp.up_proj.weight]),
            mlp.down_proj.weight,
        )

    def new_cache(self) -> RowCache:
        return RowCache(len(self._layers), self._shared, self._width)

    def roll_back(self, cache: RowCache, length: int, to: int) -> None:
        """Nothing to do: the next pass says how many tokens it keeps."""

    def run(
        self, embeddings: torch.Tensor, positions: torch.Tensor, cache: RowCache, past: int
    ) -> torch.Tensor:
        hidden = embeddings[0]
        count, model_width = hidden.shape
        total, width, half = past + count, self._width, self._width // 2
        rotated = self._heads + self._shared
        cos, sin = (part[0].unsqueeze(1) for part in self._rotary(embeddings, positions))
        sin = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
        mask = self._causal(past, total)
        cache.reserve(past, total)
        for index, (before, inner, bias, out, after, gate_up, down) in enumerate(self._layers):
            x = F.linear(F.rms_norm(hidden, (model_width,), *before), inner, bias).view(count, -1, width)
            qk = x[:, :rotated]
            qk = qk * cos + torch.cat((qk[..., half:], qk[..., :half]), dim=-1) * sin
            keys, values = cache.keys[index, None, :, :total], cache.values[index, None, :, :total]
            keys[0, :, past:] = qk[:, self._heads :].transpose(0, 1)
            values[0, :, past:] = x[:, rotated:].transpose(0, 1)
            # Query heads that share a key-value head become further rows of it, so that nothing is repeated.
            query = qk[:, : self._heads].transpose(0, 1).reshape(1, self._shared, -1, width)
            mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
            mixed = mixed.view(self._heads, count, width).transpose(0, 1).reshape(count, -1)
            hidden = hidden + F.linear(mixed, out)
            gate, up = F.linear(F.rms_norm(hidden, (model_width,), *after), gate_up).chunk(2, dim=-1)
            hidden = hidden + F.linear(F.silu(gate) * up, down)
        return self._norm(hidden.unsqueeze(0))

    def _causal(self, past: int, total: int) -> torch.Tensor | None:
        """Additive mask (query heads a key-value head * new tokens, total); None for a single new token."""
        if total - past == 1:
            return None
        if total > len(self._mask):
            size = max(256, 2 * total)
            self._mask = torch.full((size, size), float("-inf")).triu(1)
        return self._mask[past:total, :total].repeat(self._heads // self._shared, 1)


def _joined(parts: list[nn.Parameter]) -> torch.Tensor:
    """The parts in one tensor; each part becomes a view of it, so that the weights are in memory once."""
    with torch.no_grad():
        whole = torch.cat([part.data for part in parts])
        for part, piece in zip(parts, whole.split([len(part) for part in parts]), strict=True):
            part.data = piece
    return whole


def decoder_for(module: Any) -> Decoder:
    """The fastest way to run `module` here."""
    return SmallDecoder(module) if SmallDecoder.fits(module) else TransformersDecoder(module)
