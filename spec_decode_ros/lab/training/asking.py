"""Generating teacher data: a target answers many prompts in several processes with one thread each."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training import teacher_data
from spec_decode_ros.lab.training.teacher import Teacher, TeacherExample, TeacherPrompt
from spec_decode_ros.models.onednn import has_bfloat16
from spec_decode_ros.models.text import CheckpointText

LONGEST_PROMPT = 128
"""In tokens; longer prompts are skipped."""

_POLL_S = 2.0


@dataclass(frozen=True)
class Questions:
    """The prompts that a target answers, and how.

    Attributes:
        pair: name or file of the pair whose target answers.
        prompts: their positions are their indices.
        length: longest answer, in tokens.
        temperature: of every second answer; the others are greedy.
        rows: answers in one batch of one process.
        seed: of the sampling.
    """

    pair: str
    prompts: tuple[str, ...]
    length: int = 128
    temperature: float = 0.0
    rows: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.prompts or min(self.length, self.rows) < 1 or self.temperature < 0:
            raise SpecDecodeError(
                "a target is asked at least one prompt for at least one token, at a temperature from 0"
            )


def ask(
    questions: Questions,
    folder: Path,
    workers: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[TeacherExample]:
    """Teacher data for all prompts; what is in `folder` already is taken from there.

    Raises:
        SpecDecodeError: the target cannot be loaded or is not a Llama, or a process died.
    """
    total = len(questions.prompts)
    folder.mkdir(parents=True, exist_ok=True)
    if len(teacher_data.indices(folder)) < total:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            jobs = [pool.submit(_work, questions, folder, number, workers) for number in range(workers)]
            try:
                _watch(jobs, lambda: progress(len(teacher_data.indices(folder)), total))
            except BaseException:
                # Workers check for this file between two batches; without it an interrupt would wait for all answers.
                (folder / _STOP).touch()
                raise
            finally:
                wait(jobs)
                (folder / _STOP).unlink(missing_ok=True)
    return teacher_data.load(folder)


_STOP = "stop"


def _watch(jobs: Sequence[Future[None]], show: Callable[[], None]) -> None:
    pending = set(jobs)
    while pending:
        done, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_EXCEPTION)
        for job in done:
            try:
                job.result()
            except BrokenProcessPool as error:
                raise SpecDecodeError(
                    "A process that asks the target has died, perhaps for lack of memory: take fewer --workers."
                ) from error
        show()


def _work(questions: Questions, folder: Path, number: int, workers: int) -> None:
    """One process: answers every `workers`-th prompt from `number` on that has no answer yet."""
    from spec_decode_ros.models.pair import load_verifier
    from spec_decode_ros.models.pair_config import load_pair_config

    torch.set_num_threads(1)
    model = load_verifier(load_pair_config(questions.pair), device="cpu", threads=1).model
    done = teacher_data.indices(folder)
    torch.manual_seed(questions.seed * 1_000_003 + number + len(done))
    asked = [index for index in range(number, len(questions.prompts), workers) if index not in done]
    if not asked:
        return
    teacher = Teacher(
        model.model,
        preamble(model.text),
        rows=min(questions.rows, len(asked)),
        length=LONGEST_PROMPT + questions.length,
        dtype=torch.bfloat16 if has_bfloat16() else torch.float32,
    )
    written = teacher_data.save(folder, teacher.answer(_requests(questions, model.text, asked)))
    for _ in written:
        if (folder / _STOP).exists():
            return


def _requests(questions: Questions, text: CheckpointText, asked: Sequence[int]) -> Iterator[TeacherPrompt]:
    for index in asked:
        prompt = tuple(text.encode_prompt(text.render(questions.prompts[index], 0)))
        yield TeacherPrompt(index, prompt, questions.temperature * (index % 2), questions.length)


def preamble(text: CheckpointText) -> tuple[int, ...]:
    """The tokens that every rendered prompt begins with."""
    one, other = (text.encode_prompt(text.render(prompt, 0)) for prompt in ("Alpha", "0"))
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    return tuple(one[:shared])
