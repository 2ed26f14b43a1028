"""When a replay is the same as the recording, and when it is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bags import recording
from rich.console import Console

from spec_decode_ros.actions.prompt import build_prompt
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.replay import compare as c
from spec_decode_ros.replay.moments import moments_of
from spec_decode_ros.replay.play import Played
from spec_decode_ros.replay.report import as_document, print_report

GO = "go to the red chair, it costs $5 or $6 [red]"
TEXTS = [f"vx 0.4 wz 0.{index} | red chair left 2.0" for index in range(4)]
STAMPS = [1.0, 1.3, 1.6, 1.9]
BAG = recording(
    frames=STAMPS,
    commands=[(0.9, GO)],
    verified=[(stamp + 0.1, stamp, 0.4, index / 10) for index, stamp in enumerate(STAMPS)],
    texts=[(stamp + 0.11, text) for stamp, text in zip(STAMPS, TEXTS, strict=True)],
)
MOMENTS = moments_of(BAG)
SAME = [
    Played(
        moment.stamp, GO, build_prompt(GO, moment.last_action), moment.recorded.text, True, {"ttva_ms": 50.0}
    )
    for moment in MOMENTS
]


def said(index: int, text: str) -> list[Played]:
    return [replace(one, text=text) if place == index else one for place, one in enumerate(SAME)]


def test_the_same_texts_pass():
    result = c.compare(BAG, MOMENTS, SAME)
    assert (result.passed, result.compared, result.differences, result.not_compared) == (True, 4, 0, {})
    assert result.latency_ms == (pytest.approx(100.0), 50.0)
    assert result.largest == (0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "tolerance", "passed"),
    [
        ("vx 0.4 wz 0.1 | red chair left 1.5", c.Tolerance(), False),
        ("vx 0.4 wz 0.1 | red chair left 1.5", c.Tolerance(velocity=0.0), True),
        ("vx 0.2 wz 0.1 | red chair left 2.0", c.Tolerance(velocity=0.2), True),
        ("vx 0.2 wz 0.1 | red chair left 2.0", c.Tolerance(velocity=0.19), False),
        ("vx 0.4 wz -0.2 | red chair left 2.0", c.Tolerance(velocity=0.2), False),
        ("vx 0.4 | no action", c.Tolerance(velocity=9.0), False),
        ("vx 0.4 | no action", c.Tolerance(differences=1), True),
    ],
)
def test_what_is_allowed_passes_and_no_more(text: str, tolerance: c.Tolerance, passed: bool):
    result = c.compare(BAG, MOMENTS, said(1, text), tolerance)
    assert result.passed is passed
    assert bool(result.failures) is not passed


def test_latency_is_a_failure_only_if_it_is_asked_for():
    slow = [replace(one, stats={"ttva_ms": 500.0}) for one in SAME]
    assert c.compare(BAG, MOMENTS, slow).passed
    assert c.compare(BAG, MOMENTS, slow, c.Tolerance(latency_ms=400.0)).passed
    assert (
        "median latency is 500 ms" in c.compare(BAG, MOMENTS, slow, c.Tolerance(latency_ms=399.0)).failures[0]
    )


@pytest.mark.parametrize(
    "wrong", [{"velocity": -0.1}, {"velocity": float("nan")}, {"latency_ms": -1}, {"differences": -1}]
)
def test_a_tolerance_is_a_number_from_0_up(wrong):
    with pytest.raises(SpecDecodeError):
        c.Tolerance(**wrong)


def test_other_frames_and_other_prompts_are_counted_apart():
    played = [
        SAME[0],
        replace(SAME[1], prompt="another one", text="vx 0.0 wz 0.0 | stopped"),
        replace(SAME[2], stamp=SAME[2].stamp + 7),
    ]
    result = c.compare(BAG, MOMENTS, played)
    assert (result.compared, result.passed) == (1, True)
    assert result.not_compared == {c.NOT_PLAYED: 2, c.OTHER_PROMPT: 1, c.NOTHING_RECORDED: 1}
    # At full speed the prompt is the replay's own business, and the difference counts.
    assert not c.compare(BAG, MOMENTS, played, same_prompt=False).passed


def test_an_action_whose_prompt_is_not_known_says_nothing():
    moments = [replace(MOMENTS[0], uncertain="lost"), *MOMENTS[1:]]
    result = c.compare(BAG, moments, said(0, "vx 0.0 wz 0.0 | stopped"))
    assert (result.compared, result.passed, result.not_compared) == (3, True, {"lost": 1})


def test_where_only_velocities_were_recorded_they_have_to_be_equal():
    bag = replace(BAG, texts=())
    moments = [replace(moment, uncertain="") for moment in moments_of(bag)]
    assert c.compare(bag, moments, SAME, same_prompt=False).differences == 0
    assert c.compare(bag, moments, said(3, TEXTS[0]), same_prompt=False).differences == 1


def test_the_report_says_what_the_comparison_says(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    result = c.compare(BAG, MOMENTS, said(2, "vx 0.0 wz 0.0 | red [bold]chair reached"))
    document = json.loads(json.dumps(as_document(BAG, result, {"pair": "tiny"}), allow_nan=False))
    assert (document["differences"], document["passed"], document["compared"]) == (1, False, 4)
    assert [row["same"] for row in document["rows"]] == [True, True, False, True]
    assert document["largest_difference"] == {"vx": 0.0, "wz": 0.0}
    print_report(Console(width=160), BAG, result, "a replay")
    printed = capsys.readouterr().out
    assert "1 of 4 actions differ" in printed
    assert "red [bold]chair reached" in printed


def test_the_picture_is_drawn_with_and_without_recorded_actions(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pictures need it")
    from PIL import Image

    from spec_decode_ros.replay.plot import draw_replay

    bare = replace(BAG, texts=(), verified=())
    for name, bag in (("both", BAG), ("bare", bare)):
        moments = moments_of(bag)
        path = draw_replay(
            c.compare(bag, moments, SAME, same_prompt=False), tmp_path / f"{name}.png", "subtitle"
        )
        with Image.open(path) as picture:
            assert picture.width > 1000
