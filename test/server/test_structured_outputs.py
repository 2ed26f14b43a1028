"""Random checkpoints with the action grammar over real sockets: by every method the constrained target's own action."""

from __future__ import annotations

from pathlib import Path

import pytest

from spec_decode_ros.actions.action import parse_action
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.edge.runtime import EdgeRuntime
from spec_decode_ros.models.pair import load_drafter, load_verifier
from spec_decode_ros.models.verifier import HfVerifier

from .test_every_architecture import VERIFIED, WAIT_S, connected, pair_in
from .test_real_models import PROMPTS, alone, tiny_checkpoints

pytest.importorskip("xgrammar", reason="xgrammar is not installed: constrained answers need it")

LONGEST = 72
SAMPLINGS = (Sampling(), Sampling(1.5, seed=11), Sampling(1.2, 20, 0.95, seed=12))


@pytest.mark.parametrize("family", ["qwen2_vl", "llama"])
def test_every_method_gives_the_constrained_targets_own_action(family: str, tmp_path: Path) -> None:
    pair = pair_in(tmp_path, family, grammar="action", max_tokens=LONGEST)
    drafter, verifier = load_drafter(pair, threads=1), load_verifier(pair, threads=1)
    assert isinstance(verifier, HfVerifier) and verifier.self_drafting and verifier.grammar
    frames = [] if family == "llama" else [tiny_checkpoints().jpeg(1)]
    cases = [(prompt, sampling) for prompt in PROMPTS for sampling in SAMPLINGS]
    expected = [alone(verifier, prompt, frames, sampling, LONGEST) for prompt, sampling in cases]
    assert len(set(expected)) > 3
    foreseen = accepted = 0
    session = verifier.prepare(PROMPTS[0], frames)
    with connected(verifier, drafter) as client:
        for method in VERIFIED:
            with EdgeRuntime(drafter, client, method, max_tokens=LONGEST, deadline_s=WAIT_S) as runtime:
                last: tuple[int, ...] = ()
                for (prompt, sampling), tokens in zip(cases, expected, strict=True):
                    result = runtime.act(prompt, frames, last, sampling=sampling)
                    assert result.verified
                    assert result.tokens == tokens, (method, prompt, sampling)
                    parse_action(result.text)
                    if method == "cloud":
                        forced = sum(
                            bool(session.jump_forward(tokens[:place])) for place in range(1, len(tokens))
                        )
                        assert forced and result.stats["cloud_passes"] == len(tokens) - forced
                    accepted += result.outcomes.count("accepted")
                    foreseen += int(result.stats["predictions"] or 0)
                    last = result.tokens
    assert accepted and foreseen


def test_every_answer_of_rejection_sampling_and_of_the_draft_alone_is_an_action(tmp_path: Path) -> None:
    pair = pair_in(tmp_path, "qwen2_vl", grammar="action", max_tokens=LONGEST)
    drafter, verifier = load_drafter(pair, threads=1), load_verifier(pair, threads=1)
    frames = [tiny_checkpoints().jpeg(1)]
    outcomes: set[str] = set()
    with connected(verifier, drafter) as client:
        for method in ("cloud", "sync", "auto", "edge"):
            with EdgeRuntime(drafter, client, method, max_tokens=LONGEST, deadline_s=WAIT_S) as runtime:
                for seed in range(12):
                    sampling = Sampling(1.5, seed=seed, sampler="rejection")
                    result = runtime.act(PROMPTS[0], frames, sampling=sampling)
                    assert not parse_action(result.text).contradiction, (method, seed, result.text)
                    outcomes.update(result.outcomes)
    assert {"accepted", "recovered"} <= outcomes
