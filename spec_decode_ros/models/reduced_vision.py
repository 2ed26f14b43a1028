"""A SmolVLM for drafting whose language model has a reduced table: see :mod:`spec_decode_ros.models.reduced`.

Importing this module makes transformers' `Auto` classes know the architecture.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMModel,
)

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.reduced import ReducedEmbedding, ReducedHead


class ReducedSmolVLMConfig(SmolVLMConfig):
    """SmolVLM's configuration; its `text_config`, a Llama's, has `table_rows` and `table_width` too."""

    model_type = "reduced_smolvlm"


class ReducedSmolVLM(SmolVLMForConditionalGeneration):
    """See the module's docstring."""

    config_class = ReducedSmolVLMConfig
    _tied_weights_keys = {"lm_head.table": "model.text_model.embed_tokens.table"}  # noqa: RUF012 (as in transformers)

    def __init__(self, config: Any) -> None:
        text = config.text_config
        if not 0 < getattr(text, "table_rows", 0) <= text.vocab_size or getattr(text, "table_width", 0) < 1:
            raise SpecDecodeError(
                f"the text_config of a reduced SmolVLM needs table_rows from 1 to the vocabulary's {text.vocab_size}, and "
                "a table_width"
            )
        super(SmolVLMForConditionalGeneration, self).__init__(config)  # its own would make a whole head
        self.model = SmolVLMModel(config)
        self.model.text_model.embed_tokens = ReducedEmbedding(text)
        self.image_token_id = config.image_token_id
        self.vocab_size = text.vocab_size
        self.lm_head = ReducedHead(text)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ReducedEmbedding):
            text: Any = self.config.text_config
            nn.init.normal_(module.table, std=text.initializer_range)


AutoConfig.register(ReducedSmolVLMConfig.model_type, ReducedSmolVLMConfig)
AutoModelForImageTextToText.register(ReducedSmolVLMConfig, ReducedSmolVLM)
