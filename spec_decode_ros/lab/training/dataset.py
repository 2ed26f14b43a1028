"""Training data on disk: frames and tokens in flat arrays, made by several processes at once."""

from __future__ import annotations

import json
import multiprocessing
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from spec_decode_ros.actions.action import Action, format_action
from spec_decode_ros.actions.prompt import build_prompt
from spec_decode_ros.lab.training import frames
from spec_decode_ros.lab.training.frames import QUESTIONS, Example, PairView, Question, examples
from spec_decode_ros.lab.training.processor import build_tokenizer

PROMPT_TOKENS = 40
ANSWER_TOKENS = 12
PAD = 0

Source = Callable[[int, int], Iterable[Example]]
"""Yields as many examples as the second number says; the first is the seed."""


@dataclass(frozen=True)
class Layout:
    """How a pair's examples are written down.

    Attributes:
        setting: what the pair sees and how it is spoken to.
        tokenizer: makes its tokenizer, in any process.
        before_answer, after_answer: what its chat template puts around an answer.
        prompt_tokens, answer_tokens: the longest of them.
        dtype: of a token.
        names_objects: whether to note which object each answer names, where its tokens do not show it one by one.
    """

    setting: PairView
    tokenizer: Callable[[], PreTrainedTokenizerFast]
    before_answer: str
    after_answer: str
    prompt_tokens: int
    answer_tokens: int
    dtype: type[np.signedinteger] = np.int32
    names_objects: bool = True

    @property
    def shapes(self) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
        """Type and shape of each array, for one example."""
        width, height = self.setting.size
        cells = self.setting.grid[0] * self.setting.grid[1]
        found: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
            "frames": (np.uint8, (height, width, 3)),
            "presence": (np.uint32, (cells,)),
            "place": (np.float16, (cells, 2)),
            "prompts": (self.dtype, (2, QUESTIONS, self.prompt_tokens)),
            "answers": (self.dtype, (2, QUESTIONS, self.answer_tokens)),
        }
        if self.names_objects:
            found |= {"named": (np.int8, (QUESTIONS,)), "sought": (np.bool_, (QUESTIONS,))}
            found["until_bar"] = (np.int8, (2, QUESTIONS))
        return found

    def prompt_ids(
        self, tokenizer: PreTrainedTokenizerFast, instruction: str, last: Action | None
    ) -> np.ndarray:
        """Ids of a prompt behind the picture, padded."""
        text = build_prompt(instruction, format_action(last) if last else None)
        return self._ids(tokenizer, text + self.before_answer, self.prompt_tokens)

    def answer_ids(self, tokenizer: PreTrainedTokenizerFast, answer: Action) -> np.ndarray:
        """Ids of an answer with its end, padded."""
        return self._ids(tokenizer, format_action(answer) + self.after_answer, self.answer_tokens)

    def _ids(self, tokenizer: PreTrainedTokenizerFast, text: str, length: int) -> np.ndarray:
        ids = tokenizer(text, truncation=True, max_length=length).input_ids
        return np.pad(np.array(ids, self.dtype), (0, length - len(ids)))


TINY = Layout(
    frames.TINY,
    build_tokenizer,
    "<answer>",
    "<end>",
    PROMPT_TOKENS,
    ANSWER_TOKENS,
    np.int16,
    names_objects=False,
)
"""Of the tiny pair."""


@dataclass(frozen=True)
class Dataset:
    """Memory-mapped arrays of N examples; prompts and answers as they are and, second, as in a mirror.

    ``frames`` (N, height, width, 3) uint8, ``presence`` (N, cells) uint32, ``place`` (N, cells, 2) float16, ``prompts``
    (N, 2, questions, P) and ``answers`` (N, 2, questions, A), padded with 0. Where a layout has it, ``named``
    (N, questions) is the index of the object in the answer, -1 for none, ``sought`` (N, questions) whether it is not in
    view, and ``until_bar`` (N, 2, questions) how many tokens stand before the bar, with the velocities.
    """

    frames: np.ndarray
    presence: np.ndarray
    place: np.ndarray
    prompts: np.ndarray
    answers: np.ndarray
    named: np.ndarray | None = None
    sought: np.ndarray | None = None
    until_bar: np.ndarray | None = None

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


def mirrored_instruction(question: Question) -> str:
    """A question's words as they would be in the mirror image: only the side of a description changes."""
    if question.command.relation not in ("left of", "right of"):
        return question.instruction
    return re.sub(
        r"\b(left|right)\b", lambda side: {"left": "right", "right": "left"}[side[0]], question.instruction
    )


def prompt_tokens(tokenizer: PreTrainedTokenizerFast, instruction: str, last: Action | None) -> np.ndarray:
    """Ids of a prompt of the tiny pair, padded to (40,) int16."""
    return TINY.prompt_ids(tokenizer, instruction, last)


def answer_tokens(tokenizer: PreTrainedTokenizerFast, answer: Action) -> np.ndarray:
    """Ids of an answer of the tiny pair, padded to (12,) int16."""
    return TINY.answer_ids(tokenizer, answer)


def named_object(answer: Action) -> int:
    """Index into `frames.COMBINATIONS` of the object that an answer names, -1 for none."""
    name = " ".join(answer.note.split()[:2])
    return frames.COMBINATIONS.index(name) if name in frames.COMBINATIONS else -1


def is_sought(answer: Action) -> bool:
    """Whether an answer looks for an object that is not in view."""
    return answer.note.startswith("searching") or answer.note.endswith("not found")


def _write_part(folder: Path, start: int, count: int, seed: int, source: Source, layout: Layout) -> int:
    tokenizer = layout.tokenizer()
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in layout.shapes}
    for i, example in enumerate(source(seed, count), start):
        arrays["frames"][i] = example.frame
        arrays["presence"][i] = example.presence
        arrays["place"][i] = example.place
        for q, question in enumerate(example.questions):
            said = (question.instruction, mirrored_instruction(question))
            for side, (last, answer) in enumerate(((question.last, question.answer), mirrored(question))):
                arrays["prompts"][i, side, q] = layout.prompt_ids(tokenizer, said[side], last)
                arrays["answers"][i, side, q] = layout.answer_ids(tokenizer, answer)
                if layout.names_objects:
                    velocities = format_action(answer).partition(" |")[0]
                    arrays["until_bar"][i, side, q] = len(tokenizer(velocities).input_ids)
            if layout.names_objects:
                arrays["named"][i, q] = named_object(question.answer)
                arrays["sought"][i, q] = is_sought(question.answer)
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
    layout: Layout = TINY,
) -> Dataset:
    """Make ``count`` examples in ``folder``, or take those that an earlier call with the same arguments left there.

    Args:
        source: where they come from, called in other processes with a seed and a count.
        name: of the source; examples of another name are not taken for these.
        layout: how they are written down.
    """
    recipe = {"count": count, "seed": seed, "source": name}
    stamp = folder / "recipe.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != recipe:
        folder.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        for array, (dtype, shape) in layout.shapes.items():
            np.lib.format.open_memmap(folder / f"{array}.npy", "w+", dtype, (count, *shape)).flush()
        part = 1000
        # OpenGL contexts do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            starts = range(0, count, part)
            jobs = [
                pool.submit(
                    _write_part, folder, s, min(part, count - s), seed * 1_000_003 + s, source, layout
                )
                for s in starts
            ]
            done = 0
            for job in as_completed(jobs):
                done += job.result()
                progress(done, count)
        stamp.write_text(json.dumps(recipe))
    return load(folder, layout)


def load(folder: Path, layout: Layout = TINY) -> Dataset:
    """Open a dataset that :func:`make` wrote."""
    return Dataset(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in layout.shapes})
