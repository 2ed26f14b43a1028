"""A Llama for drafting that shares its target's whole vocabulary, but has a table of the frequent tokens only.

In a small model most weights are embeddings: 49,152 rows of width 576 are 28 million numbers, its layers a few million.
A draft model may leave tokens out, since the target corrects it. `ReducedLlamaForCausalLM` keeps a table of some
thousand rows in a few dimensions, shared by input and output. On the input side every other token stands for a frequent
one that is near it; on the output side it has logit minus infinity and is never drafted. Token ids and the width of the
logits are the target's.

Importing this module makes `AutoConfig` and `AutoModelForCausalLM` know the architecture.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel

from spec_decode_ros.errors import SpecDecodeError


class ReducedLlamaConfig(LlamaConfig):
    """A Llama's configuration with the size of its table.

    Attributes:
        table_rows: tokens that have an embedding and a logit of their own.
        table_width: dimensions of the table, projected to and from `hidden_size`.
    """

    model_type = "reduced_llama"
    table_rows: int = 8192
    table_width: int = 256


class _Table(nn.Module):
    """A layer with a table of the frequent tokens, its `weight`."""

    def __init__(self, config: ReducedLlamaConfig) -> None:
        super().__init__()
        self.table = nn.Parameter(0.02 * torch.randn(config.table_rows, config.table_width))

    @property
    def weight(self) -> torch.Tensor:
        return self.table


class ReducedEmbedding(_Table):
    """Token ids to hidden states, through the row of the table that stands for each id."""

    rows: torch.Tensor

    def __init__(self, config: ReducedLlamaConfig) -> None:
        super().__init__(config)
        self.num_embeddings, self.embedding_dim = config.vocab_size, config.hidden_size
        self.project = nn.Linear(config.table_width, config.hidden_size, bias=False)
        self.register_buffer("rows", torch.zeros(config.vocab_size, dtype=torch.int32))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.project(F.embedding(self.rows[ids], self.table))


class ReducedHead(_Table):
    """Hidden states to logits over the whole vocabulary."""

    tokens: torch.Tensor

    def __init__(self, config: ReducedLlamaConfig) -> None:
        super().__init__(config)
        self.out_features = config.vocab_size
        self.project = nn.Linear(config.hidden_size, config.table_width, bias=False)
        self.register_buffer("tokens", torch.arange(config.table_rows, dtype=torch.int32))

    def frequent(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of the table's rows alone, (..., table_rows)."""
        return F.linear(self.project(hidden), self.table)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = self.frequent(hidden)
        whole = logits.new_full((*logits.shape[:-1], self.out_features), float("-inf"))
        whole[..., self.tokens.long()] = logits
        return whole


class ReducedLlamaForCausalLM(LlamaForCausalLM):
    """A Llama with reduced tables."""

    config_class = ReducedLlamaConfig
    _tied_weights_keys = {"lm_head.table": "model.embed_tokens.table"}  # noqa: RUF012 (as in transformers)

    def __init__(self, config: Any) -> None:
        if not 0 < config.table_rows <= config.vocab_size:
            raise SpecDecodeError(
                f"table_rows has to be from 1 to the vocabulary's {config.vocab_size}, not {config.table_rows}"
            )
        super(LlamaForCausalLM, self).__init__(config)  # its own would make a table of the whole vocabulary
        self.model = LlamaModel(config)
        self.model.embed_tokens = ReducedEmbedding(config)
        self.vocab_size = config.vocab_size
        self.lm_head = ReducedHead(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ReducedEmbedding):
            nn.init.normal_(module.table, std=self.config.initializer_range)


AutoConfig.register(ReducedLlamaConfig.model_type, ReducedLlamaConfig)
AutoModelForCausalLM.register(ReducedLlamaConfig, ReducedLlamaForCausalLM)
