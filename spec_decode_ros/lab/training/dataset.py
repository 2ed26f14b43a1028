"""Training data on disk: frames and tokens in memory-mapped arrays, written by several processes."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from spec_decode_ros.actions.action import Action, format_action
from spec_decode_ros.actions.prompt import build_prompt
from spec_decode_ros.lab.training.frames import FRAME_SIZE, GRID, QUESTIONS, Example, Question, examples
from spec_decode_ros.lab.training.processor import build_tokenizer

PROMPT_TOKENS = 40
ANSWER_TOKENS = 12
PAD = 0

_CELLS = GRID[0] * GRID[1]
_ARRAYS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "frames": (np.uint8, (FRAME_SIZE[1], FRAME_SIZE[0], 3)),
    "presence": (np.uint32, (_CELLS,)),
    "place": (np.float16, (_CELLS, 2)),
    "prompts": (np.int16, (2, QUESTIONS, PROMPT_TOKENS)),
    "answers": (np.int16, (2, QUESTIONS, ANSWER_TOKENS)),
}
"""Type and shape of each array for one example."""

Source = Callable[[int, int], Iterable[Example]]
"""Yields examples; called with the seed and the number of examples."""


@dataclass(frozen=True)
class Dataset:
    """Memory-mapped arrays of N examples.

    ``frames`` (N, 96, 192, 3) uint8, ``presence`` (N, 32) uint32, ``place`` (N, 32, 2) float16, ``prompts``
    (N, 2, questions, 40) and ``answers`` (N, 2, questions, 12) int16, padded with 0. The second axis of prompts and answers
    is 0 for the frame itself and 1 for its mirror image.
    """

    frames: np.ndarray
    presence: np.ndarray
    place: np.ndarray
    prompts: np.ndarray
    answers: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)


def mirrored(question: Question) -> tuple[Action | None, Action]:
    """Last action and answer of a question in the mirror image.

    Only the way to an object depends on the frame. A search with no known side turns left in the mirror image too.
    """
    last, answer = question.last, question.answer
    if question.command.kind != "goto":
        return last, answer
    sideless = last is None or (last.wz == 0.0 and not {"left", "right"} & set(last.note.split()))
    if sideless and answer.note.startswith("searching"):
        return last, answer
    return (None if last is None else _flip(last)), _flip(answer)


def _flip(action: Action) -> Action:
    swap = {"left": "right", "right": "left"}
    return Action(action.vx, -action.wz + 0.0, " ".join(swap.get(w, w) for w in action.note.split()))


def prompt_tokens(tokenizer: PreTrainedTokenizerFast, instruction: str, last: Action | None) -> np.ndarray:
    """Token ids of a prompt after the image, padded to (40,) int16."""
    prompt = build_prompt(instruction, format_action(last) if last else None)
    return _padded(tokenizer, prompt + "<answer>", PROMPT_TOKENS)


def answer_tokens(tokenizer: PreTrainedTokenizerFast, answer: Action) -> np.ndarray:
    """Token ids of an answer with its end token, padded to (12,) int16."""
    return _padded(tokenizer, format_action(answer) + "<end>", ANSWER_TOKENS)


def _padded(tokenizer: PreTrainedTokenizerFast, text: str, length: int) -> np.ndarray:
    ids = tokenizer(text, truncation=True, max_length=length).input_ids
    return np.pad(np.array(ids, np.int16), (0, length - len(ids)))


def _write_part(folder: Path, start: int, count: int, seed: int, source: Source) -> int:
    tokenizer = build_tokenizer()
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in _ARRAYS}
    for i, example in enumerate(source(seed, count), start):
        arrays["frames"][i] = example.frame
        arrays["presence"][i] = example.presence
        arrays["place"][i] = example.place
        for q, question in enumerate(example.questions):
            for side, (last, answer) in enumerate(((question.last, question.answer), mirrored(question))):
                arrays["prompts"][i, side, q] = prompt_tokens(tokenizer, question.instruction, last)
                arrays["answers"][i, side, q] = answer_tokens(tokenizer, answer)
    for array in arrays.values():
        array.flush()
    return count


def make(
    folder: Path,
    count: int,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    source: Source = examples,
    name: str = "random poses",
) -> Dataset:
    """Write ``count`` examples to ``folder``, or reuse those that an earlier call with the same arguments wrote.

    Args:
        source: yields the examples; called in other processes with a seed and a count.
        name: of the source; examples from a source of another name are not reused.
    """
    recipe = {"count": count, "seed": seed, "source": name}
    stamp = folder / "recipe.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != recipe:
        folder.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        for array, (dtype, shape) in _ARRAYS.items():
            np.lib.format.open_memmap(folder / f"{array}.npy", "w+", dtype, (count, *shape)).flush()
        part = 1000
        # OpenGL contexts do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            jobs = [
                pool.submit(
                    _write_part, folder, start, min(part, count - start), seed * 1_000_003 + start, source
                )
                for start in range(0, count, part)
            ]
            done = 0
            for job in as_completed(jobs):
                done += job.result()
                progress(done, count)
        stamp.write_text(json.dumps(recipe))
    return load(folder)


def load(folder: Path) -> Dataset:
    """Open a dataset that :func:`make` wrote."""
    return Dataset(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS})
