"""Checkpoints that always say the same: real model folders whose weights spell out one answer each.

Attention and feed-forward layers are silenced, so that the last token alone decides, and the head is
written such that each word is followed by the next one of the script. No training, no download, the same on
every machine.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

sys.path.append(str(Path(__file__).parents[1] / "models"))

from tiny_checkpoints import WORDS, make_qwen2_vl, write_pair

FIRST = "assistant"
"""The last word of every prompt."""


def write_script(folder: Path, answer: str, words: tuple[str, ...]) -> None:
    """Make a checkpoint that answers ``answer`` to everything; every word of it may occur once only."""
    script = [FIRST, *answer.split(), "<|im_end|>"]
    assert len(set(script)) == len(script), "a word that occurs twice would make a loop"
    make_qwen2_vl(folder, words=words, width=128, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    settings = model.generation_config
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
        embedding = torch.eye(128)
        table = model.get_input_embeddings().weight
        table.zero_()
        head = model.get_output_embeddings().weight
        head.zero_()
        for place, (word, following) in enumerate(itertools.pairwise(script)):
            table[tokenizer.convert_tokens_to_ids(word)] = embedding[place]
            head[tokenizer.convert_tokens_to_ids(following)] = 10.0 * embedding[place]
    model.generation_config = settings
    model.save_pretrained(folder)


def make_scripted_pair(root: Path, target: str, draft: str) -> Path:
    """The pair file of a target and a draft model that say what is given."""
    words = tuple(dict.fromkeys([*WORDS, *target.split(), *draft.split()]))
    write_script(root / "target", target, words)
    write_script(root / "draft", draft, words)
    return write_pair(root)
