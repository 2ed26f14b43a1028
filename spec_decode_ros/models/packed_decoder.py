"""Several sequences in one pass through transformers' own modules, on any device.

Attention is replaced for the time of a pass, through the interfaces that transformers has for that; everything else in a
layer treats tokens one by one. Keys and values go to caches of our own, so rolling back a rejected draft costs nothing
and caches can come from a pool. What holds for a CPU was measured; on a GPU nothing was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from spec_decode_ros.models.batch_decoder import BatchDecoder, sequences_disturb_each_other
from spec_decode_ros.models.decoder import NO_HOOKS, LayerHooks, Segment
from spec_decode_ros.models.kv_cache import CacheShape
from spec_decode_ros.models.packed_attention import PackedAttention, QueryKeyValue
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
    packed: PackedAttention | _ShapeProbe | None = None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in each layer, with queries, keys and values (1, heads, T, width)."""
    if packed is None or any(others.get(name) is not None for name in _UNKNOWN):
        raise NotPackable
    query, keys, values = (part[0].transpose(0, 1) for part in (query, keys, values))
    mixed = packed.attend(module.layer_idx, (query, keys, values), scaling)
    return mixed.view(1, *query.shape[:2], -1), None


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, lambda *_, **__: None)


class _ShapeProbe:
    """In the place of a `PackedAttention`: notes the shapes given to attention, which must be the same in all layers."""

    shape: CacheShape
    heads: int

    def __init__(self) -> None:
        self._layers: set[int] = set()

    def attend(self, layer: int, qkv: QueryKeyValue, scale: float | None) -> torch.Tensor:
        query, keys, values = qkv
        self._layers.add(layer)
        shape = CacheShape(len(self._layers), keys.shape[1], keys.shape[2], keys.dtype, keys.device)
        if keys.shape != values.shape or self._layers != set(range(len(self._layers))):
            raise NotPackable
        if len(self._layers) > 1 and (shape[1:], query.shape[1]) != (self.shape[1:], self.heads):
            raise NotPackable
        self.shape, self.heads = shape, query.shape[1]
        return torch.zeros_like(query).flatten(1)


class PackedDecoder(BatchDecoder):
    """A decoder of transformers whose layers all attend to everything before them, in the usual way."""

    @classmethod
    def of(cls, module: Any) -> PackedDecoder | None:
        """The decoder for `module`, if that computes for two sequences in one pass what it computes for each alone.

        This is tried out, as no attribute of a model says so. Not with sliding windows, recurrent layers, ALiBi, soft
        caps, layers of different shapes, or rotary positions that depend on the longest sequence.
        """
        plain = TransformersDecoder(module)
        if not plain.stops_early or sequences_disturb_each_other(module):
            return None
        try:
            decoder = cls(plain)
            return decoder if _computes_the_same(decoder, plain) else None
        except Exception:  # an unknown module may raise anything; then it is not packed
            return None

    def __init__(self, plain: TransformersDecoder) -> None:
        self._plain, self._module = plain, plain.module
        probe = self._probe()
        super().__init__(probe.shape, probe.heads)

    @torch.inference_mode()
    def _probe(self) -> _ShapeProbe:
        """What attention is called with. A pass that is divided over several GPUs has its own heads only."""
        probe = _ShapeProbe()
        table = self._module.get_input_embeddings()
        self._call(table(torch.zeros((1, 2), dtype=torch.long, device=table.weight.device)), probe)
        return probe

    def run(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        segments: Sequence[Segment],
        hooks: LayerHooks = NO_HOOKS,
        depth: int | None = None,
    ) -> torch.Tensor:
        packed = PackedAttention(self.heads, segments)
        with self._plain.prepared(hooks, depth):
            return self._call(embeddings, packed, positions)

    def _call(
        self,
        embeddings: torch.Tensor,
        packed: PackedAttention | _ShapeProbe,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        with self._attending():
            return self._module(
                inputs_embeds=embeddings, position_ids=positions, use_cache=False, packed=packed
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
    ours, theirs = [packed.new_cache() for _ in range(2)], [plain.new_cache() for _ in range(2)]
    past = [0, 0]
    for lengths in ((5, 3), (2, 2)):
        rows = spread * torch.randn((1, sum(lengths), width), generator=generator)
        rows = rows.to(shape.device, shape.dtype)
        places = [torch.arange(start, start + new) for start, new in zip(past, lengths, strict=True)]
        positions = torch.cat(places)[None].to(shape.device)
        segments = [Segment(*each) for each in zip(theirs, past, lengths, strict=True)]
        parts = zip(rows.split(lengths, 1), positions.split(lengths, -1), segments, strict=True)
        alone = [plain.run(own, numbers, [segment]) for own, numbers, segment in parts]
        segments = [Segment(*each) for each in zip(ours, past, lengths, strict=True)]
        together = packed.run(rows, positions, segments)
        expected = torch.cat(alone, 1)
        tolerance = 1e-4 if shape.dtype == torch.float32 else 0.05
        if not torch.allclose(together, expected, rtol=0.0, atol=tolerance * float(expected.abs().max())):
            return False
        past = [start + length for start, length in zip(past, lengths, strict=True)]
    for cache in ours:
        packed.free(cache)
    packed.pool = None
    return True
