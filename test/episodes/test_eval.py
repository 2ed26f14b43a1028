from __future__ import annotations

import dataclasses
import functools
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from spec_decode_ros import cli
from spec_decode_ros.lab.episodes import evaluate as episodes
from spec_decode_ros.lab.episodes.episode import EpisodeResult, Rules
from spec_decode_ros.sim.task import make_task

RESULT = EpisodeResult(
    seed=3,
    instruction="go to the [bold]red[/] chair [/oops]",
    target="red chair",
    success=True,
    reason="reached",
    distance=0.4321,
    time=8.0,
    path_length=2.0,
    decisions=24,
    invalid_actions=0,
    collisions=(),
)
FAILED = dataclasses.replace(
    RESULT, seed=4, success=False, reason="touched the wall", time=2.0, decisions=6, collisions=("wall",)
)


def test_report_counts_and_takes_medians() -> None:
    stats = [
        {"ttva_ms": 30.0, "acceptance_rate": None},
        {"ttva_ms": 10.0, "acceptance_rate": 0.5},
        {"ttva_ms": 20.0, "acceptance_rate": 1.0},
    ]
    document = episodes.report([RESULT, FAILED], stats, unverified=1)
    assert document["success_rate"] == 0.5
    assert document["successes"] == 1
    assert document["reasons"] == {"reached": 1, "touched the wall": 1}
    assert document["medians"]["ttva_ms"] == 20.0
    assert document["medians"]["acceptance_rate"] == 0.75
    assert document["medians"]["cloud_passes"] is None
    assert document["spread"]["ttva_ms"] == [12.0, 28.0]
    assert document["median_time"] == 8.0
    assert document["unverified_actions"] == 1
    assert [row["seed"] for row in document["rows"]] == [3, 4]
    json.dumps(document, allow_nan=False)


def test_table_shows_phrasings_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    document = {
        "method": "auto",
        "pair": "tiny",
        "rtt_ms": 50.0,
        **episodes.report([RESULT], [{"ttva_ms": 5.0}]),
    }
    episodes.print_episodes(document)
    shown = capsys.readouterr().out
    assert "[/oops]" in shown
    assert "success_rate 1.00 (1 of 1)" in shown


def test_evaluate_runs_every_task_and_tells_of_each() -> None:
    told: list[EpisodeResult] = []
    asked: list[str] = []

    def policy(jpeg: bytes, instruction: str, _last: str | None) -> str:
        assert jpeg.startswith(b"\xff\xd8")
        asked.append(instruction)
        return "vx 0.0 wz 0.0 | not understood"

    tasks = [make_task(seed) for seed in (20, 21)]
    results = episodes.evaluate(tasks, policy, Rules(), show=told.append)
    assert told == results
    assert [result.reason for result in results] == ["gave up: not understood"] * 2
    assert list(dict.fromkeys(asked)) == [task.instruction for task in tasks]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--episodes", "0"], "--episodes is 0: give a number from 1 to 100000"),
        (["--seed", "-1"], "--seed is -1: give 0 or more"),
        (["--rtt-ms", "nan"], "--rtt-ms is nan: give 0 or more"),
        (["--latency-ms", "-1"], "--latency-ms is -1: give 0 or more"),
    ],
)
def test_wrong_numbers_are_one_sentence(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["eval", *arguments]) == 2
    assert capsys.readouterr().err == f"spec-decode: {complaint}\n"


@pytest.mark.parametrize("arguments", [["--latency-ms", "soon"], ["--method", "magic"]])
def test_what_is_no_number_or_method_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["eval", *arguments])
    assert ended.value.code == 2
    assert "invalid" in capsys.readouterr().err


def test_unreadable_instructions_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["eval", "--instructions", str(tmp_path / "none.txt")]) == 2
    assert "cannot read the instructions" in capsys.readouterr().err


@pytest.mark.timeout(120)
@pytest.mark.parametrize("method", ["edge", "auto"])
def test_closed_loop_through_a_real_verifier(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A random pair gets nowhere, but every part between camera and legs takes part."""
    makers = runpy.run_path(str(Path(__file__).parents[1] / "models" / "tiny_checkpoints.py"))
    pair = makers["make_qwen2_vl_pair"](tmp_path / "pair")
    phrasings = tmp_path / "phrasings.txt"
    phrasings.write_text("find the {color} {kind}\n", encoding="utf-8")
    monkeypatch.setattr(episodes, "Rules", functools.partial(Rules, time_out_s=2.0))
    arguments = ["--pair", str(pair), "--method", method, "--episodes", "1", "--seed", "9"]
    code = cli.main(["eval", *arguments, "--instructions", str(phrasings), "--json", "-"])
    document = json.loads(capsys.readouterr().out)
    assert code == 1
    assert document["success_rate"] == 0.0
    (row,) = document["rows"]
    assert row["seed"] == 9
    assert row["instruction"] == f"find the {row['target']}"
    assert row["decisions"] == row["invalid_actions"] > 0
    if method == "auto":
        assert document["unverified_actions"] == 0
        assert document["medians"]["cloud_passes"] >= 1
        assert document["medians"]["ttva_ms"] > 0
    else:
        assert document["unverified_actions"] == document["decisions"]
        assert document["medians"]["ttva_ms"] is None


class _Answers:
    """Stands for the runtime: notes what it is asked and counts its answers' tokens up."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[int, ...]]] = []

    def act(self, prompt: str, images: list[bytes], last_tokens: tuple[int, ...]) -> SimpleNamespace:
        assert images == [b"jpeg"]
        self.asked.append((prompt, tuple(last_tokens)))
        number = len(self.asked)
        stats = {"total_ms": 100.0 * number}
        return SimpleNamespace(
            tokens=(number,), text=f"answer {number}", verified=number > 1, without_model=False, stats=stats
        )


def test_policy_drafts_with_its_last_answer_within_an_episode_only() -> None:
    runtime = _Answers()
    policy = episodes.DecodingPolicy(runtime, "trained")  # type: ignore[arg-type]
    assert policy(b"jpeg", "Go there", None) == "answer 1"
    assert policy(b"jpeg", "Go there", "answer 1") == "answer 2"
    assert policy(b"jpeg", "stop", None) == "vx 0.0 wz 0.0 | stopped"  # by the robot itself
    assert policy(b"jpeg", "and back", None) == "answer 3"
    assert runtime.asked == [
        ("go there | last none", ()),
        ("go there | last answer 1", (1,)),
        ("and back | last none", ()),
    ]
    assert policy.last_s == pytest.approx(0.3)
    assert policy.unverified == 1
    assert len(policy.stats) == 4
