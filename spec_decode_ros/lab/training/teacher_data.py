"""Teacher data on disk: a target's answers and the likeliest tokens at each position, in files of a few hundred answers.

Several processes write them, and a run may be interrupted at any time: answers in a finished file are not made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training.teacher import TeacherExample

EXAMPLES_PER_FILE = 128


def save(folder: Path, examples: Iterable[TeacherExample]) -> Iterator[int]:
    """Write examples as they come; yields the number of answer tokens of each example once it is in a file."""
    waiting: list[TeacherExample] = []
    for example in examples:
        waiting.append(example)
        if len(waiting) == EXAMPLES_PER_FILE:
            yield from _write(folder, waiting)
            waiting = []
    if waiting:
        yield from _write(folder, waiting)


def load(folder: Path) -> list[TeacherExample]:
    """All examples of a folder, by index. Raises SpecDecodeError if a file is damaged."""
    examples = [example for file in _files(folder) for example in _read(file)]
    return sorted(examples, key=lambda example: example.index)


def indices(folder: Path) -> set[int]:
    """Indices of the examples in a folder. Raises SpecDecodeError if a file is damaged."""
    return {index for file in _files(folder) for index in _indices(file)}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("teacher-*.safetensors"))


def _write(folder: Path, examples: list[TeacherExample]) -> list[int]:
    """Write one file; returns the number of answer tokens of each example."""
    tensors = {
        "index": torch.tensor([example.index for example in examples]),
        "length": torch.tensor([len(example.tokens) for example in examples]),
        "start": torch.tensor([example.start for example in examples]),
        "first": torch.tensor([example.first for example in examples]),
        "tokens": torch.cat([example.tokens for example in examples]).int(),
        "top_tokens": torch.cat([example.top_tokens for example in examples]).int(),
        "top_logprobs": torch.cat([example.top_logprobs for example in examples]).half(),
    }
    file = folder / f"teacher-{examples[0].index:06d}-{os.getpid()}.safetensors"
    unfinished = file.with_suffix(".part")
    save_file(tensors, unfinished)
    unfinished.replace(file)
    return [len(example.tokens) - example.start for example in examples]


def _indices(file: Path) -> list[int]:
    try:
        with safe_open(file, "pt") as stored:
            return stored.get_tensor("index").tolist()
    except (OSError, SafetensorError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> SpecDecodeError:
    return SpecDecodeError(f"The teacher data in {file} cannot be read ({error}): delete the file.")


def _read(file: Path) -> Iterator[TeacherExample]:
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise _unreadable(file, error) from error
    lengths, firsts = tensors["length"].tolist(), tensors["first"].tolist()
    texts = tensors["tokens"].long().split(lengths)
    # Nothing follows the last token of a text.
    predicted = [length - 1 - first for length, first in zip(lengths, firsts, strict=True)]
    rows = zip(
        tensors["index"].tolist(),
        texts,
        tensors["start"].tolist(),
        firsts,
        tensors["top_tokens"].split(predicted),
        tensors["top_logprobs"].split(predicted),
        strict=True,
    )
    for row in rows:
        yield TeacherExample(*row)
