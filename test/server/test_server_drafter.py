"""What a server of the shipped pair drafts with."""

from __future__ import annotations

from dataclasses import replace

from spec_decode_ros.decoding.controller import CONSTANTS
from spec_decode_ros.models.pair import load_verifier
from spec_decode_ros.models.pair_config import load_pair_config
from spec_decode_ros.models.verifier import HfVerifier
from spec_decode_ros.models.warmup import PassTiming
from spec_decode_ros.server.server_drafts import server_drafter

STEP_MS = 4_000.0
"""Of a target so slow that drafting beside it pays however busy the machine is."""
TIMING = PassTiming(STEP_MS, 100.0)


def test_a_draft_model_beside_the_target_where_the_pair_says_so_else_the_targets_own_exit() -> None:
    pair = load_pair_config("tiny")
    verifier = load_verifier(pair, threads=1)
    assert pair.colocated and verifier.self_drafting
    beside = server_drafter(pair, verifier, TIMING, threads=1)
    assert beside is not None and beside.drafter is not None
    assert beside.drafter.vocabulary == verifier.vocabulary
    alone = server_drafter(replace(pair, colocated=False), verifier, TIMING)
    assert alone is not None and alone.drafter is None
    assert alone.token_ms == verifier.self_drafting.share * STEP_MS < STEP_MS
    assert 1 <= alone.length(0.5) < alone.length(0.95) <= CONSTANTS.max_server_draft
    without_exits = HfVerifier(verifier.model)
    assert server_drafter(replace(pair, colocated=False), without_exits, TIMING) is None
    assert (
        server_drafter(pair, verifier, PassTiming(0.01), threads=1) is None
    )  # drafting would take longer than a pass
