"""A folder of lessons: what a target answered, and what else it might have said, in files of a few hundred answers.

Answers are written by several processes and may be cut off at any time: what is in a finished file is never made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training.teacher import Lesson

A_FILE = 128
"""Lessons in one file."""


def save(folder: Path, lessons: Iterable[Lesson]) -> Iterator[int]:
    """Write lessons as they come; yields the number of answer tokens of each lesson, once it is in a file."""
    waiting: list[Lesson] = []
    for lesson in lessons:
        waiting.append(lesson)
        if len(waiting) == A_FILE:
            _write(folder, waiting)
            yield from (len(done.tokens) - done.start for done in waiting)
            waiting = []
    if waiting:
        _write(folder, waiting)
        yield from (len(done.tokens) - done.start for done in waiting)


def load(folder: Path) -> list[Lesson]:
    """All lessons of a folder, by index. Raises SpecDecodeError if a file is damaged."""
    lessons = [lesson for file in sorted(folder.glob("*.safetensors")) for lesson in _read(file)]
    return sorted(lessons, key=lambda lesson: lesson.index)


def indices(folder: Path) -> set[int]:
    """Indices of the lessons that a folder has."""
    return {index for file in folder.glob("*.safetensors") for index in _indices(file)}


def _write(folder: Path, lessons: list[Lesson]) -> None:
    tensors = {
        "index": torch.tensor([lesson.index for lesson in lessons]),
        "length": torch.tensor([len(lesson.tokens) for lesson in lessons]),
        "start": torch.tensor([lesson.start for lesson in lessons]),
        "first": torch.tensor([lesson.first for lesson in lessons]),
        "tokens": torch.cat([lesson.tokens for lesson in lessons]).int(),
        "choices": torch.cat([lesson.choices for lesson in lessons]).int(),
        "chances": torch.cat([lesson.chances for lesson in lessons]).half(),
    }
    file = folder / f"lessons-{lessons[0].index:06d}-{os.getpid()}.safetensors"
    unfinished = file.with_suffix(".part")
    save_file(tensors, unfinished)
    unfinished.replace(file)


def _indices(file: Path) -> list[int]:
    try:
        with safe_open(file, "pt") as stored:
            return stored.get_tensor("index").tolist()
    except (OSError, SafetensorError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> SpecDecodeError:
    return SpecDecodeError(f"The lessons in {file} cannot be read ({error}): delete the file.")


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise _unreadable(file, error) from error


def _read(file: Path) -> Iterator[Lesson]:
    tensors = _tensors(file)
    lengths, firsts = tensors["length"].tolist(), tensors["first"].tolist()
    texts = tensors["tokens"].long().split(lengths)
    # The last token of a text has nothing behind it.
    noted = [length - 1 - first for length, first in zip(lengths, firsts, strict=True)]
    rows = zip(
        tensors["index"].tolist(),
        texts,
        tensors["start"].tolist(),
        firsts,
        tensors["choices"].split(noted),
        tensors["chances"].split(noted),
        strict=True,
    )
    for index, text, start, first, choices, chances in rows:
        yield Lesson(index, text, start, first, choices, chances)
