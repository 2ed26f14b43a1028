"""Comparing the vocabularies of two tokenizers: token ids travel between robot and cloud, so they must mean the same."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from spec_decode_ros.errors import SpecDecodeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class VocabularyMismatch(SpecDecodeError):
    """The draft's and the target's token ids do not mean the same."""


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """One more than the largest id that the tokenizer knows.

    Checkpoints pad their embedding to rounder sizes (Qwen2-VL 2B to 151936 rows, 7B to 152064, for the same tokenizer);
    the rows beyond this size belong to no token, are never chosen and do not count as a difference.
    """
    return max(tokenizer.get_vocab().values()) + 1


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """`<size>-<hash>` of every token and its id, for example `151657-3f0c9a1be2d47705`."""
    digest = hashlib.sha256()
    for token, index in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        digest.update(f"{index}\0{token}\0".encode())
    return f"{vocabulary_size(tokenizer)}-{digest.hexdigest()[:16]}"


def describe_difference(draft: PreTrainedTokenizerBase, target: PreTrainedTokenizerBase) -> str | None:
    """What differs between two vocabularies, as part of a sentence; None when nothing does."""
    if fingerprint(draft) == fingerprint(target):
        return None
    draft_tokens = {index: token for token, index in draft.get_vocab().items()}
    target_tokens = {index: token for token, index in target.get_vocab().items()}
    first = min(
        index
        for index in draft_tokens.keys() | target_tokens.keys()
        if draft_tokens.get(index) != target_tokens.get(index)
    )

    def name(tokens: dict[int, str]) -> str:
        return repr(tokens[first]) if first in tokens else "nothing"

    return (
        f"the draft has {len(draft_tokens)} tokens and the target {len(target_tokens)}, and token {first} is "
        f"{name(draft_tokens)} in the draft but {name(target_tokens)} in the target"
    )


def require_same_vocabulary(draft: PreTrainedTokenizerBase, target: PreTrainedTokenizerBase) -> None:
    """Raise VocabularyMismatch, with one sentence that says what differs, unless the ids are exchangeable."""
    difference = describe_difference(draft, target)
    if difference:
        raise VocabularyMismatch(
            f"The draft and the target do not share a vocabulary: {difference}; choose two models of one family."
        )
