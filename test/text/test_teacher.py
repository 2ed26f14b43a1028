"""The batched teacher says what the model says alone, and files of lessons keep all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from questions import LENGTH, PROMPTS

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training import lessons as files
from spec_decode_ros.lab.training.asking import Questions, ask, preamble
from spec_decode_ros.lab.training.teacher import Lesson, Teacher, TeacherPrompt
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.verifier import HfVerifier


@torch.no_grad()
def test_likeliest_tokens_are_the_models_own(target: HfModel, lessons: list[Lesson]) -> None:
    assert [lesson.index for lesson in lessons] == [0, 1, 2, 3]
    for lesson in lessons:
        logits = target.model(input_ids=lesson.tokens[None]).logits[0, lesson.first : -1]
        expected = logits[:, : target.text.size].log_softmax(dim=-1)
        assert torch.allclose(expected.gather(1, lesson.choices), lesson.chances, atol=1e-4)
        assert torch.equal(expected.argmax(dim=-1), lesson.choices[:, 0])


def test_greedy_answers_are_the_targets(target: HfModel, lessons: list[Lesson]) -> None:
    verifier = HfVerifier(target)
    for lesson, prompt in zip(lessons, PROMPTS, strict=True):
        session = verifier.prepare(prompt)
        answer: list[int] = []
        while len(answer) < LENGTH and not (answer and answer[-1] in verifier.eos_ids):
            answer += session.verify(answer, (), Sampling())
        assert lesson.tokens[lesson.start :].tolist() == answer


def test_sampled_answers_are_of_the_likeliest_tokens(target: HfModel, tasks: list[TeacherPrompt]) -> None:
    teacher = Teacher(target.model, preamble(target.text), rows=4, length=64, top=5, dtype=torch.float32)
    warm = [TeacherPrompt(task.index, task.prompt, 3.0, LENGTH) for task in tasks]
    torch.manual_seed(0)
    first = list(teacher.answer(iter(warm)))
    for lesson in first:
        said = lesson.tokens[lesson.start :]
        rows = lesson.choices[lesson.start - 1 - lesson.first :]
        assert (rows == said[:, None]).any(dim=1).all()
    assert any((lesson.choices[:, 0] != lesson.tokens[lesson.first + 1 :]).any() for lesson in first)


def test_what_does_not_begin_alike_or_does_not_fit(target: HfModel, tasks: list[TeacherPrompt]) -> None:
    teacher = Teacher(target.model, preamble(target.text), rows=2, length=20, top=5, dtype=torch.float32)
    long = TeacherPrompt(9, tasks[0].prompt * 3, 0.0, 4)
    with pytest.raises(SpecDecodeError, match="begin with the preamble"):
        list(teacher.answer(iter([TeacherPrompt(1, (7, 7, 7), 0.0, 4)])))
    short = TeacherPrompt(2, tasks[1].prompt[: len(preamble(target.text)) + 2], 0.0, 4)
    assert [lesson.index for lesson in teacher.answer(iter([long, short]))] == [2]


def test_files_keep_everything(lessons: list[Lesson], tmp_path: Path) -> None:
    counts = list(files.save(tmp_path, iter(reversed(lessons))))
    assert sum(counts) == sum(len(lesson.tokens) - lesson.start for lesson in lessons)
    assert files.indices(tmp_path) == {0, 1, 2, 3}
    for lesson, again in zip(lessons, files.load(tmp_path), strict=True):
        assert (lesson.index, lesson.start, lesson.first) == (again.index, again.start, again.first)
        assert torch.equal(lesson.tokens, again.tokens)
        assert torch.equal(lesson.choices, again.choices)
        assert torch.allclose(lesson.chances, again.chances.float(), atol=0.01)


def test_lessons_are_in_files_before_the_last_is_made(
    lessons: list[Lesson], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "A_FILE", 2)

    def breaking_off() -> Iterator[Lesson]:
        yield from lessons[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(files.save(tmp_path, breaking_off()))
    assert files.indices(tmp_path) == {0, 1}


def test_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "lessons-000000-1.safetensors").write_bytes(b"nothing")
    with pytest.raises(
        SpecDecodeError, match=r"lessons-000000-1\.safetensors cannot be read.*delete the file"
    ):
        files.load(tmp_path)
    with pytest.raises(SpecDecodeError, match="delete the file"):
        files.indices(tmp_path)


def test_only_what_is_missing_is_asked_and_in_another_process(
    pair_file: Path, lessons: list[Lesson], tmp_path: Path
) -> None:
    list(files.save(tmp_path, iter(lessons[:2])))
    told: list[tuple[int, int]] = []
    questions = Questions(str(pair_file), PROMPTS, length=LENGTH, rows=4)
    found = ask(questions, tmp_path, 1, lambda done, total: told.append((done, total)))
    assert [lesson.index for lesson in found] == [0, 1, 2, 3]
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    assert told[-1] == (4, 4)
    for mine, theirs in zip(lessons, found, strict=True):
        assert (len(mine.tokens), mine.start, mine.first) == (len(theirs.tokens), theirs.start, theirs.first)
    before = len(told)
    ask(questions, tmp_path, 1, lambda done, total: told.append((done, total)))
    assert len(told) == before
