"""What a server drafts with when no robot's draft is there: a draft model beside the target, or the target itself."""

from __future__ import annotations

from dataclasses import replace

from spec_decode_ros.decoding.controller import Measurements, alternative_places, server_draft_length
from spec_decode_ros.models.interfaces import Verifier
from spec_decode_ros.models.pair import PairConfig, load_drafter
from spec_decode_ros.models.warmup import PassTiming, warm_up
from spec_decode_ros.server.server_drafts import ServerDrafter

_ACCEPTANCE = 0.8
"""What is assumed of a pair before anything was verified."""


def server_drafter(
    config: PairConfig,
    verifier: Verifier,
    pace: PassTiming,
    device: str | None = None,
    threads: int | None = None,
) -> ServerDrafter | None:
    """How the server of a pair drafts by itself; None where that does not pay.

    With the draft side of the pair, where its file says ``colocated: true``; else with the target's own layers up to an
    early exit, where it has one.

    Args:
        config: the pair.
        verifier: its target.
        pace: what passes of the target take here.
        device: where the target runs; by default what the pair says.
        threads: CPU threads; by default what the pair says.
    """
    if config.colocated:
        drafter = load_drafter(config, device or config.target.device, threads)
        warm = warm_up(drafter)
        server_draft_ms, prefill_ms = warm.token_ms, warm.prefill_ms
        acceptance = _ACCEPTANCE
    elif verifier.self_drafting:
        drafter, prefill_ms = None, 0.0
        server_draft_ms, acceptance = (
            verifier.self_drafting.share * pace.token_ms,
            verifier.self_drafting.agreement,
        )
    else:
        return None
    here = Measurements(
        0.0,
        server_draft_ms,
        pace.token_ms,
        acceptance,
        pace.per_token_ms,
        server_draft_ms,
        few_ms=pace.few_ms,
    )
    if not server_draft_length(here):
        return None
    return ServerDrafter(
        lambda now: server_draft_length(replace(here, acceptance=now)),
        acceptance,
        server_draft_ms,
        prefill_ms,
        drafter,
        lambda now, count: (
            alternative_places(replace(here, acceptance=now), count) if verifier.can_verify_trees else 0
        ),
    )
