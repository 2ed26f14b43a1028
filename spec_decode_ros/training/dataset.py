"""Training data on disk: frames and tokens in flat arrays, made by several processes at once."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spec_decode_ros.actions.action import Action, format_action
from spec_decode_ros.actions.prompt import build_prompt
from spec_decode_ros.training.frames import FRAME_SIZE, GRID, QUESTIONS, Example, Question, examples
from spec_decode_ros.training.processor import build_tokenizer

PROMPT_TOKENS = 40
ANSWER_TOKENS = 12
PAD = 0

Source = Callable[[int, int], Iterable[Example]]
"""Yields as many examples as the second number says; the first is the seed."""

_SHAPES = {
    "frames": (np.uint8, (FRAME_SIZE[1], FRAME_SIZE[0], 3)),
    "presence": (np.uint32, (GRID[0] * GRID[1],)),
    "place": (np.float16, (GRID[0] * GRID[1], 2)),
    "prompts": (np.int16, (2, QUESTIONS, PROMPT_TOKENS)),
    "answers": (np.int16, (2, QUESTIONS, ANSWER_TOKENS)),
}


@dataclass(frozen=True)
class Dataset:
    """Memory-mapped arrays of N examples; prompts and answers as they are and, second, as in a mirror.

    ``frames`` (N, 96, 192, 3) uint8, ``presence`` (N, 32) uint32, ``place`` (N, 32, 2) float16, ``prompts``
    (N, 2, questions, 40) int16 and ``answers`` (N, 2, questions, 12) int16, padded with 0.
    """

    frames: np.ndarray
    presence: np.ndarray
    place: np.ndarray
    prompts: np.ndarray
    answers: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)


def mirrored(question: Question) -> tuple[Action | None, Action]:
    """Last action and answer of a question as they would be in the mirror image.

    Only the way to an object depends on the picture. A search that has no side to go by turns left in the mirror too.
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


def prompt_tokens(tokenizer, instruction: str, last: Action | None) -> np.ndarray:
    """Ids of a prompt, padded to (40,) int16."""
    return _tokens(
        tokenizer,
        build_prompt(instruction, format_action(last) if last else None) + "<answer>",
        PROMPT_TOKENS,
    )


def answer_tokens(tokenizer, answer: Action) -> np.ndarray:
    """Ids of an answer, padded to (12,) int16."""
    return _tokens(tokenizer, format_action(answer) + "<end>", ANSWER_TOKENS)


def _tokens(tokenizer, text: str, length: int) -> np.ndarray:
    ids = tokenizer(text, truncation=True, max_length=length).input_ids
    return np.pad(np.array(ids, np.int16), (0, length - len(ids)))


def _write_part(folder: Path, start: int, count: int, seed: int, source: Source) -> int:
    tokenizer = build_tokenizer()
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in _SHAPES}
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
    """Make ``count`` examples in ``folder``, or take those that an earlier call with the same arguments left there.

    Args:
        source: where they come from, called in other processes with a seed and a count.
        name: of the source; examples of another name are not taken for these.
    """
    recipe = {"count": count, "seed": seed, "source": name}
    stamp = folder / "recipe.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != recipe:
        folder.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        for name, (dtype, shape) in _SHAPES.items():
            np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (count, *shape)).flush()
        part = 1000
        # OpenGL contexts do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            starts = range(0, count, part)
            jobs = [
                pool.submit(_write_part, folder, s, min(part, count - s), seed * 1_000_003 + s, source)
                for s in starts
            ]
            done = 0
            for job in as_completed(jobs):
                done += job.result()
                progress(done, count)
        stamp.write_text(json.dumps(recipe))
    return load(folder)


def load(folder: Path) -> Dataset:
    """Open a dataset that :func:`make` wrote."""
    return Dataset(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _SHAPES})
