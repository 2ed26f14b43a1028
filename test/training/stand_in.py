"""A language model of the same architecture as the small pair's, with random weights and the words of the small language."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from spec_decode_ros.actions.commands import vocabulary
from spec_decode_ros.lab.training.smolvlm import TOKENS

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *TOKENS.values()]


def make_language(folder: Path, seed: int = 0, width: int = 64) -> Path:
    """Write the checkpoint of a Llama with two layers."""
    words = {
        word: i
        for i, word in enumerate(dict.fromkeys([*SPECIAL, "user", "assistant", *vocabulary(), "refused"]))
    }
    tokenizer = Tokenizer(models.WordLevel(words, SPECIAL[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
        extra_special_tokens=dict(TOKENS),
    )
    wrapped.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, 0.6 / weight.shape[1] ** 0.5)
    model.save_pretrained(folder)
    return folder
