"""Several sequences in one pass through transformers' own modules, on any device.

Their attention is replaced for the time of a pass, through the interfaces that transformers has for that: everything
else in a layer treats tokens one by one and does not care whose they are. Keys and values go to memory of our own, so a
rejected draft costs nothing to forget and a pool of slots can be shared (see `packing`). What holds for a CPU was
measured; on a GPU nothing was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from spec_decode_ros.models.decoder import AfterLayer
from spec_decode_ros.models.packing import Pack, Segment
from spec_decode_ros.models.row_decoder import LENGTH_DEPENDENT_ROPE, RowDecoder
from spec_decode_ros.models.slots import CacheShape
from spec_decode_ros.models.transformers_decoder import TransformersDecoder

_NAME = "spec_decode_ros_packed"
_UNKNOWN = ("softcap", "s_aux", "sliding_window", "position_bias", "alibi")
"""Arguments with which attention would be something else than what is computed here."""


class NotPackable(Exception):
    """The decoder's attention is not the usual one."""


def _attention(
    module: Any,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    attention_mask: torch.Tensor | None,
    pack: Pack | _Shapes | None = None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in each layer, with queries, keys and values (1, heads, T, width)."""
    if pack is None or any(others.get(name) is not None for name in _UNKNOWN):
        raise NotPackable
    query, keys, values = (part[0].transpose(0, 1) for part in (query, keys, values))
    mixed = pack.attend(module.layer_idx, query, keys, values, scaling)
    return mixed.view(1, *query.shape[:2], -1), None


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, lambda *_, **__: None)


class _Shapes:
    """In the place of a pack: notes what each layer's attention is given, which must be the same in all."""

    shape: CacheShape
    heads: int

    def __init__(self) -> None:
        self._layers: set[int] = set()

    def attend(
        self, layer: int, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float | None
    ) -> torch.Tensor:
        self._layers.add(layer)
        shape = CacheShape(len(self._layers), keys.shape[1], keys.shape[2], keys.dtype, keys.device)
        if keys.shape != values.shape or self._layers != set(range(len(self._layers))):
            raise NotPackable
        if len(self._layers) > 1 and (shape[1:], query.shape[1]) != (self.shape[1:], self.heads):
            raise NotPackable
        self.shape, self.heads = shape, query.shape[1]
        return torch.zeros_like(query).flatten(1)


class PackedDecoder(RowDecoder):
    """A decoder of transformers whose layers all attend to everything before them, in the usual way."""

    @classmethod
    def of(cls, module: Any) -> PackedDecoder | None:
        """The decoder for `module`, if that computes for two sequences in one pass what it computes for each alone.

        This is tried out, as no attribute of a model says so. Not with sliding windows, recurrent layers, ALiBi, soft
        caps, layers of different shapes, or rotary positions that depend on the longest sequence.
        """
        plain = TransformersDecoder(module)
        rotary = getattr(module, "rotary_emb", None)
        if not plain.stops_early or getattr(rotary, "rope_type", "") in LENGTH_DEPENDENT_ROPE:
            return None
        try:
            decoder = cls(plain)
            return decoder if _computes_the_same(decoder, plain) else None
        except Exception:  # whatever an unknown module makes of it, it is not what is wanted here
            return None

    def __init__(self, plain: TransformersDecoder) -> None:
        self._plain, self._module = plain, plain.module
        shapes = self._look()
        super().__init__(shapes.shape, shapes.heads)

    @torch.inference_mode()
    def _look(self) -> _Shapes:
        """What attention is called with. A pass that is divided over several GPUs sees its own heads only."""
        shapes = _Shapes()
        table = self._module.get_input_embeddings()
        self._call(table(torch.zeros((1, 2), dtype=torch.long, device=table.weight.device)), shapes)
        return shapes

    def _run(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        pack: Pack,
        after_layer: AfterLayer,
        depth: int | None,
    ) -> torch.Tensor:
        with self._plain.prepared(after_layer, depth):
            return self._call(embeddings, pack, positions)

    def _call(
        self, embeddings: torch.Tensor, pack: Pack | _Shapes, positions: torch.Tensor | None = None
    ) -> torch.Tensor:
        with self._attending():
            return self._module(
                inputs_embeds=embeddings, position_ids=positions, use_cache=False, pack=pack
            ).last_hidden_state

    @contextmanager
    def _attending(self) -> Iterator[None]:
        config = self._module.config
        before = config._attn_implementation
        config._attn_implementation = _NAME
        try:
            yield
        finally:
            config._attn_implementation = before


@torch.inference_mode()
def _computes_the_same(packed: PackedDecoder, plain: TransformersDecoder) -> bool:
    """Two passes over two random sequences, packed and one by one."""
    shape, width = packed.cache_shape, int(plain.module.config.hidden_size)
    spread = float(plain.module.get_input_embeddings().weight[:256].float().std()) or 1.0
    generator = torch.Generator().manual_seed(0)
    packed.reserve(2, 16)
    caches = [(packed.new_cache(), plain.new_cache()) for _ in range(2)]
    past = [0, 0]
    for lengths in ((5, 3), (2, 2)):
        inputs = [
            (spread * torch.randn((1, length, width), generator=generator)).to(shape.device, shape.dtype)
            for length in lengths
        ]
        positions = [
            torch.arange(start, start + length, device=shape.device).unsqueeze(0)
            for start, length in zip(past, lengths, strict=True)
        ]
        segments = [
            Segment(cache, start, length)
            for (cache, _), start, length in zip(caches, past, lengths, strict=True)
        ]
        together = packed.run_many(torch.cat(inputs, 1), torch.cat(positions, -1), segments)
        alone = [
            plain.run(rows, places, cache, start)
            for rows, places, (_, cache), start in zip(inputs, positions, caches, past, strict=True)
        ]
        expected = torch.cat(alone, 1)
        tolerance = 1e-4 if shape.dtype == torch.float32 else 0.05
        if not torch.allclose(together, expected, rtol=0.0, atol=tolerance * float(expected.abs().max())):
            return False
        past = [start + length for start, length in zip(past, lengths, strict=True)]
    for cache, _ in caches:
        packed.free(cache)
    packed.pool = None
    return True
