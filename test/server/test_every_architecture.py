"""Random checkpoints of every supported architecture over real sockets: every method says what the target says alone.

Draft and target differ by a little noise; the target has an early exit, drafts for itself, and takes trees.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.edge.runtime import EdgeRuntime
from spec_decode_ros.lab.network.link import EmulatedLink, LinkProfile
from spec_decode_ros.models.exits import ExitAdapter, save_exits
from spec_decode_ros.models.interfaces import Drafter, ExitFigures, Verifier
from spec_decode_ros.models.pair import load_drafter, load_verifier
from spec_decode_ros.models.pair_config import EXITS_FILE
from spec_decode_ros.server.server_drafts import ServerDrafter
from spec_decode_ros.server.verifier_server import VerifierServer
from spec_decode_ros.transport.client import Client

from .test_real_models import alone, tiny_checkpoints

WAIT_S = 30.0
MAX_TOKENS = 12
FAMILIES = ("qwen2_vl", "smolvlm", "idefics3", "llava", "llama")
PROMPTS = ("go to the red chair | last none", "turn left 90 degrees | last vx 0.0 wz 0.8 | searching 45")
SAMPLINGS = (Sampling(), Sampling(0.8, 20, 0.95, seed=11))
VERIFIED = [name for name, method in METHODS.items() if method.uses_cloud]


def pair_in(folder: Path, family: str, **settings: object) -> Path:
    """A target, a draft that is the same with noise, and an early exit with no training."""
    tiny = tiny_checkpoints()
    make = getattr(tiny, f"make_{family}")
    for side in ("target", "draft"):
        make(folder / side)
    weights = folder / "draft" / "model.safetensors"
    noisy = load_file(weights)
    generator = tiny.torch.Generator().manual_seed(3)
    for name, weight in noisy.items():
        if weight.dim() >= 2:
            noise = tiny.torch.randn(weight.shape, generator=generator)
            noisy[name] = weight + 0.05 * weight.std() * noise
    save_file(noisy, weights, metadata={"format": "pt"})
    pair = tiny.write_pair(folder, **settings)
    figures = ExitFigures(0, 0.0, agreement=0.5, sure_agreement=0.5, sure_share=1.0)
    save_exits(folder / "target" / EXITS_FILE, load_verifier(pair).model, [ExitAdapter(64, 16)], [figures])
    return pair


@contextlib.contextmanager
def connected(verifier: Verifier, drafter: Drafter) -> Iterator[Client]:
    with contextlib.ExitStack() as stack:
        server = VerifierServer(verifier, "random", drafter=ServerDrafter(lambda _: 2))
        link = EmulatedLink(stack.enter_context(server).endpoint, LinkProfile(4.0))
        endpoint = stack.enter_context(link).endpoint
        client = Client(endpoint, "random", drafter.vocabulary, grammar=drafter.grammar)
        stack.enter_context(client).wait_ready(WAIT_S)
        yield client


@pytest.mark.parametrize("family", FAMILIES)
def test_every_method_says_what_the_target_says_alone(family: str, tmp_path: Path) -> None:
    pair = pair_in(tmp_path, family)
    drafter, verifier = load_drafter(pair, threads=1), load_verifier(pair, threads=1)
    assert verifier.self_drafting and verifier.can_verify_trees
    frames = [] if family == "llama" else [tiny_checkpoints().jpeg(1)]
    cases = [(prompt, sampling) for prompt in PROMPTS for sampling in SAMPLINGS]
    expected = [tuple(alone(verifier, prompt, frames, s, MAX_TOKENS)) for prompt, s in cases]
    assert len(set(expected)) == len(cases)  # the checkpoint does listen
    foreseen = accepted = 0
    with connected(verifier, drafter) as client:
        for method in VERIFIED:
            with EdgeRuntime(drafter, client, method, max_tokens=MAX_TOKENS, deadline_s=WAIT_S) as runtime:
                last: tuple[int, ...] = ()
                for _ in range(2):
                    for (prompt, sampling), tokens in zip(cases, expected, strict=True):
                        result = runtime.act(prompt, frames, last, sampling=sampling)
                        assert result.verified
                        assert result.tokens == tokens, (method, prompt, sampling)
                        accepted += result.outcomes.count("accepted")
                        foreseen += int(result.stats["predictions"] or 0)
                        last = result.tokens
    assert accepted and foreseen
