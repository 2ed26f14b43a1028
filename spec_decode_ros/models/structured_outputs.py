"""Structured outputs: choices among the tokens that a grammar allows.

xgrammar compiles a grammar for a vocabulary. A matcher follows one answer and says with a bitmask which tokens may come
next; the logits of all others become minus infinity before anything is chosen, so that greedy choices, seeded ones and
the distributions of rejection sampling are those of the constrained model. Draft and target do the same.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spec_decode_ros.models.grammar import Grammar, GrammarError
from spec_decode_ros.models.text import CheckpointText

Bitmask = NDArray[np.int32]
"""One row for each choice; bit t of a row says whether token t may be chosen, 32 tokens in a number."""

_ANY_TOKEN = np.int32(-1)
_WORD_BITS = 32
_MOST_TRIED = 4096
_PLACE = re.compile(r"^\[[^]]*\] \S+: ")
"""Where in xgrammar's own source an error was found."""

_compiling = threading.Lock()
_compiled: dict[tuple[Grammar, str, frozenset[int], str], Any] = {}
"""What was compiled in this process: a second's work, and the models of a pair share a vocabulary."""


class CompiledGrammar:
    """A grammar for one vocabulary.

    Args:
        grammar: what answers follow.
        text: the text side of the checkpoint; its end tokens end an answer that is complete.

    Raises:
        GrammarError: the grammar is not valid, or does not fit the tokenizer.
    """

    def __init__(self, grammar: Grammar, text: CheckpointText) -> None:
        self.fingerprint = grammar.fingerprint
        backend = getattr(text.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise GrammarError(
                "Without a fast tokenizer a checkpoint cannot follow a grammar: get its tokenizer.json, or set grammar to "
                "none."
            )
        key = grammar, text.vocabulary, text.eos_ids, str(backend.decoder)
        with _compiling:
            if key not in _compiled:
                _compiled[key] = _compile(grammar, text)
            self._compiled = _compiled[key]
        special = set(self._compiled.tokenizer_info.special_token_ids) - text.eos_ids
        self.text = text
        self.ordinary = frozenset(range(text.size)) - special
        """Of any other token xgrammar would complain on standard error."""
        # xgrammar 0.2.9 leaves out some of the tokens that one of their neighbours in order occurs in, such as `0.0 ` beside
        # `0 `. Where tokens are whole words that is no rarity, and they are few.
        self._tries_tokens = backend.decoder is None
        self._tried: dict[tuple[int, ...], Bitmask] = {}

    def matcher(self) -> GrammarMatcher:
        """A matcher at the beginning of an answer."""
        import xgrammar

        return GrammarMatcher(self, xgrammar.GrammarMatcher(self._compiled))

    def fill(self, bitmask: Bitmask, row: int, answer: Sequence[int], matcher: Any) -> None:
        """What may follow `answer`, behind which xgrammar's `matcher` stands."""
        if not self._tries_tokens:
            matcher.fill_next_token_bitmask(bitmask, row)
            return
        known = self._tried.get(tuple(answer))
        if known is None:
            allowed = np.zeros(bitmask.shape[1] * _WORD_BITS, dtype=bool)
            for token in self.ordinary:
                if matcher.accept_token(token):
                    allowed[token] = True
                    matcher.rollback(1)
            known = np.packbits(allowed, bitorder="little").view(np.int32)
            if len(self._tried) >= _MOST_TRIED:
                self._tried.clear()
            self._tried[tuple(answer)] = known
        bitmask[row] = known


class GrammarMatcher:
    """Follows one answer, forward and back, as the KV cache of its sequence does."""

    def __init__(self, grammar: CompiledGrammar, matcher: Any) -> None:
        self._grammar = grammar
        self._matcher = matcher
        self._accepted: list[int] = []

    def accepts(self, answer: Sequence[int]) -> bool:
        """Whether `answer` follows the grammar as far as it goes. The matcher then stands behind it."""
        common = 0
        for accepted, token in zip(self._accepted, answer, strict=False):
            if accepted != token:
                break
            common += 1
        if common < len(self._accepted):
            self._matcher.rollback(len(self._accepted) - common)
            del self._accepted[common:]
        for token in answer[common:]:
            possible = token in self._grammar.ordinary and not self._matcher.is_terminated()
            if not (possible and self._matcher.accept_token(token)):
                return False
            self._accepted.append(token)
        return True

    def bitmask(self, answers: Iterable[Sequence[int]]) -> Bitmask:
        """The tokens that may follow each answer: any after one that does not follow the grammar or has ended.

        No constrained model writes such an answer, so what follows it is never used.

        Raises:
            GrammarError: the vocabulary has no token with which an answer could go on.
        """
        asked = list(answers)
        text = self._grammar.text
        words = -(-text.size // _WORD_BITS)
        bitmask = np.full((len(asked), words), _ANY_TOKEN)
        for row, answer in enumerate(asked):
            if not self.accepts(answer) or self._matcher.is_terminated():
                continue
            self._grammar.fill(bitmask, row, answer, self._matcher)
            if not bitmask[row].any():
                raise GrammarError(
                    f"The grammar cannot go on behind {text.decode(answer)[-60:]!r}, because the vocabulary has no "
                    "token for it: correct the grammar."
                )
        return bitmask


def only_token(row: Bitmask) -> int | None:
    """The token that a row of a bitmask leaves alone, if it is one."""
    words = np.flatnonzero(row)
    if len(words) != 1:
        return None
    word = int(row[words[0]]) & 0xFFFFFFFF
    return int(words[0]) * _WORD_BITS + word.bit_length() - 1 if word & (word - 1) == 0 else None


def apply_bitmask(logits: torch.Tensor, bitmask: Bitmask) -> None:
    """Make the logits (K, vocabulary) of the tokens that may not be chosen minus infinity, in place.

    Where that leaves no token, as a draft with a reduced vocabulary has none that is allowed, all allowed ones are alike.
    """
    octets = torch.from_numpy(bitmask.view(np.uint8)).to(logits.device, torch.int32)
    most = _most_of_octet(logits.device, logits.dtype).index_select(0, octets.flatten())
    most = most.view(len(logits), -1)[:, : logits.shape[1]]
    torch.minimum(logits, most, out=logits)
    nothing_left = logits.amax(dim=-1, keepdim=True) == -torch.inf
    if nothing_left.any():
        logits.masked_fill_(nothing_left & (most > 0), 0.0)


@functools.cache
def _most_of_octet(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """What the logits of eight tokens are at most, for each octet of a bitmask: a table is quicker than unpacking bits."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return torch.from_numpy(np.where(bits, np.inf, -np.inf)).to(device, dtype)


def _compile(grammar: Grammar, text: CheckpointText) -> Any:
    import xgrammar

    ends = sorted(text.eos_ids)
    try:
        if grammar.is_json_schema:
            # Whitespace wherever it is allowed is what small models never stop writing.
            parsed = xgrammar.Grammar.from_json_schema(grammar.text, any_whitespace=False)
        else:
            parsed = xgrammar.Grammar.from_ebnf(grammar.text)
        if text.tokenizer.backend_tokenizer.decoder is None:  # decoding puts a space between any two tokens
            names = text.tokenizer.convert_ids_to_tokens(list(range(text.size)))
            words = [f"{name} ".encode() for name in names]
            parsed = xgrammar.Grammar.concat(parsed, xgrammar.Grammar.from_ebnf('root ::= " "'))
        else:
            read = xgrammar.TokenizerInfo.from_huggingface(
                text.tokenizer, vocab_size=text.size, stop_token_ids=ends
            )
            words = read.decoded_vocab
            spaced = next(
                (i for i, word in enumerate(words) if word[:1] == b" " and word[1:].isalnum()), None
            )
            if spaced is not None and not text.decode([spaced]).startswith(
                " "
            ):  # it takes a first space away
                parsed = xgrammar.Grammar.concat(xgrammar.Grammar.from_ebnf('root ::= " "?'), parsed)
        for index in text.tokenizer.all_special_ids:  # decoding leaves them out
            if index < len(words):
                words[index] = b""
        info = xgrammar.TokenizerInfo(words, vocab_size=text.size, stop_token_ids=ends)
        return xgrammar.GrammarCompiler(info).compile_grammar(parsed)
    except (RuntimeError, ValueError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = _PLACE.sub("", lines[0]).rstrip(".") if lines else type(error).__name__
        raise GrammarError(f"The grammar {grammar.name} cannot be used ({reason}): correct it.") from error
