"""Pruning a draft model out of its target: a few of its layers, their most used inner units, its most frequent tokens.

It starts far better than a random model of the same size, because its embedding and its attention are trained already;
distillation (see :mod:`spec_decode_ros.lab.training.distil`) follows. Only for Llama architectures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training.teacher import TeacherExample
from spec_decode_ros.models.reduced_vocabulary import ReducedLlamaConfig, ReducedLlamaForCausalLM

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CALIBRATION_EXAMPLES = 16
"""Teacher data that is used to rank the inner units."""


@dataclass(frozen=True)
class Cut:
    """The parts of a target that its draft model keeps.

    Attributes:
        layers: numbers of the target's layers, from 0, in the draft's order.
        inner: number of inner units of each layer.
        tokens: number of tokens that the draft can generate.
        table_width: dimensions of their embedding table.
    """

    layers: tuple[int, ...]
    inner: int
    tokens: int
    table_width: int

    def __post_init__(self) -> None:
        if not self.layers or min(self.layers) < 0 or min(self.inner, self.tokens, self.table_width) < 1:
            raise SpecDecodeError(f"a draft has at least one layer, and nothing in it is zero: {self}")


def cut(target: PreTrainedModel, plan: Cut, data: Sequence[TeacherExample]) -> ReducedLlamaForCausalLM:
    """A draft model with the target's weights, in float32; teacher data tells which units and tokens are used most."""
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
    counts = token_counts(data, source.vocab_size)
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
        units = _used_units(target, plan, data)
        for layer, number in zip(draft.model.layers, plan.layers, strict=True):
            _fill_layer(layer, decoder.layers[number], units[number])
        draft.model.norm.weight.copy_(decoder.norm.weight)
    draft.generation_config = target.generation_config
    return draft


def token_counts(data: Sequence[TeacherExample], size: int) -> torch.Tensor:
    """For each token, its occurrences in the answers plus its probabilities at all their positions."""
    counts = torch.zeros(size)
    for example in data:
        answered = slice(example.start - 1 - example.first, None)
        probabilities = example.top_logprobs[answered].float().exp().flatten()
        counts.index_add_(0, example.top_tokens[answered].flatten().long(), probabilities)
        counts.index_add_(0, example.tokens[example.start :], torch.ones(len(example.tokens) - example.start))
    return counts


def frequent_tokens(counts: torch.Tensor, size: int) -> torch.Tensor:
    """The ids of the most frequent tokens, in ascending order."""
    return counts.topk(size).indices.sort().values


def _fill_table(
    draft: ReducedLlamaForCausalLM, embedding: torch.Tensor, kept: torch.Tensor, counts: torch.Tensor
) -> None:
    """Reduce the frequent tokens' embeddings by SVD; every other token gets the row of the most similar frequent one."""
    rows = embedding[kept]
    weight = (counts[kept] + 1).pow(0.25)[
        :, None
    ]  # frequent tokens have to be approximated better, but not only these
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


def _used_units(
    target: PreTrainedModel, plan: Cut, data: Sequence[TeacherExample]
) -> dict[int, torch.Tensor]:
    """By layer, the inner units that contribute most to the layer's output, in descending order."""
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
            for example in data[:CALIBRATION_EXAMPLES]:
                decoder(input_ids=example.tokens[None], use_cache=False)
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
