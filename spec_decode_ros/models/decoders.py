"""Running a decoder over new tokens with a cache that can be rolled back: any decoder, or common ones with less ado."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

AfterLayer = Mapping[int, Callable[[torch.Tensor], None]]
"""By number of a layer, from 0, what looks at its hidden states."""

NOBODY: AfterLayer = MappingProxyType({})


class Decoder(Protocol):
    """A stack of decoder layers with its final norm, one sequence at a time."""

    @property
    def takes_trees(self) -> bool:
        """Whether `run` computes the right thing when it is given `seen`."""
        ...

    @property
    def stops_early(self) -> bool:
        """Whether `run` can be told a `depth`."""
        ...

    def new_cache(self) -> Any:
        """An empty cache."""
        ...

    def roll_back(self, cache: Any, length: int, to: int, depth: int | None = None) -> None:
        """Forget what a cache of `length` tokens holds behind the first `to`; with `depth` only in the first layers."""
        ...

    def move_up(self, cache: Any, start: int, rows: Sequence[int]) -> None:
        """Put what the cache holds at `start + row`, for rising rows, at `start`, `start + 1`, ...; only with trees."""
        ...

    def run(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        cache: Any,
        past: int,
        seen: torch.Tensor | None = None,
        after_layer: AfterLayer = NOBODY,
        depth: int | None = None,
    ) -> torch.Tensor:
        """One pass over tokens (1, T, width) that follow `past` cached ones; hidden states of the same shape.

        Args:
            embeddings: (1, T, width).
            positions: (1, T), or (3, 1, T) for decoders with three-dimensional positions.
            cache: from `new_cache`, holding `past` tokens; it then holds `past + T`.
            seen: for a tree: booleans (N, N), which of the last N tokens each of them sees of these. They see
                everything before them in any case; without it each token sees all before it.
            after_layer: what to call after a layer, with its hidden states (1, T, width), before the next one runs.
            depth: run only so many layers, and not the final norm; the cache of the others stays as it is. Only where
                `stops_early`.
        """
        ...


class TransformersDecoder:
    """Any decoder of transformers, as it is."""

    def __init__(self, module: Any) -> None:
        self._module = module

    @functools.cached_property
    def takes_trees(self) -> bool:
        """Every layer attends to everything before it, by a mask that it is given and positions that it is given.

        Not so with sliding windows and recurrent layers, with kernels that know no mask, and with biases that count
        the places in the cache (ALiBi).
        """
        config = self._module.config
        return (
            all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
            and config._attn_implementation in ("sdpa", "eager")
            and "position_ids" in inspect.signature(self._module.forward).parameters
            and not getattr(config, "alibi", False)
        )

    def new_cache(self) -> DynamicCache:
        cache = DynamicCache(config=self._module.config)
        if any(cache.is_sliding):
            cache.activate_past_recording()  # else a window that has filled up cannot be rolled back
        return cache

    @functools.cached_property
    def stops_early(self) -> bool:
        """The layers are in one list that the decoder goes through, each with a cache of its own."""
        return self.takes_trees and hasattr(self._module, "layers") and hasattr(self._module, "norm")

    def roll_back(self, cache: DynamicCache, length: int, to: int, depth: int | None = None) -> None:
        if depth is None:
            cache.crop(to - length)
            return
        for layer in cache.layers[:depth]:
            assert isinstance(layer, DynamicLayer)  # as `stops_early` has found
            layer.crop(to - length)

    def move_up(self, cache: Any, start: int, rows: Sequence[int]) -> None:
        for layer in cache.layers:
            _move_rows_up(layer.keys, start, rows)
            _move_rows_up(layer.values, start, rows)

    def run(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        cache: DynamicCache,
        past: int,
        seen: torch.Tensor | None = None,
        after_layer: AfterLayer = NOBODY,
        depth: int | None = None,
    ) -> torch.Tensor:
        mask = None
        if seen is not None:  # additive, as eager attention computes something else from a mask of booleans
            count = embeddings.shape[1]
            mask = torch.full((count, past + count), float("-inf")).triu(past + 1)
            mask = _with_tree(mask, seen).to(embeddings)[None, None]
        with ExitStack() as hooks:
            if depth is not None:
                hooks.enter_context(self._cut_to(depth))
            for index, look in after_layer.items():
                handle = self._module.layers[index].register_forward_hook(_looking(look))
                hooks.callback(handle.remove)
            return self._module(
                inputs_embeds=embeddings,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state

    @contextmanager
    def _cut_to(self, depth: int) -> Iterator[None]:
        """Take the later layers and the final norm away for a while."""
        module = self._module
        layers, norm = module.layers, module.norm
        module.layers, module.norm = layers[:depth], nn.Identity()
        try:
            yield
        finally:
            module.layers, module.norm = layers, norm


def _looking(look: Callable[[torch.Tensor], None]) -> Callable[[nn.Module, Any, Any], None]:
    """A hook that shows a layer's hidden states to `look`."""

    def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
        look(output if isinstance(output, torch.Tensor) else output[0])

    return hook


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
    takes_trees = True
    stops_early = True

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

    def roll_back(self, cache: RowCache, length: int, to: int, depth: int | None = None) -> None:
        """Nothing to do: the next pass says how many tokens it keeps."""

    def move_up(self, cache: RowCache, start: int, rows: Sequence[int]) -> None:
        _move_rows_up(cache.keys, start, rows)
        _move_rows_up(cache.values, start, rows)

    def run(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        cache: RowCache,
        past: int,
        seen: torch.Tensor | None = None,
        after_layer: AfterLayer = NOBODY,
        depth: int | None = None,
    ) -> torch.Tensor:
        hidden = embeddings[0]
        count, model_width = hidden.shape
        total, width, half = past + count, self._width, self._width // 2
        rotated = self._heads + self._shared
        cos, sin = (part[0].unsqueeze(1) for part in self._rotary(embeddings, positions))
        sin = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
        mask = self._causal(past, total, seen)
        cache.reserve(past, total)
        for index, (before, inner, bias, out, after, gate_up, down) in enumerate(self._layers[:depth]):
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
            if index in after_layer:
                after_layer[index](hidden.unsqueeze(0))
        hidden = hidden.unsqueeze(0)
        return hidden if depth is not None else self._norm(hidden)

    def _causal(self, past: int, total: int, seen: torch.Tensor | None) -> torch.Tensor | None:
        """Additive mask (query heads a key-value head * new tokens, total); None for a single new token."""
        if total - past == 1:
            return None
        if total > len(self._mask):
            size = max(256, 2 * total)
            self._mask = torch.full((size, size), float("-inf")).triu(1)
        mask = self._mask[past:total, :total]
        if seen is not None:
            mask = _with_tree(mask.clone(), seen)
        return mask.repeat(self._heads // self._shared, 1)


def _with_tree(mask: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """The additive `mask` (T, total), changed so that the last N tokens see of each other what `seen` (N, N) says."""
    count = len(seen)
    mask[-count:, -count:] = torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))
    return mask


def _move_rows_up(cached: torch.Tensor, start: int, rows: Sequence[int]) -> None:
    """Copy rows start + rows of the last dimension but one to start, start + 1, ..., in place."""
    index = torch.tensor(rows, device=cached.device) + start
    cached[..., start : start + len(rows), :] = cached.index_select(-2, index)


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
