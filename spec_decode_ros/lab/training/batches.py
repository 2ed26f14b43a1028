"""Training batches: random examples, half of them mirrored, each with its questions packed into one sequence."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from spec_decode_ros.lab.training.dataset import PAD, Dataset
from spec_decode_ros.lab.training.frames import COMBINATIONS, GRID
from spec_decode_ros.lab.training.processor import build_tokenizer

Item = TypeVar("Item")

VELOCITY_PLACES = (1, 3)
"""Token indices of the two velocities in an answer: ``vx V wz W | ...``."""

NOTE_PLACE = 5
"""Token index at which the note begins."""

VELOCITY_WEIGHT = 2.0

LAST_ACTION_DROPOUT = 0.65
"""Share of the answers toward an object whose last action is replaced by another."""


@dataclass(frozen=True)
class Batch:
    """B frames with their questions packed into T tokens.

    ``tokens question position`` are (B, T) int64; ``target`` (B, T) is the next token where it belongs to an answer and
    -100 elsewhere; ``weight`` (B, T) is its weight in the loss; ``place_in_answer`` (B, T) is its index in the answer;
    ``goal`` (B, Q, 2) is bearing in radians and log distance of the object that the answer names, NaN if it is not in
    view; ``goal_cells`` (B, Q, 33) marks where attention belongs: the cells that show the object, or index 0 if it is not in
    view.
    """

    frames: torch.Tensor
    presence: torch.Tensor
    place: torch.Tensor
    tokens: torch.Tensor
    question: torch.Tensor
    position: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    place_in_answer: torch.Tensor
    goal: torch.Tensor
    goal_cells: torch.Tensor


@functools.cache
def _token_ids() -> dict[str, int]:
    return build_tokenizer().get_vocab()


def named_objects(answers: np.ndarray) -> np.ndarray:
    """Index into :data:`COMBINATIONS` of the object that the note of each answer (B, Q, 12) names, -1 for none."""
    ids = _token_ids()
    table = {(ids[c], ids[k]): i for i, (c, k) in enumerate(name.split() for name in COMBINATIONS)}
    pairs = answers[..., NOTE_PLACE : NOTE_PLACE + 2].reshape(-1, 2)
    return np.array([table.get((int(c), int(k)), -1) for c, k in pairs]).reshape(answers.shape[:2])


def sought(answers: np.ndarray) -> np.ndarray:
    """Which answers (B, Q, 12) search for an object that is not in view, (B, Q) bool."""
    ids = _token_ids()
    return (answers[..., NOTE_PLACE] == ids["searching"]) | (answers[..., NOTE_PLACE + 3] == ids["found"])


def goals(named: np.ndarray, presence: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the objects of :func:`named_objects` are in their frames.

    Returns:
        (B, Q, 2) bearing in radians and log distance, NaN if not in view; and (B, Q, 32) which cells show the object.
    """
    bit = np.where(named < 0, 0, 1 << np.maximum(named, 0)).astype(np.int64)[..., None]
    seen = presence.astype(np.int64)[:, None]
    alone = (seen == bit) & (bit > 0) & ~np.isnan(place[:, None, :, 0])
    values = np.where(alone[..., None], place[:, None].astype(np.float32), 0.0).sum(2)
    count = alone.sum(2)[..., None]
    with np.errstate(invalid="ignore"):
        return (values / np.where(count, count, np.nan)).astype(np.float32), (seen & bit) > 0


def pack(prompts: np.ndarray, answers: np.ndarray) -> dict[str, torch.Tensor]:
    """Pack padded prompts (B, Q, P) and answers (B, Q, A) into the token fields of :class:`Batch`."""
    batch, questions, longest = prompts.shape
    length = longest + answers.shape[2]
    ids = torch.from_numpy(np.concatenate([prompts, answers], 2).astype(np.int64))
    used = ids != PAD
    question = torch.arange(questions).view(1, -1, 1).expand(batch, -1, length)
    position = used.long().cumsum(2) - 1
    place = (torch.arange(length) - longest).view(1, 1, -1).expand(batch, questions, -1)
    used = used.view(batch, -1)
    order = (~used).long().argsort(dim=1, stable=True)[:, : int(used.sum(1).max())]

    def packed(values: torch.Tensor) -> torch.Tensor:
        return values.reshape(batch, -1).gather(1, order)

    keep = packed(used)
    tokens = packed(ids)
    question = packed(question).masked_fill(~keep, -1)
    place = packed(place).masked_fill(~keep, -1)
    following = torch.roll(place, -1, 1)
    following[:, -1] = -1
    answered = following >= 0
    weight = torch.where(torch.isin(following, torch.tensor(VELOCITY_PLACES)), VELOCITY_WEIGHT, 1.0)
    return {
        "tokens": tokens,
        "question": question,
        "position": packed(position).masked_fill(~keep, 0),
        "target": torch.roll(tokens, -1, 1).masked_fill(~answered, -100),
        "weight": weight * answered,
        "place_in_answer": following,
    }


class LastActionDropout:
    """Replaces the last action in a prompt by another one where the answer does not depend on it.

    The way to an object in view can be read from the frame alone. The true last action nearly equals the answer: if it
    is always there, a model learns to copy it long before it learns to use the frame.
    """

    def __init__(self, share: float):
        ids = build_tokenizer().convert_tokens_to_ids
        self._share = share
        self._last = ids("last")
        self._toward = np.array(ids(["left", "right", "ahead"]))
        self._none = ids(["last", "none", "<answer>"])
        turns = [ids(wz) for wz in ("0.8", "-0.8")]
        counts = [ids(str(n)) for n in range(0, 361, 15)]
        before, middle, after = ids(["last", "vx", "0.0", "wz"]), ids(["|", "searching"]), ids(["<answer>"])
        self._searches = [[*before, turn, *middle, count, *after] for turn in turns for count in counts]

    def __call__(self, prompts: np.ndarray, answers: np.ndarray, rng: np.random.Generator) -> None:
        """Change prompts (B, Q, 40) in place; answers (B, Q, 12) say which may be changed."""
        free = np.isin(answers, self._toward).any(2) & (rng.random(answers.shape[:2]) < self._share)
        for i, q in zip(*np.nonzero(free), strict=True):
            row = prompts[i, q]
            start = int(np.flatnonzero(row == self._last)[-1])
            tail = self._none if rng.random() < 0.5 else self._searches[rng.integers(len(self._searches))]
            tail = tail[: len(row) - start]
            row[start:] = PAD
            row[start : start + len(tail)] = tail


def make_batch(
    data: Dataset,
    index: np.ndarray,
    mirror: np.ndarray,
    change: Callable[[np.ndarray, np.ndarray], None] = lambda prompts, answers: None,
) -> Batch:
    """The examples ``index`` (B,), mirrored where ``mirror`` (B,) is set; ``change`` may edit the tokens in place."""
    frames, presence, place = data.frames[index], data.presence[index], data.place[index]
    columns = GRID[1]
    rows = presence.shape[1] // columns
    flip = np.flatnonzero(mirror)
    frames[flip] = frames[flip, :, ::-1]
    presence[flip] = presence[flip].reshape(-1, rows, columns)[..., ::-1].reshape(-1, rows * columns)
    mirrored = place[flip].reshape(-1, rows, columns, 2)[:, :, ::-1] * np.float16([-1, 1])
    place[flip] = mirrored.reshape(-1, rows * columns, 2)
    side = mirror.astype(int)
    prompts, answers = data.prompts[index, side], data.answers[index, side]
    change(prompts, answers)
    goal, cells = goals(named_objects(answers), presence, place)
    return Batch(
        torch.from_numpy(frames),
        torch.from_numpy(presence.astype(np.int64)),
        torch.from_numpy(place),
        **pack(prompts, answers),
        goal=torch.from_numpy(goal),
        goal_cells=torch.from_numpy(np.concatenate([sought(answers)[..., None], cells], 2)),
    )


def batches(sources: Sequence[Dataset], size: int, seed: int) -> Iterator[Batch]:
    """Endless batches, each from one source drawn in proportion to its size; every epoch is reshuffled."""
    rng = np.random.default_rng(seed)
    sizes = np.array([len(source) for source in sources])
    if sizes.min() < size:
        raise ValueError(f"a source has {sizes.min()} examples, fewer than a batch of {size}")
    streams = [_shuffled(source, size, rng) for source in sources]
    while True:
        yield next(streams[rng.choice(len(sources), p=sizes / sizes.sum())])


def _shuffled(data: Dataset, size: int, rng: np.random.Generator) -> Iterator[Batch]:
    dropout = LastActionDropout(LAST_ACTION_DROPOUT)
    while True:
        shuffled = rng.permutation(len(data))
        for start in range(0, len(data) - size + 1, size):
            index = np.sort(shuffled[start : start + size])
            yield make_batch(data, index, rng.random(size) < 0.5, lambda p, a: dropout(p, a, rng))


def prefetched(items: Iterator[Item], count: int) -> Iterator[Item]:
    """The same items; a thread makes up to `count` of them in advance."""
    made: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(count)
    over = threading.Event()

    def make() -> None:
        failure: BaseException | None = None
        try:
            for item in items:
                if not _put(made, (item, None), over):
                    return
        except BaseException as error:
            failure = error
        _put(made, (None, failure), over)

    thread = threading.Thread(target=make, daemon=True, name="batches")
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        over.set()
        thread.join(timeout=10.0)


def _put(made: queue.Queue[Any], item: Any, over: threading.Event) -> bool:
    while not over.is_set():
        try:
            made.put(item, timeout=0.2)
            return True
        except queue.Full:
            continue
    return False
