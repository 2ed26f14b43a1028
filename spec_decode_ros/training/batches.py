"""Batches for training: random examples, half of them mirrored, with their questions packed end to end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from spec_decode_ros.training.dataset import ANSWER_TOKENS, PAD, PROMPT_TOKENS, Dataset
from spec_decode_ros.training.frames import COMBINATIONS, GRID, QUESTIONS

VELOCITY_PLACES = (1, 3)
"""Where in an answer the two velocities stand: ``vx V wz W | ...``."""

VELOCITY_WEIGHT = 2.0


@dataclass(frozen=True)
class Batch:
    """B frames with their questions packed into T tokens.

    ``tokens question position`` are (B, T) int64; ``target`` (B, T) is the next token where it belongs to an answer and
    -100 elsewhere; ``weight`` (B, T) is its share in the loss; ``place_in_answer`` (B, T) counts the answer's tokens.
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


def pack(prompts: np.ndarray, answers: np.ndarray) -> dict[str, torch.Tensor]:
    """Pack padded prompts (B, Q, 40) and answers (B, Q, 12) into the token fields of :class:`Batch`."""
    batch = len(prompts)
    length = PROMPT_TOKENS + ANSWER_TOKENS
    ids = torch.from_numpy(np.concatenate([prompts, answers], 2).astype(np.int64))
    used = ids != PAD
    question = torch.arange(QUESTIONS).view(1, -1, 1).expand(batch, -1, length)
    position = used.long().cumsum(2) - 1
    place = (torch.arange(length) - PROMPT_TOKENS).view(1, 1, -1).expand(batch, QUESTIONS, -1)
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
    weight = torch.ones(tokens.shape)
    for velocity in VELOCITY_PLACES:
        weight[following == velocity] = VELOCITY_WEIGHT
    return {
        "tokens": tokens,
        "question": question,
        "position": packed(position).masked_fill(~keep, 0),
        "target": torch.roll(tokens, -1, 1).masked_fill(~answered, -100),
        "weight": weight * answered,
        "place_in_answer": following,
    }


def make_batch(data: Dataset, index: np.ndarray, mirror: np.ndarray) -> Batch:
    """The examples ``index`` (B,), those with ``mirror`` (B,) as their mirror image."""
    frames, presence, place = data.frames[index], data.presence[index], data.place[index]
    rows, columns = GRID
    flip = np.flatnonzero(mirror)
    frames[flip] = frames[flip, :, ::-1]
    presence[flip] = presence[flip].reshape(-1, rows, columns)[..., ::-1].reshape(-1, rows * columns)
    mirrored = place[flip].reshape(-1, rows, columns, 2)[:, :, ::-1] * np.float16([-1, 1])
    place[flip] = mirrored.reshape(-1, rows * columns, 2)
    side = mirror.astype(int)
    return Batch(
        torch.from_numpy(frames),
        torch.from_numpy(presence.astype(np.int64)),
        torch.from_numpy(place),
        **pack(data.prompts[index, side], data.answers[index, side]),
    )


def batches(data: Dataset, size: int, seed: int) -> Iterator[Batch]:
    """Batches without end; every pass through the data is a new shuffle."""
    rng = np.random.default_rng(seed)
    while True:
        shuffled = rng.permutation(len(data))
        for start in range(0, len(data) - size + 1, size):
            yield make_batch(data, np.sort(shuffled[start : start + size]), rng.random(size) < 0.5)


assert len(COMBINATIONS) <= 32
