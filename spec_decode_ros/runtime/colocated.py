"""What a server drafts with when no robot's draft is there: a draft model beside the target, or the target itself."""

from __future__ import annotations

from spec_decode_ros.decoding.controller import Conditions, own_length
from spec_decode_ros.models.interfaces import Verifier
from spec_decode_ros.models.pair import PairConfig, load_drafter
from spec_decode_ros.runtime.cloud import OwnDrafter
from spec_decode_ros.runtime.warmup import warm_up

_ACCEPTANCE = 0.8
"""What is assumed of a pair before anything was verified; the length hardly depends on it."""


def own_drafter(
    config: PairConfig,
    verifier: Verifier,
    step_ms: float,
    device: str | None = None,
    threads: int | None = None,
) -> OwnDrafter | None:
    """How the server of a pair drafts by itself; None where that does not pay.

    With the draft side of the pair, where its file says ``colocated: true``; else with the target's own layers up to an
    early exit, where it has one.

    Args:
        config: the pair.
        verifier: its target.
        step_ms: what a target pass takes here.
        device: where the target runs; by default what the pair says.
        threads: CPU threads; by default what the pair says.
    """
    if config.colocated:
        drafter = load_drafter(config, device or config.target.device, threads)
        own_ms, acceptance = warm_up(drafter), _ACCEPTANCE
    elif verifier.self_drafting:
        drafter = None
        own_ms, acceptance = verifier.self_drafting.share * step_ms, verifier.self_drafting.agreement
    else:
        return None
    length = own_length(Conditions(0.0, own_ms, step_ms, acceptance, own_ms=own_ms))
    return OwnDrafter(length, own_ms, drafter) if length else None
