"""The summary says what happened, in the names that are promised, and the frame that is shown is a telling one."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from spec_decode_ros.edge.recording import METRICS
from spec_decode_ros.edge.runtime import ActionResult
from spec_decode_ros.lab.bench.comparison import MethodComparison, Sample
from spec_decode_ros.lab.demo import report
from spec_decode_ros.lab.demo.goal import MissionGoal, MissionResult
from spec_decode_ros.lab.demo.step_judge import JudgedStep
from spec_decode_ros.sim.scene import Scene, SceneObject
from spec_decode_ros.viz.decoded_action import DecodedAction, Piece

GOAL = MissionGoal(Scene((SceneObject("red", "chair", 2.0, 0.0),)), "red chair", "go to the red chair")


def result(text: str, *outcomes: str) -> ActionResult:
    stats = dict.fromkeys(METRICS) | {"ttva_ms": 80.0, "cloud_busy_ms": 10.0, "cloud_passes": 1.0}
    return ActionResult(tuple(range(len(outcomes))), text, True, True, outcomes, stats, ())


class Action:
    def __init__(self, corrected: bool) -> None:
        self.corrected, self.took_ms, self.pose = corrected, 90.0, (0.0, 0.0, 0.0)


class Story:
    """What the report reads of a mission's story."""

    def __init__(self, success: bool = True, collisions: int = 0, finished: bool = True) -> None:
        self.outcome = MissionResult(success, "reached the red chair", 0.45, 3.0) if finished else None
        self.took_s, self.collisions = 14.25, collisions
        self.verified = [Action(False), Action(True), Action(False)]
        self.plan: DecodedAction | None = None


def summary(story: Story, comparison: MethodComparison | None = None) -> dict:
    return report.summary(
        GOAL,
        story,
        comparison,
        settings={"method": "auto", "pair": "tiny", "seed": 3, "rtt_ms": 60.0},
        recorded={"/odom": 5},
        files={"path": "out/path.png"},
    )


def test_a_success_is_reached_without_touching_anything():
    assert summary(Story())["success"] is True
    assert summary(Story(success=False))["success"] is False
    assert summary(Story(finished=False))["success"] is False
    touched = summary(Story(collisions=1))
    assert touched["success"] is False
    assert "touched something" in touched["reason"]


def test_the_summary_is_json_with_the_promised_names():
    results = {"cloud": [result("a", "bonus")], "auto": [result("a", "accepted")]}
    document = json.loads(
        json.dumps(summary(Story(), MethodComparison([Sample(b"", "go", None)], results)), allow_nan=False)
    )
    assert {"success", "method", "rtt_ms", "verified_actions"} <= set(document)
    assert document["method"] == "auto"
    assert document["rtt_ms"] == 60.0
    assert document["verified_actions"] == 3
    assert document["corrected_actions"] == 1
    assert document["mission_ttva_ms"]["median"] == 90.0
    assert document["identical_answers"] == document["compared_frames"] == 1
    for method in ("cloud", "auto"):
        assert set(document["methods"][method]) == {*METRICS, "capacity"}
        assert document["methods"][method]["ttva_ms"]["median"] == 80.0


@pytest.mark.parametrize("success", [True, False])
def test_the_printed_table_has_every_number_and_every_file(success: bool):
    results = {"cloud": [result("a", "bonus")], "auto": [result("a", "accepted")]}
    comparison = MethodComparison([Sample(b"", "go", None)], results)
    out = io.StringIO()
    report.print_summary(Console(file=out, width=120), summary(Story(success), comparison), comparison)
    printed = out.getvalue()
    assert ("SUCCESS" in printed) is success
    assert ("FAILED" in printed) is not success
    for label in report._LABELS.values():
        assert label in printed
    assert "out/path.png" in printed


def test_a_plan_is_told_with_its_tokens_and_steps():
    assert summary(Story())["plan"] is None
    story = Story(success=False)
    pieces = (Piece("go to the red chair", "accepted"), Piece("; sit down", "recovered"))
    story.plan = DecodedAction("over to that crimson seat and lie down", pieces, "verified")
    steps = (
        JudgedStep("go to the red chair", "done", True, "reached the red chair", 10.0, 18.0),
        JudgedStep("sit down", "done", False, "stands", 18.0, 21.0),
    )
    story.outcome = MissionResult(False, "sit down: stands", steps=steps)
    document = json.loads(json.dumps(summary(story), allow_nan=False))
    assert document["plan"]["text"] == "go to the red chair; sit down"
    assert document["plan"]["pieces"][1] == ["; sit down", "recovered"]
    assert [step["success"] for step in document["plan"]["steps"]] == [True, False]
    assert document["distance_m"] is None
    out = io.StringIO()
    report.print_summary(Console(file=out, width=120), document, None)
    for words in ("FAILED", "1. go to the red chair: reached the red chair, 8.0 s", "2. sit down: stands"):
        assert words in out.getvalue()
    assert "tokens: go to the red chair; sit down" in out.getvalue()


def test_a_picture_shows_the_sentence_and_the_step_that_runs():
    assert report.shown_instruction(GOAL, "go to the red chair") == "go to the red chair"
    assert report.shown_instruction(GOAL, "sit down") == "go to the red chair » sit down"


def test_without_a_single_action_there_is_still_a_summary():
    story = Story(finished=False)
    story.verified = []
    document = summary(story)
    assert document["verified_actions"] == 0
    assert document["mission_ttva_ms"] is None
    out = io.StringIO()
    report.print_summary(Console(file=out, width=120), document, None)
    assert "FAILED" in out.getvalue()


def test_the_telling_frame_walks_to_the_target_with_mixed_outcomes():
    results = [
        result("vx 0.0 wz 0.8 | searching 40", "accepted", "bonus", "recovered"),
        result("vx 0.4 wz 0.0 | red chair ahead 2.0", "accepted", "accepted"),
        result("vx 0.4 wz 0.2 | red chair left 1.5", "accepted", "recovered"),
        result("vx 0.0 wz 0.0 | red chair reached", "accepted", "recovered", "bonus"),
    ]
    assert report.most_telling(results, "red chair") == 2


def test_the_answer_is_cut_into_its_tokens():
    words = ["vx", " 0.4", "", " |"]
    decided = result("vx 0.4 |", "accepted", "recovered", "bonus", "bonus")
    overlay = report.overlay_of(
        "go on", decided, lambda tokens: "".join(words[token] for token in tokens), "96 ms"
    )
    assert (overlay.vx, overlay.status) == (0.0, "96 ms"), "the text is cut off, so nothing moves"
    assert [(piece.text, piece.outcome) for piece in overlay.pieces] == [
        ("vx", "accepted"),
        (" 0.4", "recovered"),
        (" |", "bonus"),
    ]
