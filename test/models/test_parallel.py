"""A target divided between two processes on this machine says what it says in one, token for token."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_checkpoints
import torch
import yaml

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.tree import Tree
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.checkpoint_checks import CheckpointError
from spec_decode_ros.models.interfaces import GREEDY, ForwardInput, Verifier
from spec_decode_ros.models.pair import load_verifier
from spec_decode_ros.models.pair_config import PairError, load_pair_config
from spec_decode_ros.models.parallel import ParallelVerifier

PROMPTS = ["go to the red chair", "turn left slowly | last vx 0.4"]
SAMPLED = Sampling(temperature=1.5, top_k=20, seed=7)
WAIT_S = 60.0


def pair_file(folder: Path, checkpoint: Path, **target: object) -> Path:
    side = {"location": str(checkpoint)}
    document = {"name": "divided", "draft": side, "target": {**side, "device": "cpu", **target}}
    (folder / "divided.yaml").write_text(yaml.safe_dump(document))
    return folder / "divided.yaml"


@pytest.fixture(scope="module", params=["llama", "qwen2_vl"])
def both(
    request: pytest.FixtureRequest,
    checkpoints: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Verifier, ParallelVerifier]]:
    checkpoint, folder = checkpoints(request.param), tmp_path_factory.mktemp("divided")
    whole = load_verifier(pair_file(folder, checkpoint))
    divided = load_verifier(pair_file(folder, checkpoint, tensor_parallel=2))
    assert isinstance(divided, ParallelVerifier)
    try:
        yield whole, divided
    finally:
        divided.close()


def images_for(verifier: Verifier) -> list[bytes]:
    return [tiny_checkpoints.jpeg(3)] if verifier.model.images else []  # type: ignore[attr-defined]


def answers(verifier: Verifier) -> list[object]:
    """What two sessions say, alone and together, with right and wrong drafts, one of them a tree."""
    images = images_for(verifier)
    one, two = verifier.prepare_many([(PROMPTS[0], images), (PROMPTS[1], images)])
    assert not isinstance(one, Exception) and not isinstance(two, Exception)
    said: list[object] = [one.answer_room, one.not_prefilled]
    tokens: list[int] = []
    while len(tokens) < 10:
        tokens += one.verify(tokens, (), GREEDY)
    said.append(tuple(tokens))
    together = [
        ForwardInput(one, tokens[:4], tokens[4:7], GREEDY),
        ForwardInput(two, (), (5, 6, 7), SAMPLED),
    ]
    said += verifier.verify_many(together)
    said.append(one.verify_tree(tokens[:2], Tree((tokens[2], 9, tokens[3]), (-1, -1, 0)), GREEDY))
    said += verifier.verify_many(
        [ForwardInput(two, (), (), SAMPLED), ForwardInput(one, tokens[:2], tokens[2:5])]
    )
    one.close()
    two.close()
    two.close()
    return said


def test_divided_it_says_the_same(both: tuple[Verifier, ParallelVerifier]) -> None:
    whole, divided = both
    assert isinstance(divided, Verifier)
    for _ in range(2):
        assert answers(divided) == answers(whole)


def test_what_fails_fails_for_one_session_only(both: tuple[Verifier, ParallelVerifier]) -> None:
    whole, divided = both
    good, bad = divided.prepare_many([(PROMPTS[0], ()), (PROMPTS[0], [b"no image"])])
    assert isinstance(bad, SpecDecodeError) and not isinstance(good, Exception)
    with pytest.raises(SpecDecodeError):
        divided.prepare(PROMPTS[0], [b"no image"])
    with pytest.raises(SpecDecodeError, match="another verifier"):
        divided.verify_many([ForwardInput(whole.prepare(PROMPTS[0]))])
    assert good.verify((), (), GREEDY) == whole.prepare(PROMPTS[0]).verify((), (), GREEDY)
    good.close()
    assert answers(divided) == answers(whole)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"tensor_parallel": 0}, "from 1 to 64"),
        ({"tensor_parallel": True}, "a whole number"),
        ({"tensor_parallel": 2, "quantization": "4bit"}, "do not go together"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    setting: dict[str, object],
    sentence: str,
    checkpoints: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    with pytest.raises(PairError, match=sentence):
        load_pair_config(pair_file(tmp_path, checkpoints("llama"), **setting))


def test_heads_that_cannot_be_shared_evenly_are_refused(
    checkpoints: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="key-value heads, which 3 GPUs cannot share evenly"):
        load_verifier(pair_file(tmp_path, checkpoints("llama"), tensor_parallel=3))


def test_gpus_that_are_not_there_are_refused(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    gpus = torch.cuda.device_count()
    path = pair_file(tmp_path, checkpoints("llama"), tensor_parallel=max(2, gpus + 1), device="cuda")
    with pytest.raises(SpecDecodeError, match=f"sees {gpus} GPUs"):
        load_verifier(path)


def test_the_process_is_to_end_when_one_with_a_part_of_its_model_does(
    both: tuple[Verifier, ParallelVerifier],
) -> None:
    asked = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        os.kill(both[1].followers.children[0].pid, signal.SIGKILL)
        assert asked.wait(WAIT_S)
    finally:
        signal.signal(signal.SIGTERM, before)
    with pytest.raises(RuntimeError):
        both[1].prepare(PROMPTS[0])
