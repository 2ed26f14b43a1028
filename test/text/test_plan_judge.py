"""The judge of plans, and `spec-decode plan --sentences`: what is right, what stood still, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spec_decode_ros.actions.plan import parse_plan
from spec_decode_ros.cli import main
from spec_decode_ros.edge.planner import Planned
from spec_decode_ros.edge.runtime import ActionResult
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.plan_judge import ExpectedPlan, judge, read_expected

SENTENCES = """# A comment.
Have a seat. => sit down
See the red chair => then lie down. => go to the red chair; sit down

freeze! => stop
bite him => refused
over by the => not understood
"""


def planned(text: str, is_plan: bool = True) -> Planned:
    result = ActionResult((1, 2), text, True, True, ("accepted",) * 2, {"ttva_ms": 5.0}, ())
    return Planned("said", result, parse_plan(text) if is_plan else None, "" if is_plan else "no plan")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text(SENTENCES)
    return path


def test_a_file_of_sentences_is_read(file: Path) -> None:
    expected = read_expected(file)
    assert [wanted.kind for wanted in expected] == ["1 step", "2 steps", "stop", "refused", "not understood"]
    assert expected[1].sentence == "See the red chair => then lie down."
    assert expected[1].plan.text == "go to the red chair; sit down"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no sentence"),
        ("# nothing but a comment", "has no sentence"),
        ("sit down", "not of the form"),
        ("=> sit down", "not of the form"),
        ("sit => down", "is not a plan"),
        ("sit => ", "not of the form"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "other.txt"
    with pytest.raises(SpecDecodeError, match="cannot read the sentences"):
        read_expected(file)
    file.write_text(text)
    with pytest.raises(SpecDecodeError, match=reason):
        read_expected(file)


@pytest.mark.parametrize(
    ("expected", "given", "right"),
    [
        ("go to the red chair; sit down", "go to the red chair; sit down", True),
        ("go to the red chair; sit down", "sit down; go to the red chair", False),
        ("go to the red chair; sit down", "go to the red chair", False),
        ("go to the red chair", "go to the red chair; sit down", False),
        ("turn left 90 degrees", "turn left 45 degrees", False),
        ("turn left 90 degrees", "turn right 90 degrees", False),
        ("walk back 0.5 metres", "walk back 0.50 metres", None),
        ("sit down", "stop", False),
        ("stop", "stop", True),
        ("stop", "refused: it would do harm", False),
        ("refused", "refused: it would do harm", True),
        ("refused", "not understood", False),
        ("not understood", "not understood: nothing to do", True),
        ("not understood", "sit down", False),
    ],
)
def test_a_plan_is_right_in_every_step_or_not(expected: str, given: str, right: bool | None) -> None:
    """None stands for a text that is no plan."""
    plan = planned(given, is_plan=right is not None).plan
    assert ExpectedPlan("said", parse_plan(expected)).is_met_by(plan) is bool(right)


def test_shares_are_counted_by_kind_and_motion_apart(file: Path) -> None:
    expected = read_expected(file)
    texts = ["sit down", "go to the red ball; sit down", "refused", "go to the red chair"]
    document = judge(expected, [*map(planned, texts), planned("vx 0.4", is_plan=False)])
    assert (document["sentences"], document["right"], document["right_share"]) == (5, 1, 0.2)
    assert list(document["by_kind"]) == ["1 step", "2 steps", "not understood", "refused", "stop"]
    assert document["by_kind"]["1 step"] == {"sentences": 1, "right": 1, "right_share": 1.0}
    assert document["by_kind"]["2 steps"]["right"] == 0
    assert document["must_not_move"] == {"sentences": 3, "still": 2, "still_share": 2 / 3}
    wrong = [row["sentence"] for row in document["rows"] if not row["right"]]
    assert wrong == [wanted.sentence for wanted in expected[1:]]
    assert document["rows"][4]["problem"] == "no plan"
    json.dumps(document, allow_nan=False)


def test_without_sentences_that_must_not_move_there_is_no_share() -> None:
    expected = [ExpectedPlan("sit", parse_plan("sit down"))]
    assert judge(expected, [planned("sit down")])["must_not_move"]["still_share"] is None


def test_a_file_is_planned_over_a_real_verifier(
    pair_file: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a pair with random weights, which writes no plan: nothing is right, and nothing moves."""
    made = tmp_path / "plans.json"
    arguments = ["--planner", str(pair_file), "--sentences", str(file), "--limit", "3", "--method", "sync"]
    assert main(["plan", *arguments, "--json", str(made)]) == 1
    said = capsys.readouterr().out
    assert "wrong: freeze!" in said and "expected 'stop', not" in said
    assert "without motion: 1 of 1" in said
    document = json.loads(made.read_text())
    assert (document["sentences"], document["right"], document["method"]) == (3, 0, "sync")
    assert document["spread"]["ttva_ms"]["median"] > 0
    assert 0 <= document["spread"]["acceptance_rate"]["median"] <= 1
    assert all(row["problem"] and row["stats"]["ttva_ms"] > 0 for row in document["rows"])


def test_a_limit_without_a_file_and_a_file_beside_a_sentence_are_refused(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--instruction", "sit", "--limit", "3"]) == 2
    assert "--limit goes with --sentences" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["plan", "--instruction", "sit", "--sentences", str(file)])
