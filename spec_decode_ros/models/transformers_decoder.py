"""Any decoder of transformers as it is, with transformers' own caches: one sequence at a time."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.decoder import NO_HOOKS, LayerHooks, Segment
from spec_decode_ros.models.kv_cache import move_rows_up
from spec_decode_ros.models.packed_attention import with_tree


class TransformersDecoder:
    """A decoder of transformers, run unchanged; satisfies `decoder.Decoder`."""

    cache_shape = None

    def __init__(self, module: Any) -> None:
        self.module = module

    @functools.cached_property
    def takes_trees(self) -> bool:
        """Every layer attends to everything before it, by the mask and the positions that it is given.

        Not so with sliding windows and recurrent layers, with kernels that take no mask, and with biases that count
        the places in the cache (ALiBi).
        """
        config = self.module.config
        return (
            all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
            and config._attn_implementation in ("sdpa", "eager")
            and "position_ids" in inspect.signature(self.module.forward).parameters
            and not getattr(config, "alibi", False)
        )

    def new_cache(self) -> DynamicCache:
        cache = DynamicCache(config=self.module.config)
        if any(cache.is_sliding):
            cache.activate_past_recording()  # else a window that has filled up cannot be rolled back
        return cache

    def reserve(self, sessions: int, tokens: int) -> None:
        raise SpecDecodeError(
            "This model's caches are transformers' own, for which no memory can be reserved."
        )

    def make_room(self, cache: DynamicCache, past: int, length: int) -> None:
        """Nothing to do: it grows by itself."""

    def free(self, cache: DynamicCache) -> None:
        """Nothing to do: it is collected as garbage."""

    @functools.cached_property
    def stops_early(self) -> bool:
        """The layers are in one list that the decoder goes through, each with a cache of its own."""
        return self.takes_trees and hasattr(self.module, "layers") and hasattr(self.module, "norm")

    def roll_back(self, cache: DynamicCache, length: int, to: int, depth: int | None = None) -> None:
        if depth is None:
            cache.crop(to - length)
            return
        for layer in cache.layers[:depth]:
            assert isinstance(layer, DynamicLayer)  # as `stops_early` has found
            layer.crop(to - length)

    def move_up(self, cache: Any, start: int, rows: Sequence[int]) -> None:
        for layer in cache.layers:
            move_rows_up(layer.keys, start, rows)
            move_rows_up(layer.values, start, rows)

    def run(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        segments: Sequence[Segment],
        hooks: LayerHooks = NO_HOOKS,
        depth: int | None = None,
    ) -> torch.Tensor:
        if len(segments) != 1:
            raise SpecDecodeError("This model takes one session at a time.")
        segment, mask = segments[0], None
        if segment.visible is not None:
            # Additive, as eager attention computes something else from a mask of booleans.
            mask = torch.full((segment.new, segment.total), float("-inf")).triu(segment.past + 1)
            mask = with_tree(mask, segment.visible).to(embeddings)[None, None]
        with self.prepared(hooks, depth):
            return self.module(
                inputs_embeds=embeddings,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=segment.cache,
                use_cache=True,
            ).last_hidden_state

    @contextmanager
    def prepared(self, hooks: LayerHooks, depth: int | None) -> Iterator[None]:
        """For the time of a pass: cut to `depth` layers if that is given, with `hooks` on the layers."""
        with ExitStack() as stack:
            if depth is not None:
                stack.enter_context(self._cut_to(depth))
            for index, call in hooks.items():
                handle = self.module.layers[index].register_forward_hook(_module_hook(call))
                stack.callback(handle.remove)
            yield

    @contextmanager
    def _cut_to(self, depth: int) -> Iterator[None]:
        """Take the later layers and the final norm away for a while."""
        module = self.module
        layers, norm = module.layers, module.norm
        module.layers, module.norm = layers[:depth], nn.Identity()
        try:
            yield
        finally:
            module.layers, module.norm = layers, norm


def _module_hook(call: Callable[[torch.Tensor], None]) -> Callable[[nn.Module, Any, Any], None]:
    """A module's forward hook that calls `call` with the layer's hidden states."""

    def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
        call(output if isinstance(output, torch.Tensor) else output[0])

    return hook
