"""Messages on action/tokens are read as they were written, and anything else is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.viz.decoded_action import MAX_BYTES, DecodedAction, DecodedActionError, Piece, pieces_of

TEXTS = st.text(max_size=20)
ACTIONS = st.builds(
    DecodedAction,
    TEXTS,
    st.lists(st.builds(Piece, TEXTS, st.sampled_from(["accepted", "recovered", "bonus"])), max_size=4).map(
        tuple
    ),
    st.sampled_from(["draft", "verified", "unverified"]),
    TEXTS,
)


@given(ACTIONS)
def test_it_reads_what_it_writes(decoded):
    assert DecodedAction.from_json(decoded.to_json()) == decoded


def test_an_action_in_progress_has_a_committed_part_and_a_draft():
    decoded = DecodedAction.in_progress("go", "vx 0.4 ", "vx 0.4 wz 0.1")
    assert decoded.pieces == (Piece("vx 0.4 ", "committed"), Piece("wz 0.1", "draft"))
    assert decoded.state == "draft"
    assert decoded.text == "vx 0.4 wz 0.1"


def test_a_draft_that_was_refuted_leaves_only_what_is_final():
    assert DecodedAction.in_progress("go", "vx 0.4", "vx 0.6 wz").text == "vx 0.4"


def test_a_text_is_cut_into_its_tokens_and_space_joins_the_next_one():
    texts = ("vx", " 0.4", "", " ", "| red")
    pieces = pieces_of(
        lambda tokens: "".join(texts[t] for t in tokens), range(5), ["accepted"] * 4 + ["bonus"]
    )
    assert pieces == (Piece("vx", "accepted"), Piece(" 0.4", "accepted"), Piece(" | red", "bonus"))


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
    with pytest.raises(DecodedActionError) as error:
        DecodedAction.from_json(message)
    assert len(str(error.value)) < 300
