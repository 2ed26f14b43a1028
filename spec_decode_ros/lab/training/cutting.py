"""A draft model cut out of its target: a few of its layers, their most used inner units, its most used tokens.

It begins far better than a random one of the same size, since it knows already what words mean and how attention finds
the last ones; distillation (see :mod:`spec_decode_ros.lab.training.distil`) does the rest. For Llama architectures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training.teacher import Lesson
from spec_decode_ros.models.reduced import ReducedLlamaConfig, ReducedLlamaForCausalLM

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOOKED_AT = 16
"""Lessons that show which inner units are used."""


@dataclass(frozen=True)
class Cut:
    """What of a target goes into its draft model.

    Attributes:
        layers: the target's layers, numbered from 0, in the order in which the draft has them.
        inner: inner units of each layer that are kept.
        tokens: tokens that the draft can say.
        table_width: dimensions of their table.
    """

    layers: tuple[int, ...]
    inner: int
    tokens: int
    table_width: int

    def __post_init__(self) -> None:
        if not self.layers or min(self.layers) < 0 or min(self.inner, self.tokens, self.table_width) < 1:
            raise SpecDecodeError(f"a draft has at least one layer, and nothing in it is zero: {self}")


def cut(target: PreTrainedModel, plan: Cut, lessons: Sequence[Lesson]) -> ReducedLlamaForCausalLM:
    """A draft model with the target's weights, in float32; `lessons` show what is used most."""
    source: Any = target.config
    decoder: Any = target.get_decoder()
    if source.model_type != "llama" or max(plan.layers) >= len(decoder.layers):
        raise SpecDecodeError(
            f"a draft is cut out of a Llama with the layers {plan.layers}, not out of this {source.model_type}"
        )
    if not source.tie_word_embeddings:
        raise SpecDecodeError(
            "a draft has one table for input and output, so its target must share its embedding between the two"
        )
    counts = token_counts(lessons, source.vocab_size)
    kept = frequent_tokens(counts, min(plan.tokens, source.vocab_size))
    embedding = decoder.embed_tokens.weight.detach().float()
    width = min(plan.table_width, embedding.shape[1], len(kept))
    settings = {
        name: value
        for name, value in source.to_dict().items()
        if name not in ("model_type", "architectures", "_name_or_path", "dtype", "transformers_version")
    }
    settings |= {
        "num_hidden_layers": len(plan.layers),
        "intermediate_size": min(plan.inner, source.intermediate_size),
        "table_rows": len(kept),
        "table_width": width,
        "tie_word_embeddings": True,
        "bos_token_id": source.bos_token_id,
        "eos_token_id": source.eos_token_id,
    }
    settings.pop("layer_types", None)
    config = ReducedLlamaConfig(**settings)
    config._attn_implementation = "sdpa"
    draft = ReducedLlamaForCausalLM(config).float()
    with torch.no_grad():
        _fill_table(draft, embedding, kept, counts)
        units = _used_units(target, plan, lessons)
        for layer, number in zip(draft.model.layers, plan.layers, strict=True):
            _fill_layer(layer, decoder.layers[number], units[number])
        draft.model.norm.weight.copy_(decoder.norm.weight)
    draft.generation_config = target.generation_config
    return draft


def token_counts(lessons: Sequence[Lesson], size: int) -> torch.Tensor:
    """How often each token was said, or might have been, in the answers."""
    counts = torch.zeros(size)
    for lesson in lessons:
        answered = slice(lesson.start - 1 - lesson.first, None)
        chances = lesson.chances[answered].float().exp().flatten()
        counts.index_add_(0, lesson.choices[answered].flatten().long(), chances)
        counts.index_add_(0, lesson.tokens[lesson.start :], torch.ones(len(lesson.tokens) - lesson.start))
    return counts


def frequent_tokens(counts: torch.Tensor, size: int) -> torch.Tensor:
    """The ids of the most frequent tokens, rising."""
    return counts.topk(size).indices.sort().values


def _fill_table(
    draft: ReducedLlamaForCausalLM, embedding: torch.Tensor, kept: torch.Tensor, counts: torch.Tensor
) -> None:
    """Singular vectors of the frequent tokens' embeddings; every other token stands for the most similar of these."""
    rows = embedding[kept]
    weight = (counts[kept] + 1).pow(0.25)[:, None]  # frequent tokens have to be met better, yet not alone
    _, _, directions = torch.linalg.svd(weight * rows, full_matrices=False)
    directions = directions[: draft.config.table_width]
    table: Any = draft.model.embed_tokens
    table.table.copy_(rows @ directions.T)
    table.project.weight.copy_(directions.T)
    head: Any = draft.lm_head
    head.project.weight.copy_(directions)
    head.tokens.copy_(kept)
    near = [
        (F.normalize(part, dim=-1) @ F.normalize(rows, dim=-1).T).argmax(dim=-1)
        for part in embedding.split(4096)
    ]
    stands_for = torch.cat(near)
    stands_for[kept] = torch.arange(len(kept))
    table.rows.copy_(stands_for)


def _used_units(target: PreTrainedModel, plan: Cut, lessons: Sequence[Lesson]) -> dict[int, torch.Tensor]:
    """By layer, the inner units with the largest part in what the layer adds, most of all first."""
    decoder: Any = target.get_decoder()
    size = min(plan.inner, target.config.intermediate_size)
    sums: dict[int, torch.Tensor] = {}

    def watch(number: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            strength = inputs[0].abs().float().flatten(0, -2).mean(dim=0)
            sums[number] = sums.get(number, 0) + strength * cast(torch.Tensor, module.weight).norm(dim=0)

        return hook

    watched = {number: decoder.layers[number].mlp.down_proj for number in set(plan.layers)}
    handles = [part.register_forward_pre_hook(watch(number)) for number, part in watched.items()]
    try:
        with torch.inference_mode():
            for lesson in lessons[:LOOKED_AT]:
                decoder(input_ids=lesson.tokens[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return {number: strength.topk(size).indices for number, strength in sums.items()}


def _fill_layer(layer: Any, source: Any, units: torch.Tensor) -> None:
    layer.self_attn.load_state_dict(source.self_attn.state_dict())
    layer.input_layernorm.load_state_dict(source.input_layernorm.state_dict())
    layer.post_attention_layernorm.load_state_dict(source.post_attention_layernorm.state_dict())
    layer.mlp.gate_proj.weight.copy_(source.mlp.gate_proj.weight[units])
    layer.mlp.up_proj.weight.copy_(source.mlp.up_proj.weight[units])
    layer.mlp.down_proj.weight.copy_(source.mlp.down_proj.weight[:, units])
