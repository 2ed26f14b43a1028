"""Comparison of two tokenizers' vocabularies: the token ids that robot and cloud exchange must mean the same."""

from __future__ import annotations

import hashlib

from transformers import PreTrainedTokenizerBase

from spec_decode_ros.errors import SpecDecodeError


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


def require_same_vocabulary(draft: PreTrainedTokenizerBase, target: PreTrainedTokenizerBase) -> None:
    """Raise VocabularyMismatch, with one sentence that says what differs, unless the ids are exchangeable."""
    if fingerprint(draft) == fingerprint(target):
        return
    ours, theirs = ({index: token for token, index in side.get_vocab().items()} for side in (draft, target))
    first = min(index for index in ours.keys() | theirs.keys() if ours.get(index) != theirs.get(index))
    mine, other = (repr(tokens[first]) if first in tokens else "nothing" for tokens in (ours, theirs))
    raise VocabularyMismatch(
        f"The draft and the target do not share a vocabulary: the draft has {len(ours)} tokens and the target "
        f"{len(theirs)}, and token {first} is {mine} in the draft but {other} in the target; choose two models of one "
        "family."
    )
