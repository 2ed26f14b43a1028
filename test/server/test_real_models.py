"""Random Qwen2-VL checkpoints over real sockets: every method says what the target says by itself."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.edge.runtime import EdgeRuntime
from spec_decode_ros.lab.network.link import EmulatedLink, LinkProfile
from spec_decode_ros.models.interfaces import Drafter, Verifier
from spec_decode_ros.models.pair import load_drafter, load_verifier
from spec_decode_ros.models.pair_config import load_pair_config
from spec_decode_ros.models.warmup import warm_up
from spec_decode_ros.server.verifier_server import VerifierServer
from spec_decode_ros.transport.client import Client

WAIT_S = 30.0
MAX_TOKENS = 16
PROMPTS = ("go to the red chair | last none", "turn left 90 degrees | last vx 0.0 wz 0.8 | searching 45")
SAMPLINGS = (Sampling(), Sampling(0.8, 20, 0.95, seed=11))


def tiny_checkpoints() -> ModuleType:
    path = Path(__file__).parents[1] / "models" / "tiny_checkpoints.py"
    spec = importlib.util.spec_from_file_location("tiny_checkpoints", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoints().make_qwen2_vl_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    return [tiny_checkpoints().jpeg(seed) for seed in range(2)]


@pytest.fixture(scope="module")
def drafter(pair_file: Path) -> Drafter:
    return load_drafter(pair_file, threads=1)


@pytest.fixture(scope="module")
def verifier(pair_file: Path) -> Verifier:
    return load_verifier(pair_file, threads=1)


@contextlib.contextmanager
def connected(verifier: Verifier, drafter: Drafter, rtt_ms: float) -> Iterator[Client]:
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(VerifierServer(verifier, "random")).endpoint
        if rtt_ms:
            endpoint = stack.enter_context(EmulatedLink(endpoint, LinkProfile(rtt_ms))).endpoint
        client = stack.enter_context(Client(endpoint, "random", drafter.vocabulary))
        client.wait_ready(WAIT_S)
        yield client


def alone(
    verifier: Verifier, prompt: str, frames: list[bytes], sampling: Sampling, longest: int = MAX_TOKENS
) -> tuple[int, ...]:
    """The target's answer, one token a pass, nothing in between."""
    session = verifier.prepare(prompt, frames)
    tokens: list[int] = []
    while len(tokens) < longest and not (tokens and tokens[-1] in verifier.eos_ids):
        tokens += session.verify(tokens, (), sampling)
    session.close()
    return tuple(tokens)


@pytest.mark.parametrize("rtt_ms", [0.0, 20.0])
def test_every_method_says_what_the_target_says_by_itself(
    verifier: Verifier, drafter: Drafter, frames: list[bytes], rtt_ms: float
) -> None:
    cases = [(prompt, [frame], s) for prompt in PROMPTS for frame in frames for s in SAMPLINGS]
    expected = [alone(verifier, *case) for case in cases]
    assert len(set(expected)) > 4  # the checkpoint does listen
    accepted = 0
    for method in ("cloud", "sync", "auto"):
        with (
            connected(verifier, drafter, rtt_ms) as client,
            EdgeRuntime(drafter, client, method, max_tokens=MAX_TOKENS, deadline_s=WAIT_S) as runtime,
        ):
            last: tuple[int, ...] = ()
            for (prompt, seen, sampling), tokens in zip(cases, expected, strict=True):
                result = runtime.act(prompt, seen, last, sampling=sampling)
                assert result.verified
                assert result.tokens == tokens, (method, prompt, sampling)
                accepted += result.outcomes.count("accepted")
                last = result.tokens
    assert accepted > 0


def test_an_image_that_is_none_is_explained_and_the_server_lives_on(
    verifier: Verifier, drafter: Drafter, frames: list[bytes]
) -> None:
    with (
        connected(verifier, drafter, 0.0) as client,
        EdgeRuntime(drafter, client, "cloud", max_tokens=4, fallback=False, deadline_s=WAIT_S) as runtime,
    ):
        with pytest.raises(ValueError, match="Image 1 of 1"):
            runtime.act(PROMPTS[0], [b"this is no picture"])
        assert runtime.act(PROMPTS[0], [frames[0]]).verified


def test_two_robots_on_one_target_do_not_mix(
    verifier: Verifier, drafter: Drafter, frames: list[bytes]
) -> None:
    import threading

    expected = [alone(verifier, PROMPTS[0], [frame], Sampling()) for frame in frames]
    heard: list[set[tuple[int, ...]]] = [set(), set()]
    with VerifierServer(verifier, "random") as server:

        def robot(index: int) -> None:
            with (
                Client(server.endpoint, "random", drafter.vocabulary) as client,
                EdgeRuntime(drafter, client, "cloud", max_tokens=MAX_TOKENS, deadline_s=WAIT_S) as runtime,
            ):
                client.wait_ready(WAIT_S)
                for _ in range(5):
                    heard[index].add(runtime.act(PROMPTS[0], [frames[index]]).tokens)

        threads = [threading.Thread(target=robot, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60.0)
    assert heard == [{expected[0]}, {expected[1]}]


def test_warming_up_leaves_no_trace(verifier: Verifier, drafter: Drafter, frames: list[bytes]) -> None:
    before = alone(verifier, PROMPTS[0], frames[:1], Sampling())
    warm_up(verifier)
    warm_up(drafter)
    assert alone(verifier, PROMPTS[0], frames[:1], Sampling()) == before


def test_the_pair_file_names_what_the_handshake_compares(
    pair_file: Path, drafter: Drafter, verifier: Verifier
) -> None:
    assert load_pair_config(pair_file).name == "random"
    assert drafter.vocabulary == verifier.vocabulary
