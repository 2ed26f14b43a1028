"""The text suite and transformers' own decoding: the same tokens from all, and every row filled in."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from spec_decode_ros.cli import main
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.comparison import ComparisonPlan
from spec_decode_ros.lab.bench.machine import Cores, pinned_to, split_cores
from spec_decode_ros.lab.bench.text_suite import (
    TOKENS_PER_S,
    PeerAnswer,
    SuitePrompts,
    decode_texts,
    require_same,
    text_prompts,
)
from spec_decode_ros.lab.text.prompts import training_prompts
from spec_decode_ros.lab.training.cutting import Cut, cut
from spec_decode_ros.lab.training.teacher import TeacherExample
from spec_decode_ros.lab.training.text_draft import with_draft
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.pair_config import PairConfig


@pytest.fixture(scope="module")
def reduced_pair(
    pair_file: Path, target: HfModel, examples: list[TeacherExample], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The pair with a draft that has a table of the frequent tokens only."""
    folder = pair_file.parent / "reduced"
    cut(target.model, Cut((0, 1, 2), 64, 60, 64), examples).save_pretrained(folder)
    target.text.tokenizer.save_pretrained(folder)
    file = pair_file.with_name("reduced.yaml")
    file.write_text(pair_file.read_text().replace("location: draft", "location: reduced"))
    return file


def test_every_method_over_a_link_and_transformers_say_the_same(reduced_pair: Path, tmp_path: Path) -> None:
    """Through the command, with a server and a link of its own: it fails where the tokens of two methods differ."""
    methods = ["cloud", "colocated", "sync", "auto"]
    file = tmp_path / "text.json"
    arguments = [
        "--pair",
        str(reduced_pair),
        "--frames",
        "2",
        "--max-tokens",
        "14",
        "--rtt-ms",
        "15",
        "--peers",
    ]
    assert main(["bench", "--suite", "text", *arguments, "--methods", *methods, "--json", str(file)]) == 0
    document = json.loads(file.read_text())
    (link,) = document["links"]
    assert (link["rtt_ms"], link["samples"]) == (15.0, 2)
    assert set(link["methods"]) == {*methods, "auto (lookup)"}
    for row in link["methods"].values():
        assert row[TOKENS_PER_S]["median"] > 0
        assert "capacity" not in row
    assert link["methods"]["sync"]["acceptance_rate"]["median"] > 0
    assert set(document["peers"]) == {"generate", "assisted generation", "prompt lookup"}
    assert all(row[TOKENS_PER_S]["median"] > 0 for row in document["peers"].values())


def test_transformers_beside_a_suite_of_frames_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--suite", "smoke", "--peers"]) == 2
    assert "--peers goes with --suite text or plan" in capsys.readouterr().err


def test_other_tokens_than_transformers_are_an_error() -> None:
    peers = {"generate": [PeerAnswer((1, 2), 4.0)], "prompt lookup": [PeerAnswer((1, 3), 4.0)]}
    with pytest.raises(SpecDecodeError, match=r"prompt lookup\) and auto give different tokens for prompt 0"):
        require_same(peers, [(1, 2)], "auto")


def test_prompts_are_not_those_of_the_training() -> None:
    prompts, warm_up, _ = text_prompts(12)
    assert len(set(prompts)) == 12
    learned = training_prompts(7)
    assert not {*prompts, *warm_up} & {next(learned) for _ in range(2000)}
    assert not set(prompts) & set(warm_up)


def test_answers_without_a_token_are_refused() -> None:
    with pytest.raises(SpecDecodeError, match="at least one token"):
        decode_texts(SuitePrompts(["go to the red chair"], []), ComparisonPlan(max_tokens=0), "smollm2")


def test_sides_do_not_share_a_core_unless_there_is_one() -> None:
    assert split_cores([3, 5, 7]) == Cores((3,), (5, 7))
    assert split_cores([3, 5, 7]).all == (3, 5, 7)
    assert split_cores([2]) == Cores((2,), (2,))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin to cores")
def test_pinned_for_a_while_only() -> None:
    before = os.sched_getaffinity(0)
    with pinned_to(split_cores().edge):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_a_draft_can_be_exchanged(pair_file: Path, tmp_path: Path) -> None:
    config = with_draft(str(pair_file), tmp_path)
    assert isinstance(config, PairConfig)
    assert config.draft.location == str(tmp_path)
    assert config.target.location == "target"
