"""Which grammar a pair's answers follow, and vocabularies of every kind that follow one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from constrained import ACTION, alone, is_action, make_instructed_pair
from tokenizers import Tokenizer, decoders
from tokenizers import models as tokenizer_models
from transformers import PreTrainedTokenizerFast

from spec_decode_ros.actions.grammar import MAX_ACTION_LENGTH
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.models.grammar import Grammar, GrammarError, grammar_of
from spec_decode_ros.models.loading import load_tokenizer
from spec_decode_ros.models.pair import load_drafter, load_verifier
from spec_decode_ros.models.pair_config import ModelConfig, PairConfig, load_pair_config, resolve_location
from spec_decode_ros.models.structured_outputs import CompiledGrammar, apply_bitmask
from spec_decode_ros.models.text import CheckpointText

pytest.importorskip("xgrammar", reason="xgrammar is not installed: constrained answers need it")


@pytest.fixture(scope="module")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_instructed_pair(tmp_path_factory.mktemp("pair"))


def random_texts(text: CheckpointText, grammar: Grammar, count: int) -> Iterator[str]:
    """What a model without any opinion writes."""
    compiled = CompiledGrammar(grammar, text)
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        matcher, answer = compiled.matcher(), []
        while not answer or answer[-1] not in text.eos_ids:
            logits = torch.randn(1, text.size, generator=generator)
            apply_bitmask(logits, matcher.bitmask([answer]))
            answer.append(int(logits.argmax()))
        assert len(answer) <= MAX_ACTION_LENGTH + 1
        yield text.decode(answer)


@pytest.mark.parametrize("strips", [True, False])
def test_tokenizers_that_mark_spaces_write_actions_whether_or_not_they_take_the_first_one_away(
    strips: bool,
) -> None:
    words = "vx wz | stopped reached red chair left ahead right turning 0.0 0.4 -0.2 1.5 45 .5".split()
    octets = [f"<0x{octet:02X}>" for octet in range(256)]
    vocabulary = ["<unk>", "</s>", *(f"▁{word}" for word in words), *octets, *"abcdefghijkl0123456789.-▁"]
    tokenizer = Tokenizer(
        tokenizer_models.BPE(
            {token: i for i, token in enumerate(vocabulary)}, [], unk_token="<unk>", byte_fallback=True
        )
    )
    spaces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*spaces, decoders.Strip(" ", 1, 0)] if strips else spaces)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")
    text = CheckpointText(wrapped, [1], None, None)
    assert all(map(is_action, random_texts(text, ACTION, 30)))
    assert CompiledGrammar(ACTION, text).matcher().accepts([vocabulary.index("▁vx")]) == strips


def test_a_real_vocabulary_writes_actions_and_json() -> None:
    side = ModelConfig("package:checkpoints/smollm2/draft")
    tokenizer = load_tokenizer(side, resolve_location(side, Path()))
    text = CheckpointText(tokenizer, [2], None, None)
    assert all(map(is_action, random_texts(text, ACTION, 20)))
    schema = {
        "properties": {"vx": {"type": "number"}, "kind": {"enum": ["box", "ball"]}},
        "required": ["kind"],
    }
    for written in random_texts(text, Grammar("mine", json.dumps({"type": "object", **schema}), True), 5):
        assert json.loads(written)["kind"] in ("box", "ball")


def test_a_vocabulary_without_a_word_of_the_grammar_says_so(pair_file: Path) -> None:
    verifier = load_verifier(pair_file)
    matcher = CompiledGrammar(Grammar("mine", 'root ::= "go unheard"'), verifier.model.text).matcher()
    with pytest.raises(GrammarError, match="cannot go on behind 'go', because the vocabulary has no token"):
        matcher.bitmask([verifier.encode("go")])


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (
            "mine.ebnf",
            "root ::= other",
            r'mine\.ebnf cannot be used \(EBNF parser error .* "other" is not defined\)',
        ),
        ("mine.json", "{no", r"mine\.json cannot be used \(.*\): correct it"),
        ("mine.ebnf", None, r"mine\.ebnf of the pair random cannot be read \(No such file or directory\)"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_named(
    pair_file: Path, name: str, text: str | None, sentence: str
) -> None:
    file = pair_file.with_name(name)
    file.unlink(missing_ok=True)
    if text is not None:
        file.write_text(text)
    pair = load_pair_config(pair_file)
    with pytest.raises(GrammarError, match=sentence) as caught:
        load_drafter(with_grammar(pair, name))
    assert "\n" not in str(caught.value)


def with_grammar(pair: PairConfig, grammar: str, **changes: object) -> PairConfig:
    return replace(pair, grammar=grammar, **changes)  # type: ignore[arg-type]


def test_files_of_a_pair_hold_ebnf_or_a_json_schema(pair_file: Path) -> None:
    pair = load_pair_config(pair_file)
    pair_file.with_name("words.ebnf").write_text('root ::= "go to the " ("red" | "blue") " box"')
    pair_file.with_name("words.json").write_text('{"enum": ["red", "blue"]}')
    verifier = load_verifier(with_grammar(pair, "words.ebnf"))
    texts = {verifier.decode(alone(verifier, Sampling(2.0, seed=seed))) for seed in range(12)}
    assert texts == {"go to the red box", "go to the blue box"}
    schema = grammar_of(with_grammar(pair, "words.json"), True)
    assert schema is not None and schema.is_json_schema
    assert schema.fingerprint != grammar_of(with_grammar(pair, "words.ebnf"), True).fingerprint  # type: ignore[union-attr]


def test_by_default_instructed_pairs_that_take_images_write_actions(pair_file: Path) -> None:
    pair = load_pair_config(pair_file)
    assert grammar_of(pair, True) == ACTION
    assert grammar_of(pair, False) is None
    assert grammar_of(with_grammar(pair, "none"), True) is None
    assert grammar_of(with_grammar(pair, "action"), False) == ACTION
    trained = with_grammar(pair, "auto", prompt="trained")
    assert grammar_of(trained, True) is None
    with pytest.raises(GrammarError, match="may take 70 tokens, but max_tokens of the pair random is 69"):
        grammar_of(with_grammar(pair, "auto", max_tokens=69), True)


def test_without_xgrammar_a_pair_says_what_to_install(
    pair_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "xgrammar" else find(name, *more)
    )
    with pytest.raises(
        GrammarError, match="needs xgrammar: run `pip install xgrammar`, or set grammar to none"
    ):
        load_drafter(pair_file)
    assert load_drafter(with_grammar(load_pair_config(pair_file), "none")).grammar == ""


@pytest.mark.parametrize("checkpoint", ["tiny", "smollm2"])
def test_the_bitmask_allows_every_token_that_can_follow_and_no_other(checkpoint: str) -> None:
    side = ModelConfig(f"package:checkpoints/{checkpoint}/draft")
    tokenizer = load_tokenizer(side, resolve_location(side, Path()))
    text = CheckpointText(tokenizer, [2], None, None)
    matcher = CompiledGrammar(ACTION, text).matcher()
    for written in ("", "vx", "vx 0.0 wz", "vx 0.4 wz 0.0 | red", "vx 0.0 wz 0.0 | red chair"):
        answer = text.encode(written)
        (row,) = matcher.bitmask([answer])
        bits = np.unpackbits(row.view(np.uint8), count=text.size, bitorder="little")
        following = [token for token in range(text.size) if matcher.accepts([*answer, token])]
        assert np.flatnonzero(bits).tolist() == following, written
