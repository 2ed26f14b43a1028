"""Recorded drafts are the draft model's, and a recorded drafter is one as far as a robot can tell."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet.recording import (
    DraftRecording,
    RecordedDrafter,
    load_recording,
    record_pair,
)
from spec_decode_ros.models.interfaces import GREEDY, Drafter
from spec_decode_ros.models.pair import load_drafter
from spec_decode_ros.models.pair_config import load_pair_config


@pytest.fixture(scope="module")
def recording() -> DraftRecording:
    return record_pair("tiny", 3, 7000)


def test_it_says_what_the_draft_model_says(recording: DraftRecording) -> None:
    model, played = load_drafter(load_pair_config("tiny")), RecordedDrafter(recording)
    assert isinstance(played, Drafter)
    assert (played.eos_ids, played.vocabulary) == (model.eos_ids, model.vocabulary)
    for frame in recording.frames:
        assert frame.answer[-1] in model.eos_ids
        real, again = model.open(frame.prompt, [frame.jpeg]), played.open(frame.prompt, [frame.jpeg])
        for length in range(len(frame.answer)):
            prefix = frame.answer[:length]
            for one, other in itertools.zip_longest(real.draft(prefix, GREEDY), again.draft(prefix, GREEDY)):
                assert one == other
                (token, weight), (recorded, recorded_weight) = real.runner_up, again.runner_up
                assert token == recorded and weight == pytest.approx(recorded_weight, abs=1e-4)
            assert played.decode(prefix) == model.decode(prefix)
        real.close()
    assert played.decode(played.encode(model.decode(frame.answer))) == model.decode(frame.answer)


def test_what_was_not_recorded_yields_nothing(recording: DraftRecording) -> None:
    drafter = RecordedDrafter(recording)
    frame = recording.frames[0]
    session = drafter.open(frame.prompt, [frame.jpeg])
    assert list(session.draft((*frame.answer[:2], 0, 0), GREEDY)) == []
    assert list(drafter.open("another wish", [frame.jpeg]).draft((), GREEDY)) == []
    assert drafter.decode((*frame.answer[:2], 0)) == drafter.decode(frame.answer[:2])
    with pytest.raises(SpecDecodeError, match="does not know"):
        drafter.encode("never said")
    with pytest.raises(SpecDecodeError, match="greedy"):
        next(session.draft((), Sampling(1.0)))
    with pytest.raises(SpecDecodeError, match="distributions"):
        session.draft_sampled((), GREEDY)


def test_time_passes_as_with_the_model_but_not_the_processors(recording: DraftRecording) -> None:
    frame = recording.frames[0]
    session = RecordedDrafter(recording).open(frame.prompt, [frame.jpeg])
    start, used = time.perf_counter(), time.thread_time()
    tokens = list(session.draft((), GREEDY))
    took_ms = (time.perf_counter() - start) * 1e3
    assert took_ms >= recording.prefill_ms + (len(tokens) - 1) * recording.token_ms - 0.1
    assert (time.thread_time() - used) * 1e3 < took_ms
    newer = session.draft(frame.answer[:1], GREEDY)
    older = session.draft((), GREEDY)
    next(older)
    assert list(newer) == [], "a new draft ends the one before"


def test_a_recording_survives_its_file(recording: DraftRecording, tmp_path: Path) -> None:
    recording.save(tmp_path / "r.json")
    assert load_recording(tmp_path / "r.json") == recording
    assert 0.5 < recording.acceptance <= 1.0
    (tmp_path / "other.json").write_text("{}")
    for name, sentence in (("other.json", "is no recording"), ("none.json", "cannot read")):
        with pytest.raises(SpecDecodeError, match=sentence):
            load_recording(tmp_path / name)
