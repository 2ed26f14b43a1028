"""Any decoder of transformers, with transformers' own caches."""

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
from spec_decode_ros.models.decoder import NOBODY, AfterLayer
from spec_decode_ros.models.packing import Segment, with_tree
from spec_decode_ros.models.slots import move_rows_up


class TransformersDecoder:
    """Any decoder of transformers, as it is, one sequence at a time."""

    cache_shape = None

    def __init__(self, module: Any) -> None:
        self.module = module

    @functools.cached_property
    def takes_trees(self) -> bool:
        """Every layer attends to everything before it, by a mask that it is given and positions that it is given.

        Not so with sliding windows and recurrent layers, with kernels that know no mask, and with biases that count
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
        """Nothing to do: it goes when nobody holds it."""

    def run_many(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        segments: Sequence[Segment],
        after_layer: AfterLayer = NOBODY,
    ) -> torch.Tensor:
        raise SpecDecodeError("This model takes one session at a time.")

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
            mask = with_tree(mask, seen).to(embeddings)[None, None]
        with self.prepared(after_layer, depth):
            return self.module(
                inputs_embeds=embeddings,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state

    @contextmanager
    def prepared(self, after_layer: AfterLayer, depth: int | None) -> Iterator[None]:
        """For the time of a pass: cut to `depth` layers if that is given, and watched by `after_layer`."""
        with ExitStack() as hooks:
            if depth is not None:
                hooks.enter_context(self._cut_to(depth))
            for index, look in after_layer.items():
                handle = self.module.layers[index].register_forward_hook(_looking(look))
                hooks.callback(handle.remove)
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


def _looking(look: Callable[[torch.Tensor], None]) -> Callable[[nn.Module, Any, Any], None]:
    """A hook that shows a layer's hidden states to `look`."""

    def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
        look(output if isinstance(output, torch.Tensor) else output[0])

    return hook
