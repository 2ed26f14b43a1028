"""`generate --grammar`: an answer of a text pair that follows a file's grammar, through a verifier process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spec_decode_ros.cli import main
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.models.pair import load_verifier

pytest.importorskip("xgrammar", reason="xgrammar is not installed: constrained answers need it")

GRAMMAR = 'root ::= "go to the " ("red" | "blue") " " ("box" | "ball") (" and turn left" | "")'


def test_an_answer_follows_the_grammar_of_a_file(
    pair_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "where.ebnf").write_text(GRAMMAR)
    monkeypatch.chdir(tmp_path)
    command = ["generate", "--pair", str(pair_file), "--prompt", "find the blue box", "--method", "auto"]
    assert main([*command, "--grammar", "where.ebnf", "--json", "answer.json"]) == 0
    answer = json.loads(Path("answer.json").read_text())
    assert answer["verified"]
    assert answer["text"].removesuffix(" and turn left") in {
        f"go to the {color} {kind}" for color in ("red", "blue") for kind in ("box", "ball")
    }
    target = load_verifier(pair_file)
    free, answer_so_far = target.prepare("find the blue box"), answer["tokens"][:-1]
    assert list(free.verify((), answer_so_far, Sampling())) != answer["tokens"]


def test_a_grammar_file_that_is_missing_is_named_before_anything_is_loaded(
    pair_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "absent.ebnf"
    command = ["generate", "--pair", str(pair_file), "--prompt", "go", "--grammar", str(absent)]
    assert main(command) != 0
    assert f"The grammar {absent}" in " ".join(capsys.readouterr().err.split())
