"""Which grammar the answers of a pair follow. Without torch."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

from spec_decode_ros.actions.grammar import ACTION_GRAMMAR, MAX_ACTION_LENGTH
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.pair_config import PairConfig, resolve_file

ACTION, NONE, AUTO = "action", "none", "auto"


class GrammarError(SpecDecodeError):
    """A grammar that cannot be used."""


@dataclass(frozen=True)
class Grammar:
    """A grammar in EBNF, or the JSON schema of what may be written; `name` is for people."""

    name: str
    text: str
    is_json_schema: bool = False

    @property
    def fingerprint(self) -> str:
        """A hash of the text: equal for equal grammars."""
        kind = "json schema" if self.is_json_schema else "ebnf"
        return hashlib.sha256(f"{kind}\0{self.text}".encode()).hexdigest()[:16]


def with_grammar(pair: PairConfig, grammar: str) -> PairConfig:
    """The pair with another grammar, a file relative to the working folder; as it is if `grammar` is empty."""
    if not grammar:
        return pair
    return replace(
        pair, grammar=grammar if grammar in (ACTION, NONE, AUTO) else str(Path(grammar).absolute())
    )


def grammar_of(pair: PairConfig, takes_images: bool) -> Grammar | None:
    """The grammar of the pair's answers; None where they are free.

    Args:
        pair: as its file describes it.
        takes_images: whether its models do.

    Raises:
        GrammarError: the file cannot be read, xgrammar is missing, or an action may be longer than the longest answer.
    """
    setting = pair.grammar
    if setting == AUTO:
        setting = ACTION if pair.prompt == "instructed" and takes_images else NONE
    if setting == NONE:
        return None
    if importlib.util.find_spec("xgrammar") is None:
        raise GrammarError(
            f"The answers of the pair {pair.name} are constrained by a grammar, which needs xgrammar: run `pip install "
            "xgrammar`, or set grammar to none in the pair file."
        )
    if setting != ACTION:
        return _read(pair)
    if pair.max_tokens <= MAX_ACTION_LENGTH:
        raise GrammarError(
            f"An action may take {MAX_ACTION_LENGTH + 1} tokens, but max_tokens of the pair {pair.name} is "
            f"{pair.max_tokens}: raise it, or set grammar to none."
        )
    return Grammar(ACTION, ACTION_GRAMMAR)


def _read(pair: PairConfig) -> Grammar:
    file = resolve_file(pair.grammar, pair.folder)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise GrammarError(
            f"The grammar {file} of the pair {pair.name} cannot be read ({reason}): grammar must be action, none, auto or "
            "a file with EBNF or, named .json, a JSON schema."
        ) from error
    return Grammar(str(file), text, file.suffix == ".json")
