"""The draft model beside the target: what a server drafts with when no robot's draft is there."""

from __future__ import annotations

from spec_decode_ros.decoding.controller import Conditions, own_length
from spec_decode_ros.models.pair import PairConfig, load_drafter
from spec_decode_ros.runtime.cloud import OwnDrafter
from spec_decode_ros.runtime.warmup import warm_up

_ACCEPTANCE = 0.8
"""What is assumed of a pair before anything was verified; the length hardly depends on it."""


def own_drafter(
    config: PairConfig, step_ms: float, device: str | None = None, threads: int | None = None
) -> OwnDrafter | None:
    """Load the draft side of a pair whose file says ``colocated: true``; None for others, or where it does not pay.

    Args:
        config: the pair.
        step_ms: what a target pass takes here.
        device: where the target runs; by default what the pair says.
        threads: CPU threads; by default what the pair says.
    """
    if not config.colocated:
        return None
    drafter = load_drafter(config, device or config.target.device, threads)
    own_ms = warm_up(drafter)
    length = own_length(Conditions(0.0, own_ms, step_ms, _ACCEPTANCE, own_ms=own_ms))
    return OwnDrafter(drafter, length, own_ms) if length else None
