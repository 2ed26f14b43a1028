"""The suite of plans: which sentences it takes, and every method and transformers on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spec_decode_ros.cli import main
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.page import page
from spec_decode_ros.lab.bench.plan_suite import choose, plan_prompts
from spec_decode_ros.lab.plan_judge import read_expected
from spec_decode_ros.models.loading import load_tokenizer
from spec_decode_ros.models.pair_config import load_pair_config, resolve_location

SENTENCES = """
sit => sit down
rise => stand up
left => turn left 90 degrees
chair, then sit => go to the red chair; sit down
left, then down => turn left 90 degrees; sit down
up, box, down => stand up; go to the blue box; sit down
freeze => stop
bite him => refused
up, on, box, down => stand up; walk forward 1 metres; go to the blue box; sit down
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text(SENTENCES)
    return path


def test_one_two_and_three_steps_take_turns(file: Path) -> None:
    expected = read_expected(file)
    chosen = choose(expected, 6, seed=0)
    kinds = ["1 step", "2 steps", "3 steps", "1 step", "2 steps", "1 step"]
    assert [wanted.kind for wanted in chosen] == kinds
    assert choose(expected, 4, seed=0) == chosen[:4]
    assert {choose(expected, 1, seed)[0].sentence for seed in range(20)} == {"sit", "rise", "left"}
    with pytest.raises(SpecDecodeError, match=r"only 6 .* not 7"):
        choose(expected, 7, seed=0)


def test_only_plans_of_enough_tokens_are_taken(file: Path, pair_file: Path) -> None:
    pair = load_pair_config(pair_file)
    tokenizer = load_tokenizer(pair.draft, resolve_location(pair.draft, pair.folder))
    plan = "stand up; go to the blue box; sit down"
    longest = len(tokenizer.encode(plan, add_special_tokens=False))
    prompts = plan_prompts(file, pair, 1, min_tokens=longest)
    assert prompts.groups == {"3 steps": [0]}
    assert "up, box, down" in prompts.measured[0]
    with pytest.raises(SpecDecodeError, match="fewer --min-tokens"):
        plan_prompts(file, pair, 1, min_tokens=longest + 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_method_over_a_link_and_transformers_say_the_same(
    pair_file: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command, with a server and a link of its own: it fails where the tokens of two methods differ."""
    made = tmp_path / "plans.json"
    methods = ["cloud", "sync", "early_exit", "pipelined", "colocated", "auto"]
    where = ["--pair", str(pair_file), "--sentences", str(file), "--rtt-ms", "15"]
    what = ["--frames", "3", "--max-tokens", "12", "--peers", "--methods", *methods]
    assert main(["bench", "--suite", "plan", *where, *what, "--json", str(made)]) == 0
    said = capsys.readouterr().out
    assert "1 step, 1 samples" in said and "transformers in one process" in said
    document = json.loads(made.read_text())
    assert set(document["peers"]) == {"generate", "assisted generation", "prompt lookup"}
    (link,) = document["links"]
    assert set(link["methods"]) == {*methods, "auto (lookup)"}
    assert link["bound_ms"]["median"] > link["rtt_ms"] == 15.0
    for figures in link["methods"].values():
        assert 1 <= figures["tokens"]["median"] <= 12
        assert figures["ttva_ms"]["median"] > 15.0
    assert link["methods"]["sync"]["round_trips"]["median"] > 0
    assert [found["samples"] for found in link["groups"].values()] == [1, 1, 1]
    assert set(link["groups"]["2 steps"]["ttva_ms"]) == set(link["methods"])
    text = page([document])
    assert "| | 1 step, 1 samples | 2 steps, 1 samples | 3 steps, 1 samples |" in text
    assert "tokens/s" in text


def test_without_the_file_of_sentences_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "--suite", "plan", "--pair", str(pair_file)]) == 2
    assert "cannot read the sentences in config/instructions/held_out_plans.txt" in capsys.readouterr().err
