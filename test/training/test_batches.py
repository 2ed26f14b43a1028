"""Batches: packed questions, mirror images, replaced last actions, and batches made in advance."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from spec_decode_ros.actions.action import parse_action
from spec_decode_ros.lab.training.batches import (
    VELOCITY_PLACES,
    VELOCITY_WEIGHT,
    Batch,
    LastActionDropout,
    batches,
    make_batch,
    pack,
    prefetched,
)
from spec_decode_ros.lab.training.dataset import PAD, PROMPT_TOKENS, Dataset
from spec_decode_ros.lab.training.frames import GRID, QUESTIONS
from spec_decode_ros.lab.training.network import _cell_bearings
from spec_decode_ros.lab.training.processor import build_tokenizer
from spec_decode_ros.sim.render import ray_directions


def unpadded(row: np.ndarray) -> list[int]:
    return [int(t) for t in row if t != PAD]


@pytest.mark.parametrize("side", [0, 1])
def test_every_question_and_its_targets_are_recovered_from_a_batch(data: Dataset, side: int) -> None:
    prompts, answers = data.prompts[:, side], data.answers[:, side]
    packed = pack(prompts, answers)
    for b in range(len(prompts)):
        asked: list[int] = []
        for q in range(QUESTIONS):
            mine = packed["question"][b] == q
            prompt, answer = unpadded(prompts[b, q]), unpadded(answers[b, q])
            assert packed["tokens"][b][mine].tolist() == prompt + answer
            assert packed["position"][b][mine].tolist() == list(range(len(prompt) + len(answer)))
            # The prompt's last token has the first of the answer to say, the answer's last has nothing.
            assert packed["target"][b][mine].tolist() == [-100] * (len(prompt) - 1) + answer + [-100]
            places = [-1] * (len(prompt) - 1) + list(range(len(answer))) + [-1]
            assert packed["place_in_answer"][b][mine].clamp(min=-1).tolist() == places
            weights = [VELOCITY_WEIGHT if p in VELOCITY_PLACES else float(p >= 0) for p in places]
            assert packed["weight"][b][mine].tolist() == weights
            asked += packed["question"][b][mine].tolist()
        padding = packed["question"][b] == -1
        assert (packed["target"][b][padding] == -100).all()
        assert (packed["weight"][b][padding] == 0).all()
        assert packed["question"][b][~padding].tolist() == asked, "questions follow one another"
    assert (packed["question"] >= 0).any(0).all(), "no column is padding in every row"


def test_velocity_places_hold_the_velocities(data: Dataset) -> None:
    tokenizer = build_tokenizer()
    for row in data.answers[:8].reshape(-1, data.answers.shape[-1]):
        ids = unpadded(row)
        action = parse_action(tokenizer.decode(ids, skip_special_tokens=True))
        words = tokenizer.convert_ids_to_tokens(ids)
        assert [float(words[p]) for p in VELOCITY_PLACES] == [action.vx, action.wz]


def test_a_mirrored_example_is_the_mirror_image(data: Dataset) -> None:
    index = np.arange(6)
    plain = make_batch(data, index, np.zeros(6, bool))
    mixed = make_batch(data, index, np.arange(6) % 2 == 1)
    rows, columns = GRID
    for i in range(6):
        if i % 2 == 0:
            for name, value in vars(plain).items():
                if name in ("frames", "presence", "place"):
                    assert torch.equal(value[i].nan_to_num(9), vars(mixed)[name][i].nan_to_num(9)), name
            continue
        assert torch.equal(mixed.frames[i], plain.frames[i].flip(1))
        cells = plain.presence[i].view(rows, columns)
        assert torch.equal(mixed.presence[i].view(rows, columns), cells.flip(1))
        place = plain.place[i].view(rows, columns, 2).flip(1).float()
        assert torch.equal(
            mixed.place[i].view(rows, columns, 2).float().nan_to_num(9),
            (place * torch.tensor([-1.0, 1.0])).nan_to_num(9),
        )
        first = mixed.question[i] == 0
        assert mixed.tokens[i][first].tolist() == unpadded(data.prompts[i, 1, 0]) + unpadded(
            data.answers[i, 1, 0]
        )


def test_making_batches_changes_no_data(data: Dataset) -> None:
    before = {name: np.array(value) for name, value in vars(data).items()}
    stream = batches([data], 16, seed=0)
    for _ in range(6):
        next(stream)
    for name, value in vars(data).items():
        assert np.array_equal(value, before[name], equal_nan=name == "place"), name


def test_batches_come_from_the_seed_and_pass_through_everything(data: Dataset) -> None:
    def first(seed: int, count: int = 4) -> list[Batch]:
        stream = batches([data], 10, seed)
        return [next(stream) for _ in range(count)]

    for one, other in zip(first(1), first(1), strict=True):
        assert all(
            torch.equal(a.nan_to_num(9), b.nan_to_num(9))
            for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
        )
    assert not torch.equal(first(1)[0].frames, first(2)[0].frames)
    # One pass shows each frame once, as it is or as its mirror image.
    shown = [f for batch in first(1) for f in batch.frames.numpy()]
    keys = {min(f.tobytes(), np.ascontiguousarray(f[:, ::-1]).tobytes()) for f in shown}
    wanted = {min(f.tobytes(), np.ascontiguousarray(f[:, ::-1]).tobytes()) for f in np.array(data.frames)}
    assert keys == wanted
    mirrored = sum(not any(np.array_equal(f, g) for g in data.frames) for f in shown)
    assert 8 <= mirrored <= 32


def test_dropout_replaces_only_last_actions_and_only_where_the_frame_tells_the_answer(data: Dataset) -> None:
    tokenizer = build_tokenizer()
    ids = tokenizer.convert_tokens_to_ids
    last, answer_token = ids("last"), ids("<answer>")
    toward = ids(["left", "right", "ahead"])
    before = np.array(data.prompts[:, 0])
    answers = np.array(data.answers[:, 0])
    after = before.copy()
    LastActionDropout(1.0)(after, answers, np.random.default_rng(0))
    changed = 0
    for old, new, answer in zip(
        before.reshape(-1, PROMPT_TOKENS),
        after.reshape(-1, PROMPT_TOKENS),
        answers.reshape(-1, 12),
        strict=True,
    ):
        if not np.isin(answer, toward).any():
            assert np.array_equal(old, new)
            continue
        changed += not np.array_equal(old, new)
        old_words, new_words = unpadded(old), unpadded(new)
        start = old_words.index(last)
        assert new_words[: start + 1] == old_words[: start + 1], "the instruction stays"
        assert new_words[-1] == answer_token
        assert (new[len(new_words) :] == PAD).all()
        text = tokenizer.decode(new_words[start + 1 : -1])
        if text != "none":
            note = parse_action(text).note
            assert note.startswith("searching ")
    assert changed > 10


def test_dropout_is_a_share(data: Dataset) -> None:
    prompts, answers = np.array(data.prompts[:, 0]), np.array(data.answers[:, 0])
    untouched = prompts.copy()
    LastActionDropout(0.0)(prompts, answers, np.random.default_rng(0))
    assert np.array_equal(prompts, untouched)
    counts = []
    for share in (0.3, 1.0):
        prompts = untouched.copy()
        LastActionDropout(share)(prompts, answers, np.random.default_rng(0))
        counts.append(int((prompts != untouched).any(2).sum()))
    assert 0 < counts[0] < 0.6 * counts[1]


def test_cells_are_where_the_camera_sees_them() -> None:
    rows, columns = GRID
    rays = ray_directions(columns, rows)[0]
    bearings = [-math.atan2(x, -z) for x, z in zip(rays[:, 0], rays[:, 2], strict=True)]
    assert _cell_bearings().view(rows, columns)[0].tolist() == pytest.approx(bearings, abs=1e-5)


def test_places_agree_with_their_cells(data: Dataset) -> None:
    """An object's bearing lies in or beside the columns that show it."""
    place = np.array(data.place).astype(float)
    offset = np.abs(place[..., 0] - _cell_bearings().numpy())
    shown = ~np.isnan(offset)
    assert shown.sum() > 50
    assert np.median(offset[shown]) < 0.2
    assert offset[shown].max() < 0.9


def test_goals_are_where_the_answers_say(data: Dataset) -> None:
    tokenizer = build_tokenizer()
    told = 0
    for mirror in (False, True):
        batch = make_batch(data, np.arange(len(data)), np.full(len(data), mirror))
        answers = data.answers[:, int(mirror)]
        for b, q in np.ndindex(answers.shape[:2]):
            note = parse_action(tokenizer.decode(unpadded(answers[b, q]), skip_special_tokens=True)).note
            bearing, log_distance = batch.goal[b, q].tolist()
            side = note.split()[2:3]
            if side not in (["left"], ["ahead"], ["right"]):
                assert math.isnan(bearing) or note.endswith("reached"), note
                continue
            if math.isnan(bearing):
                continue  # seen only in cells that show another object too
            told += 1
            assert (
                side == ["ahead" if abs(bearing) < 0.2 else "left" if bearing > 0 else "right"]
                or abs(abs(bearing) - 0.2) < 1e-3
            )
            # Notes name the nearest of few distances, and a float16 holds the logarithm.
            distance = max(math.exp(log_distance) - 0.2, 0.1)
            assert abs(math.log(float(note.split()[3]) / distance)) < 0.72
    assert told > 40


def test_the_same_items_come_in_order() -> None:
    assert list(prefetched(iter(range(100)), 3)) == list(range(100))
    assert list(prefetched(iter(()), 3)) == []


def test_an_error_comes_where_it_happened() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    items = prefetched(broken(), 3)
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_no_thread_is_left_when_enough_was_taken() -> None:
    items = prefetched(itertools.count(), 2)
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    items.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "batches"]
