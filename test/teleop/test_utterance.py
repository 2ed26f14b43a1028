"""What travels on action/tokens comes back as it was, and nothing else comes in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.viz.utterance import MAX_BYTES, Piece, Utterance, UtteranceError

TEXTS = st.text(max_size=20)
UTTERANCES = st.builds(
    Utterance,
    TEXTS,
    st.lists(st.builds(Piece, TEXTS, st.sampled_from(["accepted", "recovered", "bonus"])), max_size=4).map(
        tuple
    ),
    st.sampled_from(["draft", "verified", "unverified"]),
    TEXTS,
)


@given(UTTERANCES)
def test_an_utterance_survives_its_journey(utterance):
    assert Utterance.from_json(utterance.to_json()) == utterance


def test_an_action_in_the_making_has_a_part_that_is_final_and_one_that_is_not():
    utterance = Utterance.in_progress("go", "vx 0.4 ", "vx 0.4 wz 0.1")
    assert utterance.pieces == (Piece("vx 0.4 ", "committed"), Piece("wz 0.1", "draft"))
    assert utterance.state == "draft"
    assert utterance.text == "vx 0.4 wz 0.1"


def test_a_draft_that_was_refuted_leaves_only_what_is_final():
    assert Utterance.in_progress("go", "vx 0.4", "vx 0.6 wz").text == "vx 0.4"


@pytest.mark.parametrize(
    "message",
    [
        "",
        "vx 0.4",
        "[]",
        "null",
        "{}",
        '{"state": "surely", "pieces": []}',
        '{"state": ["verified"], "pieces": []}',
        '{"state": "verified"}',
        '{"state": "verified", "pieces": {}}',
        '{"state": "verified", "pieces": [["a"]]}',
        '{"state": "verified", "pieces": [["a", 1]]}',
        '{"state": "verified", "pieces": [], "command": 7}',
        '{"state": "verified", "pieces": [], "problem": null}',
        "[" * 50_000,
        json.dumps({"state": "verified", "pieces": [["x" * MAX_BYTES, "bonus"]]}),
    ],
)
def test_anything_else_is_an_error_in_one_sentence(message):
    with pytest.raises(UtteranceError) as error:
        Utterance.from_json(message)
    assert len(str(error.value)) < 300
