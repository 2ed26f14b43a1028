"""Training data: frames, questions and answers, on disk and as tokens."""

from __future__ import annotations

import io
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import COUNT, SEED, InThisProcess

from spec_decode_ros.actions.action import format_action, parse_action
from spec_decode_ros.actions.commands import STRANGE_WORDS, Command, phrase, vocabulary
from spec_decode_ros.actions.prompt import build_prompt
from spec_decode_ros.lab.training import dataset
from spec_decode_ros.lab.training.dataset import ANSWER_TOKENS, PAD, PROMPT_TOKENS, Dataset, make, mirrored
from spec_decode_ros.lab.training.frames import (
    COMBINATIONS,
    FRAME_SIZE,
    GRID,
    QUESTIONS,
    Example,
    examples,
    to_model_size,
)
from spec_decode_ros.lab.training.processor import (
    SPECIAL,
    build_image_processor,
    build_tokenizer,
    save_processor,
)
from spec_decode_ros.sim.render import to_jpeg


@pytest.fixture(scope="module")
def made() -> list[Example]:
    """What the dataset was written from; its first part draws from this seed."""
    return list(examples(SEED * 1_000_003, COUNT))


def test_examples_hold_what_they_promise(made: list[Example]) -> None:
    kinds: Counter[str] = Counter()
    for example in made:
        assert example.frame.shape == (FRAME_SIZE[1], FRAME_SIZE[0], 3)
        assert example.frame.dtype == np.uint8
        assert example.presence.shape == (GRID[0] * GRID[1],)
        assert len(example.questions) == QUESTIONS
        shown = example.presence > 0
        assert np.array_equal(shown, ~np.isnan(example.place[:, 0]))
        assert np.nanmax(np.abs(example.place[:, 0]), initial=0) < np.pi / 2
        in_view = {n for i, n in enumerate(COMBINATIONS) if (example.presence >> np.uint32(i) & 1).any()}
        for question in example.questions:
            kinds[question.command.kind] += 1
            assert parse_action(format_action(question.answer)) == question.answer
            target, words = question.command.target, question.answer.note.split()
            if question.command.kind == "goto" and words[-1] != "found" and words[0] != "searching":
                assert target in in_view, question
    assert kinds["goto"] > 2 * COUNT
    assert set(kinds) >= {"goto", "turn", "walk", "stop"}


def test_the_dataset_is_what_the_seed_says(made: list[Example], data: Dataset) -> None:
    tokenizer = build_tokenizer()
    assert len(data) == COUNT
    for i, example in enumerate(made):
        assert np.array_equal(data.frames[i], example.frame)
        assert np.array_equal(data.presence[i], example.presence)
        assert np.array_equal(data.place[i], example.place, equal_nan=True)
        for q, question in enumerate(example.questions):
            for side, (last, answer) in enumerate(((question.last, question.answer), mirrored(question))):
                prompt = build_prompt(question.instruction, format_action(last) if last else None)
                ids = data.prompts[i, side, q]
                assert list(ids[ids != PAD]) == tokenizer(prompt + "<answer>").input_ids
                ids = data.answers[i, side, q]
                assert tokenizer.decode(ids[ids != PAD]) == format_action(answer) + " <end>"


def test_no_prompt_or_answer_is_cut_off_and_answers_hold_only_known_words(data: Dataset) -> None:
    ids = build_tokenizer().convert_tokens_to_ids
    assert ids("<pad>") == PAD
    for tokens, end in ((data.prompts, ids("<answer>")), (data.answers, ids("<end>"))):
        rows = tokens.reshape(-1, tokens.shape[-1])
        lengths = (rows != PAD).sum(1)
        assert (rows[np.arange(len(rows)), lengths - 1] == end).all()
        assert ((rows == end).sum(1) == 1).all()
        assert (np.cumsum(rows == PAD, 1)[:, -1] == rows.shape[1] - lengths).all()
    assert not (data.answers == ids("<unk>")).any()


def test_the_longest_prompt_and_answer_fit() -> None:
    tokenizer = build_tokenizer()
    rng = np.random.default_rng(0)
    commands = [
        Command("goto", "red", "chair"),
        Command("turn", amount=-180.0),
        Command("walk", amount=2.5),
        Command("stop"),
        Command("unknown"),
    ]
    longest = "vx 0.0 wz -0.8 | purple cylinder right 2.5"
    most = max(
        len(tokenizer(build_prompt(phrase(c, rng), longest) + "<answer>").input_ids)
        for c in commands
        for _ in range(400)
    )
    assert most <= PROMPT_TOKENS
    assert len(tokenizer(longest + "<end>").input_ids) <= ANSWER_TOKENS


def test_made_once_and_made_again_where_something_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[int, int, int]] = []

    def write(folder: Path, start: int, count: int, seed: int, source: object) -> int:
        np.load(folder / "presence.npy", mmap_mode="r+")[start : start + count] = seed
        written.append((start, count, seed))
        return count

    monkeypatch.setattr(dataset, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(dataset, "_write_part", write)
    progress: list[tuple[int, int]] = []
    data = make(tmp_path / "d", 2200, 3, 2, lambda done, total: progress.append((done, total)))
    assert [w[:2] for w in written] == [(0, 1000), (1000, 1000), (2000, 200)]
    assert len({seed for _, _, seed in written}) == 3
    assert progress[-1] == (2200, 2200)
    assert len(data) == 2200
    assert (data.presence > 0).all()

    written.clear()
    assert np.array_equal(make(tmp_path / "d", 2200, 3, 2).presence, data.presence)
    assert not written, "an unchanged dataset is taken as it is"

    make(tmp_path / "d", 2200, 4, 2)
    assert len(written) == 3
    written.clear()
    make(tmp_path / "d", 2200, 4, 2, name="rollouts")
    assert len(written) == 3, "another source"
    written.clear()
    (tmp_path / "d" / "recipe.json").unlink()
    make(tmp_path / "d", 2200, 4, 2, name="rollouts")
    assert len(written) == 3, "what was interrupted is made anew"
    assert len(make(tmp_path / "d", 700, 4, 2)) == 700

    def fail(*_: object) -> int:
        raise OSError("disk full")

    monkeypatch.setattr(dataset, "_write_part", fail)
    with pytest.raises(OSError, match="disk full"):
        make(tmp_path / "d", 700, 5, 2)
    assert not (tmp_path / "d" / "recipe.json").exists(), "a failed run leaves nothing that looks whole"


def test_different_parts_and_seeds_differ(made: list[Example], folder: Path) -> None:
    assert json.loads((folder / "recipe.json").read_text()) == {
        "count": COUNT,
        "seed": SEED,
        "source": "random poses",
    }
    other = next(iter(examples(SEED * 1_000_003 + 1000, 1)))
    assert not np.array_equal(other.frame, made[0].frame)


def test_tokenizer_knows_every_word_but_strange_ones() -> None:
    tokenizer = build_tokenizer()
    assert len(tokenizer) == len(SPECIAL) + len(vocabulary())
    assert tokenizer.unk_token_id not in tokenizer(" ".join(vocabulary())).input_ids
    for word in STRANGE_WORDS:
        assert tokenizer(word).input_ids == [tokenizer.unk_token_id]
    rng = np.random.default_rng(0)
    for amount, kind in itertools.chain(
        ((s * 0.5 * n, "walk") for s in (-1, 1) for n in range(1, 11)),
        ((s * 5.0 * n, "turn") for s in (-1, 1) for n in range(1, 73)),
    ):
        for _ in range(5):
            text = phrase(Command(kind, amount=amount), rng)  # type: ignore[arg-type]
            assert tokenizer.unk_token_id not in tokenizer(text).input_ids, text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Go to the RED chair!", "go to the red chair"),
        ("go, please.", "go please"),
        ("walk 2 metres.", "walk 2.0 metres"),
        ("walk 2.0 metres", "walk 2.0 metres"),
        ("walk 1.5 m", "walk 1.5 m"),
        ("turn 45 degrees", "turn 45 degrees"),
        ("don’t move", "don't move"),
        ("red|blue", "red | blue"),
        ("go to the zorp", "go to the <unk>"),
        ("walk 12 m", "walk <unk> m"),
        ("vx 0.0 wz -0.2 | searching 15<end>", "vx 0.0 wz -0.2 | searching 15 <end>"),
    ],
)
def test_tokenizer_reads_what_people_write(text: str, words: str) -> None:
    tokenizer = build_tokenizer()
    assert tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids) == words.split()


def test_every_answer_reads_back_as_it_was_written() -> None:
    tokenizer = build_tokenizer()
    for note in ("red chair left 1.5", "white ball not found", "searching 345", "walking 3.0", "stand up"):
        text = f"vx 0.0 wz -0.8 | {note}"
        assert tokenizer.decode(tokenizer(text + "<end>").input_ids, skip_special_tokens=True) == text


def test_chat_template_puts_the_picture_first_and_asks_for_an_answer() -> None:
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "go | last none"}]}
    tokenizer = build_tokenizer()
    text = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    assert text == "<|vision_start|><|image_pad|><|vision_end|>go | last none<answer>"


def test_the_image_processor_sees_what_training_saw() -> None:
    rng = np.random.default_rng(0)
    rgb = np.repeat(np.repeat(rng.integers(0, 256, (24, 48, 3), np.uint8), 8, 0), 8, 1)
    processor = build_image_processor()
    with Image.open(io.BytesIO(to_jpeg(rgb))) as image:
        camera = processor(image, return_tensors="np")
    trained = processor(Image.fromarray(to_model_size(rgb)), return_tensors="np")
    assert list(camera["image_grid_thw"][0]) == [1, 2 * GRID[0], 2 * GRID[1]]
    assert np.array_equal(camera["pixel_values"], trained["pixel_values"])


def test_saved_processor_has_no_hidden_differences(tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, AutoTokenizer

    save_processor(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = "Walk 2 metres | last vx 0.0 wz 0.8 | searching 15<answer>"
    assert tokenizer(text).input_ids == build_tokenizer()(text).input_ids
    assert tokenizer.eos_token == "<end>"
    assert tokenizer.chat_template == build_tokenizer().chat_template
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    picture = Image.new("RGB", (384, 192), (200, 30, 60))
    assert np.array_equal(
        processor(picture, return_tensors="np")["pixel_values"],
        build_image_processor()(picture, return_tensors="np")["pixel_values"],
    )
