"""The batched teacher says what the model says alone, and its files keep all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from questions import LENGTH, PROMPTS

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training import teacher_data as files
from spec_decode_ros.lab.training.asking import Questions, ask, preamble
from spec_decode_ros.lab.training.teacher import Teacher, TeacherExample, TeacherPrompt
from spec_decode_ros.models.hf_model import HfModel
from spec_decode_ros.models.verifier import HfVerifier


@torch.no_grad()
def test_likeliest_tokens_are_the_models_own(target: HfModel, examples: list[TeacherExample]) -> None:
    assert [example.index for example in examples] == [0, 1, 2, 3]
    for example in examples:
        logits = target.model(input_ids=example.tokens[None]).logits[0, example.first : -1]
        expected = logits[:, : target.text.size].log_softmax(dim=-1)
        assert torch.allclose(expected.gather(1, example.top_tokens), example.top_logprobs, atol=1e-4)
        assert torch.equal(expected.argmax(dim=-1), example.top_tokens[:, 0])


def test_greedy_answers_are_the_targets(target: HfModel, examples: list[TeacherExample]) -> None:
    verifier = HfVerifier(target)
    for example, prompt in zip(examples, PROMPTS, strict=True):
        session = verifier.prepare(prompt)
        answer: list[int] = []
        while len(answer) < LENGTH and not (answer and answer[-1] in verifier.eos_ids):
            answer += session.verify(answer, (), Sampling())
        assert example.tokens[example.start :].tolist() == answer


def test_sampled_answers_are_of_the_likeliest_tokens(target: HfModel, requests: list[TeacherPrompt]) -> None:
    teacher = Teacher(target.model, preamble(target.text), rows=4, length=64, top=5, dtype=torch.float32)
    warm = [TeacherPrompt(request.index, request.prompt, 3.0, LENGTH) for request in requests]
    torch.manual_seed(0)
    first = list(teacher.answer(iter(warm)))
    for example in first:
        said = example.tokens[example.start :]
        rows = example.top_tokens[example.start - 1 - example.first :]
        assert (rows == said[:, None]).any(dim=1).all()
    assert any((example.top_tokens[:, 0] != example.tokens[example.first + 1 :]).any() for example in first)


def test_what_does_not_begin_alike_or_does_not_fit(target: HfModel, requests: list[TeacherPrompt]) -> None:
    teacher = Teacher(target.model, preamble(target.text), rows=2, length=20, top=5, dtype=torch.float32)
    long = TeacherPrompt(9, requests[0].prompt * 3, 0.0, 4)
    with pytest.raises(SpecDecodeError, match="begin with the preamble"):
        list(teacher.answer(iter([TeacherPrompt(1, (7, 7, 7), 0.0, 4)])))
    short = TeacherPrompt(2, requests[1].prompt[: len(preamble(target.text)) + 2], 0.0, 4)
    assert [example.index for example in teacher.answer(iter([long, short]))] == [2]


def test_files_keep_everything(examples: list[TeacherExample], tmp_path: Path) -> None:
    counts = list(files.save(tmp_path, iter(reversed(examples))))
    assert sum(counts) == sum(len(example.tokens) - example.start for example in examples)
    assert files.indices(tmp_path) == {0, 1, 2, 3}
    for example, again in zip(examples, files.load(tmp_path), strict=True):
        assert (example.index, example.start, example.first) == (again.index, again.start, again.first)
        assert torch.equal(example.tokens, again.tokens)
        assert torch.equal(example.top_tokens, again.top_tokens)
        assert torch.allclose(example.top_logprobs, again.top_logprobs.float(), atol=0.01)


def test_examples_are_in_files_before_the_last_is_made(
    examples: list[TeacherExample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "EXAMPLES_PER_FILE", 2)

    def breaking_off() -> Iterator[TeacherExample]:
        yield from examples[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(files.save(tmp_path, breaking_off()))
    assert files.indices(tmp_path) == {0, 1}


def test_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "teacher-000000-1.safetensors").write_bytes(b"nothing")
    with pytest.raises(
        SpecDecodeError, match=r"teacher-000000-1\.safetensors cannot be read.*delete the file"
    ):
        files.load(tmp_path)
    with pytest.raises(SpecDecodeError, match="delete the file"):
        files.indices(tmp_path)


def test_only_what_is_missing_is_asked_and_in_another_process(
    pair_file: Path, examples: list[TeacherExample], tmp_path: Path
) -> None:
    list(files.save(tmp_path, iter(examples[:2])))
    told: list[tuple[int, int]] = []
    questions = Questions(str(pair_file), PROMPTS, length=LENGTH, rows=4)
    found = ask(questions, tmp_path, 1, lambda done, total: told.append((done, total)))
    assert [example.index for example in found] == [0, 1, 2, 3]
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    assert told[-1] == (4, 4)
    for mine, theirs in zip(examples, found, strict=True):
        assert (len(mine.tokens), mine.start, mine.first) == (len(theirs.tokens), theirs.start, theirs.first)
    before = len(told)
    ask(questions, tmp_path, 1, lambda done, total: told.append((done, total)))
    assert len(told) == before
