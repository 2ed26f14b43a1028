"""`spec-decode replay` as its user runs it, with the shipped pair and a real verifier process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: bags need it")

from bags import WALK, S, compressed, cut, jpeg, string, write_bag

from spec_decode_ros import cli
from spec_decode_ros.replay.bag import read_frames, read_recording
from spec_decode_ros.server.process import spawn_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Replay = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def endpoint():
    """One verifier for all replays with the shipped pair."""
    pytest.importorskip("torch", reason="torch is not installed: the models need it")
    with spawn_server("tiny", threads=1) as found:
        yield found


@pytest.fixture
def replay(tmp_path: Path) -> Replay:
    """Run the command; its exit code and its JSON."""

    def run(bag: Path, *words: str) -> tuple[int, dict[str, Any]]:
        file = tmp_path / "result.json"
        file.unlink(missing_ok=True)
        code = cli.main(["replay", str(bag), "--json", str(file), *words])
        return code, json.loads(file.read_text()) if file.exists() else {}

    return run


def test_the_shipped_bag_and_pair_give_no_difference(replay: Replay, endpoint: str, tmp_path: Path, capsys):
    code, result = replay(WALK, "--endpoint", endpoint, "--plot", str(tmp_path / "replay.png"))
    assert code == 0
    assert result["compared"] == result["recorded_actions"] == result["replayed_actions"] > 30
    assert (result["differences"], result["not_compared"], result["passed"]) == (0, {}, True)
    assert all(row["recorded"] == row["replayed"] for row in result["rows"])
    assert result["latency_ms"]["replayed"] > 0 < result["latency_ms"]["recorded"]
    assert (tmp_path / "replay.png").stat().st_size > 10_000
    assert f"SAME: {result['compared']} of {result['compared']} actions" in capsys.readouterr().out


def test_one_changed_row_of_the_target_is_found(replay: Replay, tmp_path: Path):
    """A verifier of its own, whose target no longer knows the word 0.6."""
    from safetensors.torch import load_file, save_file

    import spec_decode_ros
    from spec_decode_ros.models.pair import load_drafter

    shipped = Path(spec_decode_ros.__file__).parent / "checkpoints/tiny/target"
    weights = shutil.copytree(shipped, tmp_path / "target") / "model.safetensors"
    tensors = load_file(weights)
    (token,) = load_drafter("tiny").encode("0.6")
    tensors["model.embed_tokens.weight"][token] = 0.0
    save_file(tensors, weights, metadata={"format": "pt"})
    pair = tmp_path / "changed.yaml"
    pair.write_text(
        "max_tokens: 24\n"
        "draft: {location: 'package:checkpoints/tiny/draft', dtype: float32, device: cpu, threads: 1}\n"
        "target: {location: target, dtype: float32, device: cpu, threads: 1}\n"
    )
    code, result = replay(WALK, "--pair", str(pair))
    assert (code, result["passed"]) == (1, False)
    differ = [row for row in result["rows"] if row["same"] is False]
    assert len(differ) == result["differences"] > 0
    assert any("0.6" in row["recorded"] for row in differ)
    assert not any("vx 0.6" in row["replayed"] for row in result["rows"])
    assert result["compared"] - result["differences"] > 10
    assert result["failures"] == [f"{len(differ)} of {result['compared']} actions differ"]


def test_a_foreign_bag_without_actions_and_commands(replay: Replay, endpoint: str, tmp_path: Path, capsys):
    walk = read_recording(WALK)
    frames = [frame for _, frame in zip(range(12), read_frames(walk), strict=False)]
    bag = write_bag(
        tmp_path / "foreign",
        [("/head/image", mark.time, compressed(mark.stamp, data)) for mark, data in frames],
        "sqlite3",
    )
    assert replay(bag, "--endpoint", endpoint)[0] == 2
    assert "--instruction" in capsys.readouterr().err
    words = ("--endpoint", endpoint, "--instruction", "go to the red chair", "--memory", "own")
    code, result = replay(bag, *words)
    assert (code, result["recorded_actions"], result["differences"]) == (0, 0, 0)
    assert result["replayed_actions"] == len(result["rows"]) >= 4
    # Its own last action is in the prompt: the robot counts what it has turned.
    said = [row["replayed"] for row in result["rows"]]
    assert len(set(said)) > 1, said


def test_at_the_speed_of_the_recording_the_same_prompts_give_the_same_words(
    replay: Replay, endpoint: str, tmp_path: Path
):
    walk = read_recording(WALK)
    begin = walk.commands[0].time
    bag = cut(WALK, tmp_path / "short", begin - S // 4, begin + 3 * S)
    code, result = replay(bag, "--endpoint", endpoint, "--speed", "real")
    # A machine that is too busy may decide on other frames only, and then nothing was shown.
    assert (code, result["differences"]) == (0 if result["compared"] else 2, 0)
    assert 3 <= result["replayed_actions"] <= 12
    assert result["medians"]["ttva_ms"] > 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--period", "0"), "--period is 0"),
        (("--tolerance", "-1"), "tolerance velocity is -1"),
        (("--pair", "nowhere"), "nowhere"),
        (("--keys", "folder"), "--keys is for a server"),
    ],
)
def test_wrong_use_is_one_sentence(replay: Replay, capsys, words, sentence: str):
    assert replay(WALK, *words) == (2, {})
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_bag_in_which_nothing_can_be_compared_does_not_pass(
    replay: Replay, endpoint: str, tmp_path: Path, capsys
):
    from bags import twist

    bag = write_bag(
        tmp_path / "bag",
        [
            ("/command", S, string("sit down")),
            ("/camera/image/compressed", 2 * S, compressed(2 * S, jpeg(size=(384, 192)))),
            ("/action/verified", 4 * S, twist(3 * S, 0.0, 0.0)),
        ],
    )
    code, result = replay(bag, "--endpoint", endpoint)
    assert (code, result["compared"]) == (2, 0)
    assert "its frame is not in the bag" in capsys.readouterr().err


@pytest.mark.parametrize("speed", ["full", "real"])
def test_one_damaged_frame_costs_one_action_and_not_the_replay(
    replay: Replay, endpoint: str, tmp_path: Path, capsys, speed: str
):
    walk = read_recording(WALK)
    frames = [frame for _, frame in zip(range(12), read_frames(walk), strict=False)]
    damaged = frames[4][0]
    bag = write_bag(
        tmp_path / "bag",
        [
            ("/command", frames[0][0].time - S, string("go to the red chair")),
            *(
                (
                    "/camera/image/compressed",
                    mark.time,
                    compressed(mark.stamp, data[: 900 if mark == damaged else None]),
                )
                for mark, data in frames
            ),
        ],
        "sqlite3",
    )
    code, result = replay(bag, "--endpoint", endpoint, "--speed", speed, "--period", "0.01")
    assert (code, result["skipped_frames"]) == (0, 1)
    assert result["replayed_actions"] == 11 if speed == "full" else result["replayed_actions"] > 1
    at_s = (damaged.time - frames[0][0].time) * 1e-9 + 1
    assert result["notes"][0].startswith(
        f"the frame at {at_s:.2f} s is skipped: a frame of /camera/image/compressed"
    )
    assert "skipped" in capsys.readouterr().out
