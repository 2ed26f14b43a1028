"""A Llama with a table of frequent tokens: its logits, its files, and drafting with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import pair_of
from transformers import AutoTokenizer

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.cpu_decoder import CpuDecoder
from spec_decode_ros.models.pair import load_drafter
from spec_decode_ros.models.prompts import prepare
from spec_decode_ros.models.reduced_vocabulary import ReducedLlamaConfig, ReducedLlamaForCausalLM

ROWS = 20


def reduced(size: int, **settings: int) -> ReducedLlamaForCausalLM:
    torch.manual_seed(3)
    config = ReducedLlamaConfig(
        **{
            "vocab_size": size,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "table_rows": ROWS,
            "table_width": 8,
            "tie_word_embeddings": True,
            "eos_token_id": 2,
            "initializer_range": 0.5,
        }
        | settings
    )
    config._attn_implementation = "sdpa"
    model = ReducedLlamaForCausalLM(config).eval()
    model.lm_head.tokens.copy_(torch.arange(ROWS) * (size // ROWS))
    model.model.embed_tokens.rows.copy_(torch.arange(size) * ROWS // size)
    return model


@torch.no_grad()
def test_only_frequent_tokens_have_a_logit() -> None:
    model = reduced(100)
    logits = model(torch.tensor([[7, 93, 4]])).logits
    assert logits.shape == (1, 3, 100)
    assert torch.equal(logits[0, 1].isfinite().nonzero()[:, 0], torch.arange(0, 100, 5))
    hidden = model.model(torch.tensor([[7, 93, 4]])).last_hidden_state
    assert torch.equal(logits[..., ::5], model.lm_head.frequent(hidden))


@torch.no_grad()
def test_rare_tokens_are_read_as_the_one_that_stands_for_them() -> None:
    model = reduced(100)
    assert torch.equal(model(torch.tensor([[5, 6]])).logits, model(torch.tensor([[9, 8]])).logits)
    assert not torch.equal(model(torch.tensor([[5, 6]])).logits, model(torch.tensor([[10, 6]])).logits)


def test_table_is_one_tensor_in_memory_and_in_the_file(tmp_path: Path) -> None:
    model = reduced(100)
    assert model.lm_head.table is model.model.embed_tokens.table
    model.save_pretrained(tmp_path)
    loaded = ReducedLlamaForCausalLM.from_pretrained(tmp_path).eval()
    assert loaded.lm_head.table is loaded.model.embed_tokens.table
    ids = torch.tensor([[1, 50, 99]])
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_table_larger_than_the_vocabulary_is_refused() -> None:
    with pytest.raises(SpecDecodeError, match="table_rows has to be from 1 to the vocabulary's 10"):
        reduced(10)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.9, seed=5)])
def test_drafts_from_a_folder_like_any_other(
    checkpoints: Callable[[str], Path], tmp_path: Path, sampling: Sampling
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoints("llama"))
    model = reduced(len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    drafter = load_drafter(pair_of(tmp_path))
    assert isinstance(drafter.model.decoder, CpuDecoder)
    session = drafter.open("go to the red chair")
    tokens = list(itertools.islice(session.draft((), sampling), 12))
    assert tokens
    assert set(tokens) <= set(model.lm_head.tokens.tolist())
    if sampling.temperature == 0:
        ids = torch.tensor([prepare(drafter.model, "go to the red chair").ids])
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=len(tokens), do_sample=False
        )
        assert theirs[0, ids.shape[1] :].tolist() == tokens
