"""What the small pair is asked: descriptions that are clear, sentences that fit, mirrors that mean the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from stand_in import make_language

from spec_decode_ros.actions.action import format_action, parse_action
from spec_decode_ros.actions.commands import Command
from spec_decode_ros.lab.training import dataset
from spec_decode_ros.lab.training.described import description, draw_spoken
from spec_decode_ros.lab.training.frames import COMBINATIONS, Example, Question, examples, look
from spec_decode_ros.lab.training.smolvlm import SETTING, Language, frequent
from spec_decode_ros.sim.expert import decide
from spec_decode_ros.sim.referring import is_clear
from spec_decode_ros.sim.scene import random_scene
from spec_decode_ros.sim.stage import Stage


@pytest.fixture(scope="module")
def made() -> list[Example]:
    return list(examples(5, 40, setting=SETTING))


def test_pictures_and_cells_have_the_small_pairs_sizes(made: list[Example]) -> None:
    for one in made:
        assert one.frame.shape == (192, 192, 3) and one.frame.dtype == np.uint8
        assert one.presence.shape == (64,) and one.place.shape == (64, 2)
    assert sum(bool(one.presence.any()) for one in made) > 30


def test_questions_are_of_every_sort_and_answers_are_actions(made: list[Example]) -> None:
    questions = [question for one in made for question in one.questions]
    kinds = Counter(question.command.kind for question in questions)
    assert kinds["goto"] > 0.6 * len(questions) and len(kinds) >= 5, kinds
    relations = {question.command.relation for question in questions}
    assert len(relations) >= 5, relations
    for question in questions:
        assert parse_action(format_action(question.answer)).note == question.answer.note
    notes = {question.answer.note for question in questions if question.command.kind == "refuse"}
    assert notes <= {"refused"}


def test_descriptions_are_clear() -> None:
    rng, stage = np.random.default_rng(2), Stage()
    found = 0
    for _ in range(12):
        scene = random_scene(rng)
        stage.lay_out(scene)
        view = look(stage, scene.start, rng, SETTING)
        assert len(draw_spoken(scene, 0, view, rng)) == 4
        command = description(scene, view, rng)
        if command is not None:
            found += 1
            assert command.relation and not command.color
            assert is_clear(command, scene, view.pose, view.visible)
            answer = decide(command, scene, view.pose, view.visible, None)
            assert answer.note.startswith("searching") or " ".join(answer.note.split()[:2]) in COMBINATIONS
    assert found >= 8


def test_a_side_changes_in_the_mirror_and_nothing_else_does() -> None:
    command = Command("goto", "", "box", relation="left of", other="blue ball")
    question = Question(command, "go to the box on the left of the blue ball", None, None)  # type: ignore[arg-type]
    assert dataset.mirrored_instruction(question) == "go to the box on the right of the blue ball"
    turn = Question(Command("turn", amount=90), "turn left", None, None)  # type: ignore[arg-type]
    assert dataset.mirrored_instruction(turn) == "turn left"


def test_written_examples_say_what_was_asked(
    tmp_path: Path, made: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Language(str(make_language(tmp_path / "language"))).layout()
    for name, (dtype, shape) in layout.shapes.items():
        np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", dtype, (len(made), *shape)).flush()
    dataset._write_part(tmp_path, 0, len(made), 5, lambda seed, count: made, layout)
    data, tokenizer = dataset.load(tmp_path, layout), layout.tokenizer()
    assert data.named is not None and data.sought is not None and data.until_bar is not None
    for i, one in enumerate(made):
        for q, question in enumerate(one.questions):
            ids = data.answers[i, 0, q]
            assert tokenizer.decode(ids[ids != 0]) == format_action(question.answer) + " <|im_end|>"
            assert data.until_bar[i, 0, q] == 4
            name = COMBINATIONS[data.named[i, q]] if data.named[i, q] >= 0 else ""
            assert question.answer.note.startswith(name)
            assert bool(name) == any(question.answer.note.startswith(each) for each in COMBINATIONS)
            assert data.sought[i, q] == (
                question.answer.note.startswith("searching") or "found" in question.answer.note
            )


def test_the_drafts_table_has_every_token_that_is_used() -> None:
    import torch

    used = torch.tensor([900, 3, 3, 500])
    kept = frequent(used, 100)
    assert len(kept) == 100 and torch.equal(kept, kept.unique())
    assert {3, 500, 900} <= set(kept.tolist()) and set(kept.tolist()) - {3, 500, 900} <= set(range(110))
    with pytest.raises(ValueError, match="more than the draft's table"):
        frequent(torch.arange(101), 100)
